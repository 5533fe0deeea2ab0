"""flatrank reproduce: a paper's figures computed anew, each beside the claims that it tests."""

import time
from pathlib import Path
from typing import Annotated

import typer

from .screen import console, progress, reports_bad_input, show_table

# Named here, so that --help need not import the papers; a test compares them with `papers.PAPERS`.
NAMES = ("gatmiry2023", "arora2019", "ding2022", "depth")


@reports_bad_input
def reproduce(
    paper: Annotated[str, typer.Argument(help=f"{', '.join(NAMES)}.", show_default=False)],
    figure: Annotated[
        int | None, typer.Option(help="Only this figure, from 1.", show_default="all")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="'quick' (under five minutes) or 'full' (hours).")
    ] = "quick",
    output: Annotated[
        Path | None,
        typer.Option(help="The folder to write to, made if need be.", show_default="./PAPER"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides all that is random.")] = 0,
) -> None:
    """Run a paper's experiments and test its claims.

    Pictures, numbers and report.html go to the folder. A claim that does not hold is a result, not an
    error: the table and the report say so, and the exit code is 0.
    """
    from ..papers import HEADINGS, chosen_paper
    from ..papers import reproduce as run

    known = chosen_paper(paper, figure, scale, seed)
    folder = Path(paper) if output is None else output
    start = time.perf_counter()
    with progress(f"{paper}, {scale} scale") as on_step:
        found = run(paper, folder, figure=figure, scale=scale, seed=seed, on_step=on_step)
    show_table(known.reference, HEADINGS, [row for one in found for row in one.rows()])
    console.print(f"Report: {folder / 'report.html'}  ({time.perf_counter() - start:.0f} s)")
