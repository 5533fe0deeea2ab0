"""Ids of any type, numbered in the order in which they first came."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

# Python objects are made of so many ids at a time.
_CHUNK = 2**18


@dataclass(frozen=True, eq=False)
class Ids:
    """Distinct ids, numbered 0, 1, 2, ...: `values` (n,) holds them with the data type they came with.

    Ids may be of any type that can be hashed; numbers are equal when they are equal in Python.
    """

    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def _numbers(self) -> dict[Any, int]:
        return {key: number for number, key in enumerate(_keys(self.values))}

    def find(self, given: np.ndarray) -> np.ndarray:
        """The number of each given id, shape (N,), -1 for one that is not here."""
        if (self.values.dtype.kind == "M") != (given.dtype.kind == "M"):
            return np.full(len(given), -1)
        same = given
        if given.dtype.kind == "M" and given.dtype != self.values.dtype:
            same = given.astype(self.values.dtype)
        numbers = self._numbers
        found = np.fromiter((numbers.get(key, -1) for key in _keys(same)), np.int64, len(same))
        if same is not given:
            # A time of day in a coarser unit is another time.
            found[same != given] = -1
        return found

    def extended(self, given: np.ndarray) -> tuple["Ids", np.ndarray]:
        """These ids and the given ones that are new, after them; and the number of each given id.

        Raises TypeError for ids that cannot be hashed, ValueError for new ones that this data type
        cannot hold.
        """
        if len(self) == 0:
            values, known = given[:0], dict[Any, int]()
        else:
            values, known = self.values, dict(self._numbers)
            given = _cast(given, values.dtype)
        old = len(known)
        numbers = np.fromiter(
            (known.setdefault(key, len(known)) for key in _keys(given)), np.int64, len(given)
        )
        # Where each new number came first: numbers are given out in rising order.
        first = np.searchsorted(np.maximum.accumulate(numbers), np.arange(old, len(known)))
        extended = Ids(np.concatenate([values, given[first]]))
        extended.__dict__["_numbers"] = known
        return extended, numbers


def missing_ids(ids: np.ndarray) -> np.ndarray:
    """Which ids are None, NaN, NaT or pandas.NA, shape (N,)."""
    if ids.dtype.kind == "f":
        return np.isnan(ids)
    if ids.dtype.kind == "M":
        return np.isnat(ids)
    if ids.dtype.kind == "O":
        return np.fromiter((is_missing(one) for one in ids), bool, len(ids))
    return np.zeros(len(ids), bool)


def is_missing(one: Any) -> bool:
    """Whether a Python object stands for nothing: None, NaN, NaT or pandas.NA."""
    if one is None or type(one).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(one, float | np.floating | np.datetime64) and bool(one != one)


def _keys(ids: np.ndarray) -> Iterator[Any]:
    """Python objects that are equal when the ids are."""
    comparable = ids.view(np.int64) if ids.dtype.kind == "M" else ids
    for start in range(0, len(ids), _CHUNK):
        yield from comparable[start : start + _CHUNK].tolist()


def _cast(given: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The same ids in the data type of others (strings may be longer), or ValueError."""
    if given.dtype == dtype or (given.dtype.kind == dtype.kind and dtype.kind in "US"):
        return given
    kept = False
    if dtype.kind == "O":
        return given.astype(object)
    if dtype.kind == "U" and all(isinstance(one, str) for one in given):
        return given.astype(str)
    if (
        given.dtype.kind in "fiubO" and dtype.kind in "fiub"
    ) or given.dtype.kind == dtype.kind == "M":
        with (
            contextlib.suppress(TypeError, ValueError, OverflowError),
            np.errstate(invalid="ignore"),
        ):
            cast = given.astype(dtype)
            kept = bool(np.all(cast == given))
    if not kept:
        raise ValueError(
            f"are {given.dtype} and cannot all be held as {dtype}, as the fitted ones are"
        )
    return cast
