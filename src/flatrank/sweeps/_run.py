"""A sweep run: what is missing is computed batch by batch and kept, each batch whole or not at all."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._progress import OnStep, silent
from .._renamed import nothing_left, taken_over
from ..data import atomically
from ._cells import COLUMNS, batches, run_batch
from ._settings import Cell, Sweep, sweep_of

_Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class SweepRun:
    """How many cells were asked for, and how many of them had been computed before."""

    asked: int
    there: int


def run_sweep(
    sweep: Sweep | Iterable[Mapping[str, Any]],
    directory: str | Path,
    on_step: OnStep = silent,
    *,
    scheduler: str | None = None,
    **renamed: Any,
) -> SweepRun:
    """Compute the cells of a sweep that the directory does not hold yet.

    `sweep` comes from `read_sweep`, or is an iterable of settings, one mapping a cell (`sweep_of` tells
    the names). `on_step(what, fraction done)` is called after each batch, first with the cells that were
    there. Killed at any moment, the same call goes on; batches that were finished are kept.
    With `scheduler`, the address of a Dask scheduler, batches are computed by its workers; this process
    alone writes. One sweep at a time may write to a directory.

    Raises ValueError for settings that cannot be (before anything is written), MemoryError for a cell
    that does not fit, ImportError for a scheduler without `distributed`, OSError where there is none.
    """
    old = taken_over(renamed, "on_progress", "on_step", on_step, silent)
    nothing_left(renamed, "run_sweep")
    if not isinstance(sweep, Sweep):
        sweep = sweep_of(sweep)
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file: name a folder.")
    there = {row["key"] for row in read_results(directory, "key")}
    missing = [cell for cell in sweep.cells if cell.key not in there]
    todo = batches(missing)
    asked, done = len(sweep.cells), len(sweep.cells) - len(missing)
    found = _on_cluster(todo, scheduler) if scheduler is not None else _here(todo)
    run = SweepRun(asked, done)
    results = directory / "results"
    results.mkdir(parents=True, exist_ok=True)
    for partial in results.glob(".part-*"):
        partial.unlink()  # of a run that was killed while it wrote
    if sweep.text is not None:
        _keep_text(directory, sweep.text)

    def tell() -> None:
        if old is not on_step and old is not None:
            old(done, asked)
        on_step(f"{done:,} of {asked:,} cells", done / asked)

    tell()
    for rows in found:
        _write_part(results, rows)
        done += len(rows)
        tell()
    return run


def read_results(directory: str | Path, columns: str = "*") -> _Rows:
    """The rows of a sweep's directory, one a cell, in no particular order; none where there is none."""
    import duckdb

    # Not by a pattern of DuckDB's, which would find files that a killed run has left half-written.
    parts = [str(path) for path in sorted((Path(directory) / "results").glob("part-*.parquet"))]
    if not parts:
        return []
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT {columns} FROM read_parquet(?, union_by_name = true)", [parts]
        )
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, values, strict=True)) for values in found.fetchall()]
    return list({row["key"]: row for row in rows}.values())


def read_texts(directory: str | Path) -> dict[str, str]:
    """The sweep files that a directory was filled from, name -> text, in order."""
    numbered = {}
    for path in Path(directory).glob("sweep-*.toml"):
        if (number := path.stem.removeprefix("sweep-")).isdecimal():
            numbered[int(number)] = path
    return {numbered[k].name: numbered[k].read_text(encoding="utf-8") for k in sorted(numbered)}


def _here(todo: list[tuple[list[Cell], int]]) -> Iterator[_Rows]:
    for cells, size in todo:
        yield run_batch(cells, size)


def _on_cluster(todo: list[tuple[list[Cell], int]], scheduler: str) -> Iterator[_Rows]:
    """The rows of batches as workers finish them; a batch whose worker dies goes to another."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "`scheduler` needs the package distributed: pip install 'flatrank[cluster]'."
        ) from error
    try:
        client = Client(scheduler, timeout=5, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OSError(
            f"no Dask scheduler answers at {scheduler!r}: start one with `dask scheduler`, and pass the "
            "address that it prints."
        ) from error
    try:
        check_threads(client.scheduler_info(n_workers=-1)["workers"])
    except BaseException:
        client.close()
        raise
    return _computed(client, todo)


def check_threads(workers: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError for a worker with several threads: batches would run at once in one process."""
    for address, worker in workers.items():
        if worker["nthreads"] > 1:
            raise ValueError(
                f"the worker {address} has {worker['nthreads']} threads, and two batches at once in one "
                "process can wait for each other for ever: start workers with --nthreads 1."
            )


def _computed(client: Any, todo: list[tuple[list[Cell], int]]) -> Iterator[_Rows]:
    from distributed import as_completed

    with client:
        futures = [
            client.submit(run_batch, cells, size, key=_part_name(cell.key for cell in cells))
            for cells, size in todo
        ]
        for future in as_completed(futures, loop=client.loop):
            yield future.result()
            future.release()


def _part_name(keys: Iterable[str]) -> str:
    return f"part-{hashlib.sha256(' '.join(sorted(keys)).encode()).hexdigest()[:32]}"


def _write_part(results: Path, rows: _Rows) -> None:
    """One file a batch, named by its cells: written again it is the same file."""
    import duckdb

    path = results / f"{_part_name(row['key'] for row in rows)}.parquet"
    with atomically(path) as temporary, duckdb.connect() as connection:
        names = ", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items())
        connection.execute(f"CREATE TABLE rows ({names})")
        marks = ", ".join("?" * len(COLUMNS))
        values = [[row[name] for name in COLUMNS] for row in rows]
        connection.executemany(f"INSERT INTO rows VALUES ({marks})", values)
        target = str(temporary).replace("'", "''")
        connection.execute(f"COPY rows TO '{target}' (FORMAT parquet)")


def _keep_text(directory: Path, text: str) -> None:
    texts = read_texts(directory)
    if text not in texts.values():
        numbers = [re.fullmatch(r"sweep-(\d+)\.toml", name) for name in texts]
        number = 1 + max((int(found[1]) for found in numbers if found), default=0)
        with atomically(directory / f"sweep-{number}.toml") as temporary:
            temporary.write_text(text, encoding="utf-8")
