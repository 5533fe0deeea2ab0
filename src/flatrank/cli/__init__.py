"""The command line: thin, it only reads arguments, shows progress and writes files.

A new command is one file here, with its line in `app`. A command imports the library in its body, so
that `--help` costs nothing.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from . import complete, demo, predict, report, reproduce, sense, sweep, train, verify

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(complete.complete)
app.command()(predict.predict)
app.command()(sense.sense)
app.command()(train.train)
app.command()(verify.verify)
app.command()(sweep.sweep)
app.command()(report.report)
app.command()(reproduce.reproduce)
app.command()(demo.demo)


def _show_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"flatrank {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _flatrank(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Recover matrices from few measurements by deep matrix factorisation."""
    del version


def main() -> None:
    """Run the command line in float64, which exact recovery needs; compiled programs are kept."""
    settings: dict[str, bool | str | float] = {"jax_enable_x64": True}
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        settings["jax_compilation_cache_dir"] = str(cache / "flatrank" / "compiled")
        settings["jax_persistent_cache_min_compile_time_secs"] = 0.0
    if "jax" in sys.modules:
        for name, value in settings.items():
            sys.modules["jax"].config.update(name, value)
    else:
        # JAX reads its environment when a command first imports it, which --help never does.
        os.environ |= {name.upper(): str(value) for name, value in settings.items()}
    app()
