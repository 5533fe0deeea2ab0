"""Tables with holes from files and databases; wide, or long long_form."""

from functools import partial
from pathlib import Path

import numpy as np

from .._checks import as_path, require_memory
from ..entries import Entries, LongForm
from ._arrays import numpy_reads
from ._sources import (
    DATABASES,
    fetch,
    first_line,
    literal,
    quoted,
    selectable,
)

READABLE = (".npy", ".npz", ".csv", ".tsv", ".parquet", *DATABASES)


def read_table(
    path: str | Path, long_form: LongForm | None = None, sql: str | None = None
) -> Entries:
    """The observed entries of a table in a file, or of what a query selects from it.

    Wide tables have one line per row; an empty cell, NULL or NaN is missing; a .csv may have a line
    of names first. With `long_form` each line is one entry and its two ids; a line without a value
    is a missing entry. A .npz holds one array, or a scipy.sparse matrix whose stored entries are
    observed. A database (.sqlite, .db, .duckdb) has one table, or `sql` says what to read from it;
    `sql` may also select from `input`, which is a .csv, .tsv or .parquet file.

    Raises FileNotFoundError for no file, ValueError for one that cannot be understood or has a
    duplicate entry, MemoryError for one that would not fit.
    """
    path = existing(path, READABLE)
    kind = path.suffix.lower()
    require_memory(2 * path.stat().st_size, f"Reading {path}", "split the file")
    if long_form is not None:
        if sql is None and kind in (".npy", ".npz"):
            raise ValueError(
                f"{path} is an array, which has no columns named {long_form.row!r}, "
                f"{long_form.column!r}, {long_form.value!r}: leave out --row, --column and --value."
            )
        return _read_triplets(path, long_form, sql)
    if sql is not None or kind in (".parquet", *DATABASES):
        return _read_columns(path, sql)
    readers = {".npy": _read_npy, ".npz": _read_npz}
    return readers.get(kind, _read_csv)(path)


def existing(path: str | Path, suffixes: tuple[str, ...]) -> Path:
    """The path, or FileNotFoundError, or ValueError for another suffix."""
    path = as_path(path, "path")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: check the path of the input.")
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"{path} ends in {path.suffix or 'no suffix'!r}: flatrank reads {', '.join(suffixes)}."
        )
    return path


def _read_npy(path: Path) -> Entries:
    return _from_array(_load_array(path), path)


def _read_npz(path: Path) -> Entries:
    import scipy.sparse

    with numpy_reads(path), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        names = archive.files
        stored = array = None
        if {"format", "shape", "data"} <= set(names):
            stored = scipy.sparse.load_npz(path).tocoo()
        elif len(names) == 1:
            array = archive[names[0]]
    if stored is not None:
        known = ~np.isnan(stored.data.astype(float))
        data = stored.data[known].astype(float)
        _require_finite(stored.row[known], stored.col[known], data, path)
        return Entries(stored.row[known], stored.col[known], data, tuple(stored.shape))
    if array is None:
        raise ValueError(
            f"{path} holds {len(names)} arrays ({', '.join(names)}): store one table in it."
        )
    return _from_array(_checked_array(array, path), path)


def _load_array(path: Path) -> np.ndarray:
    with numpy_reads(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    require_memory(4 * array.size * 8, f"Reading {path}", "split the table")
    return _checked_array(array, path)


def _checked_array(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{path} has data type {array.dtype}; a table has real numbers: convert it to float."
        )
    if array.ndim != 2:
        raise ValueError(
            f"{path} has {array.ndim} axes (shape {array.shape}); a table has 2: reshape it."
        )
    return np.asarray(array, np.float64)


def _read_csv(path: Path) -> Entries:
    delimiter, first = first_line(path)
    header = not all(_is_cell(cell) for cell in first)
    if header and not all(name.strip() for name in first):
        raise ValueError(
            f"{path}: the header has no name for column {[n.strip() for n in first].index('') + 1}: "
            "name it if it holds values, drop it if it is an index (pandas: `to_csv(index=False)`)."
        )
    if header and len(set(first)) < len(first):
        twice = next(name for name in first if first.count(name) > 1)
        raise ValueError(f"{path}: the column name {twice!r} appears twice: rename one.")
    names = [f"c{i}" for i in range(len(first))]
    columns = ", ".join(f"'{name}': 'VARCHAR'" for name in names)
    source = (
        f"read_csv({literal(path)}, delim='{delimiter}', header={header}, auto_detect=false, "
        f"quote='\"', escape='\"', null_padding=false, strict_mode=true, columns={{{columns}}})"
    )
    casts = ", ".join(f"TRY_CAST({name} AS DOUBLE) AS {name}" for name in names)
    wrong = ", ".join(
        f"count_if(TRY_CAST({name} AS DOUBLE) IS NULL AND trim({name}) <> '')" for name in names
    )
    import duckdb

    with duckdb.connect() as connection:
        counts = fetch(connection, path, f"SELECT {wrong} FROM {source}").fetchone()
        for index, count in enumerate(counts or ()):
            if count:
                name = names[index]
                query = (
                    f"SELECT {name} FROM {source} "
                    f"WHERE TRY_CAST({name} AS DOUBLE) IS NULL AND trim({name}) <> '' LIMIT 1"
                )
                found = fetch(connection, path, query).fetchone()
                called = first[index] if header else f"number {index + 1}"
                raise ValueError(
                    f"{path}: column {called} has {count} value(s) that are not numbers, such as "
                    f"{found[0] if found else ''!r}: leave missing cells empty, or name the columns "
                    "of a table in long form with --row, --column and --value."
                )
        fetched = fetch(connection, path, f"SELECT {casts} FROM {source}").fetchnumpy()
    array = np.stack([_filled(fetched[name]) for name in names], axis=1)
    return _from_array(array, path, np.asarray(first) if header else None)


def _read_columns(path: Path, sql: str | None) -> Entries:
    with selectable(path, sql) as (connection, source):
        query = f"SELECT * FROM {source}"
        described = fetch(connection, path, f"DESCRIBE {query}").fetchall()
        for name, kind, *_ in described:
            if not _is_numeric(kind):
                raise ValueError(
                    f"{path}: column {name!r} has type {kind}, not a number: drop it, or name the "
                    "columns of a table in long form with --row, --column and --value."
                )
        fetched = fetch(connection, path, query).fetchnumpy()
    names = [name for name, *_ in described]
    array = np.stack([_filled(fetched[name]) for name in names], axis=1)
    return _from_array(array, path, np.asarray(names))


def _read_triplets(path: Path, long_form: LongForm, sql: str | None) -> Entries:
    with selectable(path, sql) as (connection, source):
        ask = partial(fetch, connection, path)
        found = [name for name, *_ in ask(f"DESCRIBE SELECT * FROM {source}").fetchall()]
        for name in (long_form.row, long_form.column, long_form.value):
            if name not in found:
                raise ValueError(
                    f"{path} has no column {name!r}; it has {', '.join(map(repr, found))}."
                )
        row, column, value = map(quoted, (long_form.row, long_form.column, long_form.value))
        ask(
            f"CREATE TEMP TABLE entries AS SELECT {row} AS r, {column} AS c, {value} AS raw, "
            f"TRY_CAST({value} AS DOUBLE) AS v FROM {source}",
        )
        bad = ask(
            "SELECT raw FROM entries WHERE v IS NULL AND raw IS NOT NULL "
            "AND trim(CAST(raw AS VARCHAR)) <> '' LIMIT 1",
        ).fetchone()
        if bad:
            raise ValueError(
                f"{path}: column {long_form.value!r} has a value that is not a number, {bad[0]!r}: "
                "leave missing values empty."
            )
        nameless = ask("SELECT count(*) FROM entries WHERE r IS NULL OR c IS NULL").fetchone()[0]
        if nameless:
            raise ValueError(
                f"{path}: {nameless} line(s) have no {long_form.row!r} or no {long_form.column!r}: "
                "remove them."
            )
        twice = ask(
            "SELECT r, c, count(*) FROM entries GROUP BY r, c HAVING count(*) > 1 ORDER BY r, c",
        ).fetchall()
        if twice:
            r, c, count = twice[0]
            raise ValueError(
                f"{path}: {long_form.row} {r!r} and {long_form.column} {c!r} appear together {count} "
                f"times ({len(twice)} such pair(s)): keep one of each, or average them."
            )
        ids = [
            ask(f"SELECT DISTINCT {side} FROM entries ORDER BY {side}").fetchnumpy()[side]
            for side in "rc"
        ]
        data = ask(
            "SELECT dense_rank() OVER (ORDER BY r) - 1 AS i, dense_rank() OVER (ORDER BY c) - 1 AS j, "
            "v FROM entries ORDER BY i, j",
        ).fetchnumpy()
    values = _filled(data["v"])
    known = ~np.isnan(values)
    rows, columns = (np.asarray(data[side])[known] for side in "ij")
    _require_finite(rows, columns, values[known], path)
    return Entries(
        rows,
        columns,
        values[known],
        (len(ids[0]), len(ids[1])),
        row_names=np.asarray(ids[0]),
        column_names=np.asarray(ids[1]),
        long_form=long_form,
    )


def _from_array(array: np.ndarray, path: Path, names: np.ndarray | None = None) -> Entries:
    """The entries of an array that are not NaN."""
    rows, columns = np.nonzero(~np.isnan(array))
    _require_finite(rows, columns, array[rows, columns], path)
    return Entries.from_array(array, names)


def _require_finite(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, path: Path) -> None:
    """ValueError if nothing is observed or a value is infinite."""
    if len(values) == 0:
        raise ValueError(f"{path} has no observed entry: there is nothing to complete it from.")
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        row, column = rows[infinite[0]], columns[infinite[0]]
        raise ValueError(
            f"{path} has {len(infinite)} infinite value(s), the first in row {row}, column "
            f"{column} (counted from 0): make them empty if they are missing."
        )


def _is_cell(cell: str) -> bool:
    if not cell.strip():
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_numeric(kind: str) -> bool:
    return kind.startswith(("DECIMAL",)) or kind in {
        "DOUBLE", "FLOAT", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT", "BOOLEAN",
        "NULL", '"NULL"', "UBIGINT", "UINTEGER", "USMALLINT", "UTINYINT", "UHUGEINT", "HALF_FLOAT",
    }  # fmt: skip


def _filled(column: np.ndarray) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
