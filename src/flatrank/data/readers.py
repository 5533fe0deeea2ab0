"""Tables with holes from files: .npy, .npz, .csv, .tsv, .parquet; wide, or long triplets."""

import csv
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import scipy.sparse

from .._checks import require_memory
from .table import EntryTable, Triplets

READABLE = (".npy", ".npz", ".csv", ".tsv", ".parquet")


def read_table(path: str | Path, triplets: Triplets | None = None) -> EntryTable:
    """The observed entries of a table in a file.

    Wide tables have one line per row; an empty cell, NULL or NaN is missing; a .csv may have a line
    of names first. With `triplets` each line is one entry and its two ids; a line without a value
    is a missing entry. A .npz holds one array, or a scipy.sparse matrix whose stored entries are
    observed.

    Raises FileNotFoundError for no file, ValueError for one that cannot be understood or has a
    duplicate entry, MemoryError for one that would not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: check the path of the input.")
    kind = path.suffix.lower()
    if kind not in READABLE:
        raise ValueError(
            f"{path} ends in {kind or 'no suffix'!r}: flatrank reads {', '.join(READABLE)}."
        )
    require_memory(2 * path.stat().st_size, f"Reading {path}", "split the file")
    if triplets is not None:
        if kind in (".npy", ".npz"):
            raise ValueError(
                f"{path} is an array, which has no columns named {triplets.row!r}, "
                f"{triplets.column!r}, {triplets.value!r}: leave out --row, --column and --value."
            )
        return _read_triplets(path, kind, triplets).checked(str(path))
    readers = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}
    return readers.get(kind, _read_csv)(path).checked(str(path))


def _read_npy(path: Path) -> EntryTable:
    return EntryTable.from_array(_load_array(path, path))


def _read_npz(path: Path) -> EntryTable:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = archive.files
            if {"format", "shape", "data"} <= set(names):
                stored = scipy.sparse.load_npz(path).tocoo()
                known = ~np.isnan(stored.data.astype(float))
                data = stored.data[known].astype(float)
                return EntryTable(stored.row[known], stored.col[known], data, tuple(stored.shape))
            if len(names) != 1:
                raise ValueError(
                    f"{path} holds {len(names)} arrays ({', '.join(names)}): store one table in it."
                )
            return EntryTable.from_array(_checked_array(archive[names[0]], path))
    except (OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ValueError(
            f"{path} is not a readable .npz file ({error}): write it again."
        ) from error


def _load_array(path: Path, source: Any) -> np.ndarray:
    try:
        array = np.load(source, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise ValueError(
                f"{path} holds Python objects, not numbers: save it with dtype float."
            ) from error
        raise ValueError(
            f"{path} is not a readable .npy file ({error}): write it again."
        ) from error
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


def _read_csv(path: Path) -> EntryTable:
    delimiter, first = _first_line(path)
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
        f"read_csv(?, delim='{delimiter}', header={header}, auto_detect=false, quote='\"', "
        f"escape='\"', null_padding=false, strict_mode=true, columns={{{columns}}})"
    )
    casts = ", ".join(f"TRY_CAST({name} AS DOUBLE) AS {name}" for name in names)
    wrong = ", ".join(
        f"count_if(TRY_CAST({name} AS DOUBLE) IS NULL AND trim({name}) <> '')" for name in names
    )
    with duckdb.connect() as connection:
        counts = _fetch(connection, path, f"SELECT {wrong} FROM {source}", [str(path)]).fetchone()
        for index, count in enumerate(counts or ()):
            if count:
                name = names[index]
                query = (
                    f"SELECT {name} FROM {source} "
                    f"WHERE TRY_CAST({name} AS DOUBLE) IS NULL AND trim({name}) <> '' LIMIT 1"
                )
                found = _fetch(connection, path, query, [str(path)]).fetchone()
                called = first[index] if header else f"number {index + 1}"
                raise ValueError(
                    f"{path}: column {called} has {count} value(s) that are not numbers, such as "
                    f"{found[0] if found else ''!r}: leave missing cells empty, or name the columns "
                    "of a table in long form with --row, --column and --value."
                )
        fetched = _fetch(
            connection, path, f"SELECT {casts} FROM {source}", [str(path)]
        ).fetchnumpy()
    array = np.stack([_filled(fetched[name]) for name in names], axis=1)
    return EntryTable.from_array(array, np.asarray(first) if header else None)


def _read_parquet(path: Path) -> EntryTable:
    with duckdb.connect() as connection:
        query = "SELECT * FROM read_parquet(?)"
        described = _fetch(connection, path, f"DESCRIBE {query}", [str(path)]).fetchall()
        for name, kind, *_ in described:
            if not _is_numeric(kind):
                raise ValueError(
                    f"{path}: column {name!r} has type {kind}, not a number: drop it, or name the "
                    "columns of a table in long form with --row, --column and --value."
                )
        fetched = _fetch(connection, path, query, [str(path)]).fetchnumpy()
    names = [name for name, *_ in described]
    array = np.stack([_filled(fetched[name]) for name in names], axis=1)
    return EntryTable.from_array(array, np.asarray(names))


def _read_triplets(path: Path, kind: str, triplets: Triplets) -> EntryTable:
    if kind == ".parquet":
        source = "read_parquet(?)"
    else:
        delimiter, _ = _first_line(path)
        source = (
            f"read_csv(?, delim='{delimiter}', header=true, quote='\"', escape='\"', "
            "null_padding=false, strict_mode=true, sample_size=-1)"
        )
    with duckdb.connect() as connection:

        def fetch(query: str, parameters: list | None = None) -> Any:
            return _fetch(connection, path, query, parameters)

        found = [
            name for name, *_ in fetch(f"DESCRIBE SELECT * FROM {source}", [str(path)]).fetchall()
        ]
        for name in (triplets.row, triplets.column, triplets.value):
            if name not in found:
                raise ValueError(
                    f"{path} has no column {name!r}; it has {', '.join(map(repr, found))}."
                )
        row, column, value = (
            '"' + name.replace('"', '""') + '"'
            for name in (triplets.row, triplets.column, triplets.value)
        )
        fetch(
            f"CREATE TEMP TABLE entries AS SELECT {row} AS r, {column} AS c, {value} AS raw, "
            f"TRY_CAST({value} AS DOUBLE) AS v FROM {source}",
            [str(path)],
        )
        bad = fetch(
            "SELECT raw FROM entries WHERE v IS NULL AND raw IS NOT NULL "
            "AND trim(CAST(raw AS VARCHAR)) <> '' LIMIT 1"
        ).fetchone()
        if bad:
            raise ValueError(
                f"{path}: column {triplets.value!r} has a value that is not a number, {bad[0]!r}: "
                "leave missing values empty."
            )
        nameless = fetch("SELECT count(*) FROM entries WHERE r IS NULL OR c IS NULL").fetchone()[0]
        if nameless:
            raise ValueError(
                f"{path}: {nameless} line(s) have no {triplets.row!r} or no {triplets.column!r}: "
                "remove them."
            )
        twice = fetch(
            "SELECT r, c, count(*) FROM entries GROUP BY r, c HAVING count(*) > 1 ORDER BY r, c"
        ).fetchall()
        if twice:
            r, c, count = twice[0]
            raise ValueError(
                f"{path}: {triplets.row} {r!r} and {triplets.column} {c!r} appear together {count} "
                f"times ({len(twice)} such pair(s)): keep one of each, or average them."
            )
        ids = [
            fetch(f"SELECT DISTINCT {side} FROM entries ORDER BY {side}").fetchnumpy()[side]
            for side in "rc"
        ]
        data = fetch(
            "SELECT dense_rank() OVER (ORDER BY r) - 1 AS i, dense_rank() OVER (ORDER BY c) - 1 AS j, "
            "v FROM entries ORDER BY i, j"
        ).fetchnumpy()
    values = _filled(data["v"])
    known = ~np.isnan(values)
    return EntryTable(
        np.asarray(data["i"])[known],
        np.asarray(data["j"])[known],
        values[known],
        (len(ids[0]), len(ids[1])),
        np.asarray(ids[0]),
        np.asarray(ids[1]),
        triplets,
    )


def _fetch(connection: Any, path: Path, query: str, parameters: list | None = None) -> Any:
    try:
        return connection.execute(query, parameters or [])
    except duckdb.Error as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        told = "; ".join(lines[:3] if "CSV Error" in lines[0] else lines[:1])
        raise ValueError(f"{path} could not be read ({told}): mend or rewrite it.") from error


def _first_line(path: Path) -> tuple[str, list[str]]:
    """The delimiter of a text table and the cells of its first line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            line = file.readline()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}): convert it.") from error
    if not line.strip():
        raise ValueError(f"{path} is empty or begins with an empty line: remove it.")
    counts = {delimiter: line.count(delimiter) for delimiter in (",", ";", "\t")}
    delimiter = max(counts, key=lambda d: counts[d]) if any(counts.values()) else ","
    return delimiter, next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter))


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
        "UBIGINT", "UINTEGER", "USMALLINT", "UTINYINT", "UHUGEINT", "HALF_FLOAT",
    }  # fmt: skip


def _filled(column: np.ndarray) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
