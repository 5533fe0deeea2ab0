"""The command line: thin, it only reads arguments, shows progress and writes files."""

import os
from pathlib import Path

import jax
import typer

from .complete import complete
from .demo import demo
from .predict import predict
from .report import report
from .reproduce import reproduce
from .sense import sense
from .sweep import sweep
from .train import train
from .verify import verify

app = typer.Typer(
    help="Recover matrices from few measurements by deep matrix factorisation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(complete)
app.command()(predict)
app.command()(sense)
app.command()(train)
app.command()(verify)
app.command()(sweep)
app.command()(report)
app.command()(reproduce)
app.command()(demo)


def main() -> None:
    """Run the command line in float64, which exact recovery needs; compiled programs are kept."""
    jax.config.update("jax_enable_x64", True)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "flatrank" / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    app()
