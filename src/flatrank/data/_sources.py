"""Files, databases and queries as something that DuckDB can select from."""

import csv
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import require_memory

DATABASES = (".sqlite", ".db", ".duckdb")
_TABLES = (".csv", ".tsv", ".parquet")
_SQLITE = b"SQLite format 3\x00"


@contextmanager
def selectable(path: Path, sql: str | None = None, text: bool = False) -> Iterator[tuple[Any, str]]:
    """A connection, and the text that stands after FROM for a file, a database or a query of one.

    A query of a .csv, .tsv or .parquet file knows it as `input`. A database is opened read-only;
    without a query it must have one table, which is meant. SQLite is read by Python's own module: the
    extension of DuckDB would have to be downloaded. With `text` the cells of a .csv or .tsv file are
    left as strings.

    Raises ValueError for what cannot be read or a query that cannot be run.
    """
    import duckdb

    if path.suffix.lower() not in DATABASES:
        with closing(duckdb.connect()) as connection:
            source = _file(path, text)
            if sql is not None:
                fetch(connection, path, f"CREATE TEMP VIEW input AS SELECT * FROM {source}")
                source = _checked_query(connection, path, sql)
            yield connection, source
        return
    with path.open("rb") as file:
        lite = file.read(len(_SQLITE)) == _SQLITE
    if lite:
        columns = _from_sqlite(path, sql)
        with closing(duckdb.connect()) as connection:
            connection.register("selected", columns)
            yield connection, "selected"
        return
    try:
        opened = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise ValueError(
            f"{path} could not be opened ({_told(error)}): name a SQLite or DuckDB database."
        ) from error
    with closing(opened) as connection:
        if sql is None:
            found = fetch(connection, path, "SHOW TABLES").fetchall()
            yield connection, _only([name for name, *_ in found], path)
        else:
            yield connection, _checked_query(connection, path, sql)


def fetch(connection: Any, path: Path, query: str) -> Any:
    """Run a query on a file; ValueError in one sentence if it cannot be read."""
    import duckdb

    try:
        return connection.execute(query)
    except duckdb.Error as error:
        raise ValueError(
            f"{path} could not be read ({_told(error)}): mend or rewrite it."
        ) from error


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def first_line(path: Path) -> tuple[str, list[str]]:
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


def literal(path: Path) -> str:
    """A path as a string of SQL."""
    return "'" + str(path).replace("'", "''") + "'"


def _file(path: Path, text: bool) -> str:
    if path.suffix.lower() not in _TABLES:
        raise ValueError(
            f"{path} has no columns to select: SQL is for {', '.join(_TABLES + DATABASES)}."
        )
    if path.suffix.lower() == ".parquet":
        return f"read_parquet({literal(path)})"
    delimiter, _ = first_line(path)
    return (
        f"read_csv({literal(path)}, delim='{delimiter}', header=true, quote='\"', escape='\"', "
        f"null_padding=false, strict_mode=true, sample_size=-1, all_varchar={text})"
    )


def _checked_query(connection: Any, path: Path, sql: str) -> str:
    import duckdb

    # A line of its own for the bracket: the query may end in a comment.
    query = f"({sql.strip().rstrip(';')}\n)"
    try:
        connection.execute(f"DESCRIBE SELECT * FROM {query}")
    except duckdb.Error as error:
        raise ValueError(
            f"The query cannot be run on {path} ({_told(error)}): correct the SQL."
        ) from error
    return query


def _only(tables: list[str], path: Path) -> str:
    if len(tables) != 1:
        told = ", ".join(tables) or "none"
        raise ValueError(
            f"{path} has {len(tables)} tables ({told}): say what to read by SQL, as "
            "`SELECT * FROM name`."
        )
    return quoted(tables[0])


def _from_sqlite(path: Path, sql: str | None) -> dict[str, np.ndarray]:
    """The columns of a table or a query of a SQLite database, as Python objects."""
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as connection:
            if sql is None:
                found = connection.execute(
                    "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
                    "AND name NOT LIKE 'sqlite_%' ORDER BY name"
                )
                source = _only([name for (name,) in found], path)
            else:
                source = f"({sql.strip().rstrip(';')}\n)"
            (count,) = connection.execute(f"SELECT count(*) FROM {source}").fetchone()
            cursor = connection.execute(f"SELECT * FROM {source}")
            names = [name for name, *_ in cursor.description]
            require_memory(
                200 * count * len(names), f"Reading {count} lines of {path}", "select fewer"
            )
            lines = cursor.fetchall()
    except sqlite3.Error as error:
        what = f"{path} could not be read" if sql is None else f"The query cannot be run on {path}"
        remedy = "mend or rewrite it" if sql is None else "correct the SQL"
        raise ValueError(f"{what} ({error}): {remedy}.") from error
    return {
        name: np.fromiter((line[k] for line in lines), object, len(lines))
        for k, name in enumerate(names)
    }


def _told(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:3] if "CSV Error" in lines[0] else lines[:1])
