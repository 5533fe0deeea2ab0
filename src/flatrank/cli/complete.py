"""flatrank complete: a table with holes in, the whole table out."""

from pathlib import Path
from typing import Annotated

import typer

from .._renamed import warn_renamed
from .._words import PenaltyWord
from .screen import console, progress, reports_bad_input, show_facts


@reports_bad_input
def complete(
    input: Annotated[
        Path,
        typer.Argument(
            help=".npy, .npz, .csv, .tsv, .parquet, or a SQLite or DuckDB database (.sqlite, .db, "
            ".duckdb, never written to); an empty cell, NULL or NaN is missing.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="Where to write the whole table, in any of the same formats.")
    ],
    depth: Annotated[int, typer.Option(help="Layers of the network, at least 2.")] = 2,
    penalty: Annotated[
        PenaltyWord | None,
        typer.Option(
            help="The inductive bias of one factorisation. Without it the table is the average over "
            "many of depth 2."
        ),
    ] = None,
    strength: Annotated[
        str, typer.Option(help="Penalty strength, or 'auto' to choose it on held-out entries.")
    ] = "auto",
    row: Annotated[
        str | None, typer.Option(help="Long form: the column that names the row, as user.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Long form: the column that names the column, as item.")
    ] = None,
    value: Annotated[
        str | None, typer.Option(help="Long form: the column that has the value, as rating.")
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option(
            help="Complete what this SELECT gives: of the tables of a database, or of `input`, which "
            "is INPUT when that is .csv, .tsv or .parquet."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write a report with pictures to this .html file.")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Also write the model to this .safetensors file, for flatrank predict."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides the held-out entries.")] = 0,
    alpha: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Fill the holes of a table: numbers in a file, missing where empty, NULL or NaN."""
    from ..completion import MatrixCompleter, save_model
    from ..data import check_writable, read_table, write_completed
    from ..entries import LongForm
    from ..reports import complete_entries, write_report

    named = {"--row": row, "--column": column, "--value": value}
    missing = [option for option, name in named.items() if name is None]
    if missing and len(missing) < 3:
        raise ValueError(
            f"A table in long form needs --row, --column and --value; {', '.join(missing)} missing."
        )
    if alpha is not None:
        warn_renamed("--alpha", "--strength")
        strength = alpha
    check_writable(output)
    if report is not None:
        check_writable(report, (".html",))
    if save is not None:
        check_writable(save, (".safetensors",))
    completer = MatrixCompleter(
        depth, penalty and penalty.value, _number(strength), random_state=seed
    )
    long_form = LongForm(row, column, value) if row and column and value else None
    with progress(f"reading {input}") as on_step:
        table = read_table(input, long_form, sql)
        completed = complete_entries(table, completer, on_step)
        on_step(f"writing {output}", 1.0)
        write_completed(output, table, completed.filled)
        if report is not None:
            on_step(f"writing {report}", 1.0)
            write_report(report, f"{input.name}, completed", [completed.section()])
        if save is not None:
            on_step(f"writing {save}", 1.0)
            save_model(save, completed.model())
    show_facts(f"{input} -> {output}", completed.facts())
    if report is not None:
        console.print(f"Report: {report}")
    if save is not None:
        console.print(f"Model: {save}")


def _number(strength: str) -> float | str:
    if strength == "auto":
        return strength
    try:
        return float(strength)
    except ValueError:
        raise ValueError(
            f"--strength must be 'auto' or a positive number, found {strength!r}."
        ) from None
