"""flatrank sweep: a grid of experiments in, a folder of results out."""

from pathlib import Path
from typing import Annotated

import typer

from .screen import console, long_progress, reports_bad_input


@reports_bad_input
def sweep(
    settings: Annotated[
        Path, typer.Argument(help="A .toml file with [fixed] and [grid].", show_default=False)
    ],
    output: Annotated[Path, typer.Option(help="The folder of the results, made if need be.")],
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler (tcp://host:port) whose workers compute."),
    ] = None,
) -> None:
    """Compute every cell of a grid and keep its results.

    Killed at any moment, the same command goes on and repeats nothing; with another file it adds the
    cells that are missing.
    """
    from ..sweeps import read_sweep, run_sweep

    asked = read_sweep(settings)
    # Batches take seconds to minutes each, compilation included: all of them tell the speed.
    with long_progress(speed_estimate_period=1e9) as bar:
        cells = len(asked.cells)

        def tell(what: str, fraction: float) -> None:
            if not bar.tasks:
                # What was there before says nothing about the speed.
                bar.add_task(what, total=cells, completed=round(fraction * cells))
            else:
                bar.update(bar.task_ids[0], description=what, completed=fraction * cells)

        run = run_sweep(asked, output, tell, scheduler=scheduler)
    computed = run.asked - run.there
    console.print(f"{run.asked} cells: {run.there} were there, {computed} computed -> {output}")
