"""flatrank demo: the main job on real input, with a report to look at."""

import time
from pathlib import Path
from typing import Annotated

import typer

from .screen import console, progress, reports_bad_input, show_facts


@reports_bad_input
def demo(
    report: Annotated[Path, typer.Option(help="The .html file to write.")] = Path(
        "flatrank-demo.html"
    ),
    seed: Annotated[int, typer.Option(help="Decides the hidden entries and measurements.")] = 0,
) -> None:
    """Recover a hyperspectral image from a tenth of it, then a matrix from Gaussian measurements."""
    from ..reports import recover_image, sense, write_report

    start = time.perf_counter()
    with progress("hiding 90% of Indian Pines") as on_step:
        image = recover_image(seed=seed, on_step=on_step)
    show_facts(image.section.title, image.section.facts)
    with progress("sensing a 60 x 60 matrix of rank 3"):
        _, sensing = sense(seed=seed)
    show_facts(sensing.title, sensing.facts)
    write_report(report, "flatrank demo", [image.section, sensing])
    console.print(f"Report: {report.resolve()}  ({time.perf_counter() - start:.0f} s in all)")
