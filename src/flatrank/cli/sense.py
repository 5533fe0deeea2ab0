"""flatrank sense: measurements and their values in, the matrix out."""

import time
from pathlib import Path
from typing import Annotated

import typer

from .._words import DEPTH, PENALTY, PenaltyWord
from .screen import console, progress, reports_bad_input, show_facts


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
    report: Annotated[
        Path | None, typer.Option(help="Also write a report with pictures to this .html file.")
    ] = None,
) -> None:
    """Recover a matrix from linear measurements y_i = <A_i, M>. No rank is asked for.

    Nothing is written when it is not recovered: the reason is printed and the exit code is 1.
    """
    import numpy as np

    from ..data import check_writable, read_measurements, read_values, write_matrix
    from ..recovery import recover
    from ..reports import RecoveredMatrix, write_report

    check_writable(output, (".npy", ".csv"))
    if report is not None:
        check_writable(report, (".html",))
    level = _noise(noise)
    start = time.perf_counter()
    with progress(f"reading {measurements}") as on_step:
        A, y = read_measurements(measurements), read_values(values)
        solution = recover(A, y, depth, penalty.value, noise=level, on_step=on_step)
        matrix = np.asarray(solution.matrix)
        found = RecoveredMatrix(A, solution, matrix, time.perf_counter() - start)
        if solution.successful:
            on_step(f"writing {output}", 1.0)
            write_matrix(output, matrix)
            if report is not None:
                write_report(report, f"{measurements.name}, recovered", [found.section()])
    if not solution.successful:
        typer.echo(f"Error: not recovered. {solution.message}", err=True)
        raise typer.Exit(1)
    show_facts(f"{measurements}, {values} -> {output}", found.facts())
    console.print(solution.message)
    if report is not None:
        console.print(f"Report: {report}")


def _noise(noise: str) -> float | str | None:
    if noise in ("none", "auto"):
        return None if noise == "none" else noise
    try:
        return float(noise)
    except ValueError:
        raise ValueError(
            f"--noise must be 'none', 'auto' or a positive number, found {noise!r}."
        ) from None
