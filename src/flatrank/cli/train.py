"""flatrank train: a training run described by a file, in a folder that can be gone on with."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import TextColumn

from .screen import console, long_progress, reports_bad_input, show_facts


@reports_bad_input
def train(
    config: Annotated[
        Path,
        typer.Argument(
            help="A .toml file with [problem], [network], [optimizer] and [run].",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="The folder of the run, made if need be.")],
) -> None:
    """Train a deep linear network and record what is asked.

    Killed at any moment, the same command goes on from the last checkpoint, bit for bit. When the loss
    is no longer finite the history so far is written, the reason is printed, and the exit code is 1.
    """
    from ..data import atomically
    from ..dynamics import DivergenceError
    from ..sweeps import facts_of, read_training

    training = read_training(config)
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: name a folder.")
    output.mkdir(parents=True, exist_ok=True)
    kept, text = output / "config.toml", config.read_text(encoding="utf-8")
    new = not kept.exists()
    if not new and kept.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{output} holds a run with other settings ({kept}): name another folder, or remove it."
        )
    with atomically(kept) as temporary:
        temporary.write_text(text, encoding="utf-8")
    failed = None
    with long_progress(TextColumn("{task.fields[rate]}")) as bar:
        task = bar.add_task("step 0", total=training.steps, rate="compiling")

        def tell(what: str, fraction: float) -> None:
            bar.update(task, description=what, completed=fraction * training.steps)
            speed = bar.tasks[task].speed
            bar.update(task, rate=f"{speed:,.0f} steps/s" if speed else "")

        try:
            run = training.run(output, tell)
        except DivergenceError as error:
            failed, run = error, error.run
        except (TypeError, ValueError, MemoryError):
            # Settings that cannot be run do not claim the folder.
            if new:
                kept.unlink()
            raise
    if failed is not None and not len(run.history["step"]):
        typer.echo(f"Error: {failed}", err=True)
        raise typer.Exit(1)
    training.write(output, run)
    show_facts(f"{config} -> {output}", facts_of(run))
    console.print(run.message)
    console.print(f"Report: {output / 'report.html'}")
    if failed is not None:
        typer.echo(f"Error: {failed}", err=True)
        raise typer.Exit(1)
