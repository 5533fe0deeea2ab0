"""flatrank verify: every theorem of the library, checked on fresh random instances."""

import time
from pathlib import Path
from typing import Annotated

import typer

from .screen import console, progress, reports_bad_input, show_table


@reports_bad_input
def verify(
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer shapes, depths and repetitions.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Also write a report with pictures to this .html file.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides the random instances.")] = 0,
) -> None:
    """Check every theorem on random instances; the exit code is 1 if one fails.

    Slack is (right - left) / scale for inequalities and -|right - left| / scale for equalities.
    """
    import jax

    from ..data import check_writable
    from ..reports import HEADINGS, failures, row, sections, write_report
    from ..theory import verify as verify_all

    if report is not None:
        check_writable(report, (".html",))
    start = time.perf_counter()
    with progress("drawing instances") as on_step:
        checks = verify_all(jax.random.key(seed), quick=quick, on_step=on_step)
        if report is not None:
            on_step(f"writing {report}", 1.0)
            write_report(report, "flatrank verify", sections(checks))
    show_table(f"Seed {seed}", HEADINGS, [row(check) for check in checks])
    console.print(f"{time.perf_counter() - start:.0f} s")
    if report is not None:
        console.print(f"Report: {report}")
    failed = failures(checks)
    if failed:
        typer.echo(f"Error: not verified: {', '.join(failed)}.", err=True)
        raise typer.Exit(1)
