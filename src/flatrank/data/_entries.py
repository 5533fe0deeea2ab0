"""The lines of a table in long form as numbered entries, or one sentence about what is wrong."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..entries import Entries, LongForm
from ._ids import Ids, is_missing, missing_ids

_NO_IDS = Ids(np.empty(0))


def number_entries(
    columns: Mapping[str, np.ndarray],
    names: LongForm,
    known: tuple[Ids, Ids] = (_NO_IDS, _NO_IDS),
    source: str = "The table",
) -> tuple[Entries, tuple[Ids, Ids]]:
    """The entries of a table in long form, and the ids of its rows and columns.

    Ids that are not among the known ones get new numbers.

    A line without a value (NaN, None) is a hole: its ids count, and it is no entry.

    Raises ValueError for missing ids, a pair of ids that appears twice, and values that are not
    numbers or infinite.
    """
    values = real_values(columns[names.value], names.value, source)
    numbers, ids = [], []
    for name, before in zip((names.row, names.column), known, strict=True):
        given = columns[name]
        require_ids(given, name, source)
        try:
            extended, found = before.extended(given)
        except TypeError as error:
            raise ValueError(
                f"{source}: column {name!r} has ids that cannot be told apart ({error}): use numbers, "
                "strings or dates."
            ) from error
        except ValueError as error:
            raise ValueError(
                f"{source}: the ids in column {name!r} {error}: convert them."
            ) from None
        numbers.append(found)
        ids.append(extended)
    rows, cols = numbers
    pairs = rows * max(len(ids[1]), 1) + cols
    _require_distinct(pairs, columns, names, source)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise ValueError(
            f"{source}: column {names.value!r} has {len(infinite)} infinite value(s), the first for "
            f"{_pair(columns, names, int(infinite[0]))}: leave them empty if they are missing."
        )
    if not all(map(len, ids)):
        raise ValueError(
            f"{source} has no value in column {names.value!r} (of 0 line(s)): there is nothing to "
            "complete it from."
        )
    valued = ~np.isnan(values)
    shape = len(ids[0]), len(ids[1])
    entries = Entries(rows[valued], cols[valued], values[valued], shape)
    return entries, (ids[0], ids[1])


def require_ids(ids: np.ndarray, name: str, source: str = "The table") -> None:
    """ValueError if an id is missing."""
    missing = int(np.sum(missing_ids(ids)))
    if missing:
        raise ValueError(f"{source}: {missing} line(s) have no {name!r}: remove them.")


def real_values(column: np.ndarray, name: Any, source: str = "The table") -> np.ndarray:
    """A column of real numbers in float64, NaN where None or NaN, or ValueError."""
    if column.dtype.kind in "fiub":
        return column.astype(np.float64)
    told = f"{column.dtype} values"
    if column.dtype.kind == "O":
        try:
            return np.fromiter(map(_real, column), np.float64, len(column))
        except _NotANumberError as error:
            told = f"a value that is not a number, {error.args[0]!r}"
    raise ValueError(
        f"{source}: column {name!r} has {told}: convert it to numbers, and leave missing values empty."
    )


class _NotANumberError(Exception):
    """Carries the value that is none."""


def _real(value: Any) -> float:
    if is_missing(value):
        return math.nan
    try:
        # float() would take a string of digits, until a line has letters.
        if not isinstance(value, str | bytes):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise _NotANumberError(value)


def _require_distinct(
    pair: np.ndarray, given: Mapping[str, np.ndarray], names: LongForm, source: str
) -> None:
    """ValueError if a pair of ids, given as one number, stands in two lines."""
    order = np.argsort(pair, kind="stable")
    again = order[1:][np.diff(pair[order]) == 0]
    if len(again):
        first = int(again.min())
        times = int(np.sum(pair == pair[first]))
        pairs = len(np.unique(pair[again]))
        raise ValueError(
            f"{source}: {_pair(given, names, first)} appear together {times} times ({pairs} such "
            "pair(s)): keep one of each, or average them."
        )


def _pair(columns: Mapping[str, np.ndarray], names: LongForm, line: int) -> str:
    told = (
        f"{name} {columns[name][line : line + 1].tolist()[0]!r}"
        for name in (names.row, names.column)
    )
    return " and ".join(told)
