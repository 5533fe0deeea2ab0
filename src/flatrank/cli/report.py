"""flatrank report: a sweep's folder in, one HTML file out."""

from pathlib import Path
from typing import Annotated

import typer

from .screen import console, progress, reports_bad_input


@reports_bad_input
def report(
    directory: Annotated[Path, typer.Argument(help="The folder of a sweep.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option(help="Where to write; report.html in the folder by default.")
    ] = None,
    accuracy: Annotated[
        float, typer.Option(help="The relative error up to which a matrix counts as recovered.")
    ] = 1e-6,
) -> None:
    """Draw what a sweep found: maps, curves with bands over seeds, a table, settings and versions."""
    from ..data import check_writable
    from ..reports import write_report
    from ..sweeps import read_results, read_texts, sweep_sections

    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is not a folder: name the folder of a sweep.")
    path = check_writable(directory / "report.html" if output is None else output, (".html",))
    if not accuracy > 0:
        raise ValueError(f"--accuracy must be positive, found {accuracy}.")
    with progress(f"reading {directory}") as on_step:
        rows = read_results(directory)
        if not rows:
            raise ValueError(f"{directory} holds no results: run `flatrank sweep` first.")
        on_step(f"drawing {len(rows):,} cells", 0.2)
        sections = sweep_sections(rows, read_texts(directory), accuracy)
        on_step(f"writing {path}", 0.6)
        write_report(path, f"Sweep {directory.resolve().name}", sections)
    console.print(f"Report: {path}")
