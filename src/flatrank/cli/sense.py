"""flatrank sense: measurements and their values in, the matrix out."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._words import DEPTH, PENALTY, PenaltyWord
from .screen import console, progress, reports_bad_input, show_facts

if TYPE_CHECKING:
    from ..recovery import Solution


@reports_bad_input
def sense(
    measurements: Annotated[
        Path,
        typer.Argument(
            help=".npy (N, m, n); or .npz with left and right, or with rows, columns and shape.",
            show_default=False,
        ),
    ],
    values: Annotated[
        Path, typer.Argument(help=".npy with the N measured values.", show_default=False)
    ],
    output: Annotated[Path, typer.Option(help="Where to write the matrix, .npy or .csv.")],
    depth: Annotated[int, typer.Option(help="Layers, at least 2.")] = DEPTH,
    penalty: Annotated[PenaltyWord, typer.Option(help="The inductive bias.")] = PENALTY,
    noise: Annotated[
        str, typer.Option(help="Standard deviation of the values' error, 'auto', or 'none'.")
    ] = "none",
    standard_errors: Annotated[
        Path | None,
        typer.Option(help="Also write each entry's standard error, .npy or .csv; needs --noise."),
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(help="Give up after so many seconds.", show_default=False)
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write a report with pictures to this .html file.")
    ] = None,
) -> None:
    """Recover a matrix from linear measurements y_i = <A_i, M>. No rank is asked for.

    Entries that the measurements do not determine are left empty, and it says how many they are. Nothing
    is written when it is not recovered: the reason is printed and the exit code is 1.
    """
    import numpy as np

    from ..data import check_writable, read_measurements, read_values, write_matrix
    from ..recovery import recover
    from ..reports import RecoveredMatrix, write_report

    check_writable(output, (".npy", ".csv"))
    if report is not None:
        check_writable(report, (".html",))
    level, too_many = _noise(noise), ""
    if standard_errors is not None:
        check_writable(standard_errors, (".npy", ".csv"))
        if level is None:
            raise ValueError("--standard-errors needs --noise: exact values have no error.")
    start = time.perf_counter()
    with progress(f"reading {measurements}") as on_step:
        A, y = read_measurements(measurements), read_values(values)
        solution = recover(
            A,
            y,
            depth,
            penalty.value,
            noise=level,
            max_seconds=max_seconds,
            on_step=on_step,
        )
        matrix = np.asarray(solution.matrix)
        found = RecoveredMatrix(A, solution, matrix, time.perf_counter() - start)
        if found.usable:
            on_step(f"writing {output}", 1.0)
            write_matrix(output, found.known)
            if report is not None:
                write_report(report, f"{measurements.name}, recovered", [found.section()])
            if standard_errors is not None:
                on_step(f"writing {standard_errors}", 1.0)
                too_many = _write_errors(standard_errors, solution)
    if not found.usable:
        typer.echo(f"Error: not recovered. {solution.message}", err=True)
        raise typer.Exit(1)
    show_facts(f"{measurements}, {values} -> {output}", found.facts())
    console.print(solution.message)
    if not solution.successful:
        empty = int(np.isnan(found.known).sum())
        console.print(f"{empty:,} of {matrix.size:,} entries of {output} are left empty.")
    if report is not None:
        console.print(f"Report: {report}")
    if too_many:
        typer.echo(f"Error: {standard_errors} was not written. {too_many}", err=True)
        raise typer.Exit(1)


def _write_errors(path: Path, solution: "Solution") -> str:
    """Write the standard errors, empty where there is none; or why there are too many of them."""
    import numpy as np

    from ..data import write_matrix

    try:
        errors = solution.standard_errors()
    except MemoryError as error:
        return str(error)
    write_matrix(path, np.where(np.isfinite(errors), errors, np.nan))
    return ""


def _noise(noise: str) -> float | str | None:
    if noise in ("none", "auto"):
        return None if noise == "none" else noise
    try:
        return float(noise)
    except ValueError:
        raise ValueError(
            f"--noise must be 'none', 'auto' or a positive number, found {noise!r}."
        ) from None
