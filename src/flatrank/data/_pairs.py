"""Pairs of ids from a file, as the data types of known ids."""

from functools import partial
from pathlib import Path

import numpy as np

from .._checks import require_memory
from ._readers import existing
from ._sources import fetch, quoted, selectable

PAIRS = (".csv", ".tsv", ".parquet")


def read_pairs(path: str | Path, known: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The named columns of a table in a file, in the order of its lines; other columns are left.

    `known` holds an array for each name, as whose kind of ids the column is read: "7" and "007" in a
    text file are two strings or the same number.

    Raises FileNotFoundError for no file, ValueError for a missing column and for ids that are missing or
    of another kind, MemoryError for a file that would not fit.
    """
    path = existing(path, PAIRS)
    require_memory(8 * path.stat().st_size, f"Reading {path}", "split the file")
    text = path.suffix.lower() != ".parquet"
    with selectable(path, text=text) as (connection, source):
        ask = partial(fetch, connection, path)
        found = [name for name, *_ in ask(f"DESCRIBE SELECT * FROM {source}").fetchall()]
        for name, ids in known.items():
            if name not in found:
                has = ", ".join(map(repr, found))
                raise ValueError(f"{path} has no column {name!r}, as the model has; it has {has}.")
            column, kind = quoted(name), _kind(ids)
            wrong = f"TRY_CAST({column} AS {kind}) IS NULL"
            if kind.endswith("INT"):
                # A cast rounds.
                wrong += f" OR TRY_CAST({column} AS {kind}) <> TRY_CAST({column} AS DOUBLE)"
            missing, bad = ask(
                f"SELECT count_if({column} IS NULL), any_value({column}) FILTER ({wrong}) "
                f"FROM {source}"
            ).fetchone()
            if missing:
                raise ValueError(f"{path}: {missing} line(s) have no {name!r}: remove them.")
            if bad is not None:
                raise ValueError(
                    f"{path}: column {name!r} has {bad!r}, and the ids of the model are {kind}: "
                    "correct or remove it."
                )
        casts = ", ".join(
            f"CAST({quoted(name)} AS {_kind(ids)}) AS {quoted(name)}" for name, ids in known.items()
        )
        fetched = ask(f"SELECT {casts} FROM {source}").fetchnumpy()
    return {name: np.asarray(fetched[name]) for name in known}


def _kind(ids: np.ndarray) -> str:
    """The type in SQL of ids that a saved model can have."""
    if ids.dtype.kind == "M":
        return "TIMESTAMP_NS" if np.datetime_data(ids.dtype)[0] == "ns" else "TIMESTAMP"
    kind = np.asarray(ids[:1].tolist()).dtype.kind if ids.dtype.kind == "O" else ids.dtype.kind
    kinds = {"i": "BIGINT", "u": "UBIGINT", "f": "DOUBLE", "b": "BOOLEAN"}
    return kinds.get(kind, "VARCHAR")
