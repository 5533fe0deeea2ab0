"""What the commands share: errors as one sentence, a progress bar, a table of facts."""

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from .._progress import OnStep

console = Console()


def reports_bad_input(command: Callable) -> Callable:
    """Turn the library's errors about input into one sentence on stderr and exit code 2.

    Set FLATRANK_DEBUG=1 to see where they came from.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
            print(f"Warning: {message}", file=sys.stderr)

        try:
            with warnings.catch_warnings():
                warnings.showwarning = show_warning
                command(*args, **kwargs)
        except (ValueError, TypeError, MemoryError, OSError, ImportError) as error:
            if os.environ.get("FLATRANK_DEBUG"):
                raise
            print(f"Error: {error}", file=sys.stderr)
            raise typer.Exit(2) from error

    return wrapped


@contextmanager
def progress(start: str) -> Iterator[OnStep]:
    """A progress bar; yields on_step(what, fraction done)."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(start, total=1.0)
        yield lambda what, fraction: bar.update(task, description=what, completed=fraction)


def long_progress(*columns: ProgressColumn, **settings: Any) -> Progress:
    """A progress bar that tells the time that is left, with columns of a command's own."""
    shared = SpinnerColumn(), TextColumn("{task.description}"), BarColumn()
    times = TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    return Progress(*shared, *columns, *times, console=console, transient=True, **settings)


def show_facts(title: str, facts: tuple[tuple[str, str], ...]) -> None:
    """A table of two columns."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for name, value in facts:
        table.add_row(name, value)
    console.print(table)


def show_table(title: str, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A table with headings; the first column is words, the others are set to the right."""
    table = Table(title=title, title_justify="left")
    for k, heading in enumerate(headings):
        table.add_column(heading, justify="right" if k else "left")
    for cells in rows:
        table.add_row(*cells)
    console.print(table)
