"""The command line: thin, it only reads arguments, shows progress and writes files."""

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
    """Run the command line in float64, which exact recovery needs."""
    jax.config.update("jax_enable_x64", True)
    app()
