"""Completed tables to files, atomically: a file is whole or not there."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import as_path, require_memory
from ..entries import Entries

WRITABLE = (".npy", ".npz", ".csv", ".tsv", ".parquet")


def check_writable(path: str | Path, suffixes: tuple[str, ...] = WRITABLE) -> Path:
    """The path, or ValueError / FileNotFoundError before any work is done for nothing."""
    path = as_path(path, "path")
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"{path} ends in {path.suffix or 'no suffix'!r}: flatrank writes {', '.join(suffixes)}."
        )
    if path.is_dir():
        raise ValueError(f"{path} is a directory: name a file in it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a directory: make it first.")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path.parent} cannot be written to: choose another place.")
    return path


@contextmanager
def atomically(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an error."""
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_completed(path: str | Path, table: Entries, filled: Callable[[], np.ndarray]) -> None:
    """Write a completed table in the form of the file it came from.

    `filled()` gives the (m, n) table. Arrays get the table alone (.npy) or with `row_names` and
    `column_names` (.npz); wide text and Parquet get one line per row; a table in long form gets one
    line for each of its m n pairs, with its own column names and `observed`, whether the value came
    from the input.

    Raises MemoryError before allocating what would not fit.
    """
    path = check_writable(path)
    kind = path.suffix.lower()
    m, n = table.shape
    long = table.long_form is not None and kind not in (".npy", ".npz")
    require_memory(
        (48 if long else 24) * m * n,
        f"Writing the completed {m} x {n} table",
        "use a smaller table",
    )
    array = filled()
    with atomically(path) as temporary:
        if kind == ".npy":
            with temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        elif kind == ".npz":
            names: dict[str, Any] = {
                name: np.asarray(values).astype(str if values.dtype.kind == "O" else values.dtype)
                for name, values in (
                    ("row_names", table.row_names),
                    ("column_names", table.column_names),
                )
                if values is not None
            }
            with temporary.open("wb") as file:
                np.savez_compressed(file, matrix=array, **names)
        else:
            header = long or table.column_names is not None
            _copy(_long(table, array) if long else _wide(table, array), temporary, kind, header)


def write_matrix(path: str | Path, matrix: np.ndarray) -> None:
    """Write a matrix to .npy or .csv (one line per row, round-trip precision), atomically.

    What is not known (NaN) is an empty field of the .csv.
    """
    path = check_writable(path, (".npy", ".csv"))
    with atomically(path) as temporary:
        if path.suffix.lower() == ".npy":
            with temporary.open("wb") as file:
                np.save(file, matrix)
        else:
            with temporary.open("w") as text:
                for row in matrix:
                    fields = ("" if np.isnan(value) else f"{value:.17g}" for value in row)
                    text.write(",".join(fields) + "\n")


def write_arrays(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays to .npz, atomically."""
    path = check_writable(path, (".npz",))
    with atomically(path) as temporary, temporary.open("wb") as file:
        named: dict[str, Any] = dict(arrays)
        np.savez_compressed(file, **named)


def write_columns(path: str | Path, columns: dict[str, np.ndarray]) -> None:
    """Write columns of equal length to .parquet, .csv or .tsv, atomically."""
    path = check_writable(path, (".parquet", ".csv", ".tsv"))
    with atomically(path) as temporary:
        _copy(columns, temporary, path.suffix.lower(), header=True)


def _long(table: Entries, array: np.ndarray) -> dict[str, np.ndarray]:
    assert table.long_form is not None
    assert table.row_names is not None
    assert table.column_names is not None
    m, n = table.shape
    observed = np.zeros((m, n), bool)
    observed[table.rows, table.columns] = True
    return {
        table.long_form.row: np.repeat(table.row_names, n),
        table.long_form.column: np.tile(table.column_names, m),
        table.long_form.value: array.reshape(-1),
        "observed": observed.reshape(-1),
    }


def _wide(table: Entries, array: np.ndarray) -> dict[str, np.ndarray]:
    names = table.column_names
    if names is None:
        return {f"c{j}": array[:, j] for j in range(table.shape[1])}
    return {str(name): array[:, j] for j, name in enumerate(names)}


def _copy(columns: dict[str, np.ndarray], path: Path, kind: str, header: bool) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.register("completed", columns)
        form = {
            ".parquet": "FORMAT parquet",
            ".csv": f"FORMAT csv, HEADER {header}",
            ".tsv": f"FORMAT csv, HEADER {header}, DELIMITER '\t'",
        }[kind]
        target = str(path).replace("'", "''")
        connection.execute(f"COPY (SELECT * FROM completed) TO '{target}' ({form})")
