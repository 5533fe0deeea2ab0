"""Observed entries of a table with holes: checked, numbered and scaled once, by whoever makes them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ._checks import as_numbers, as_shape
from .measurements import EntryMeasurements

# The smallest standard deviation of values, and one over the largest, that single precision can hold.
_SMALLEST = 1e-30


@dataclass(frozen=True)
class LongForm:
    """The names of the three columns of a table in long form: one line per entry."""

    row: str
    column: str
    value: str


@dataclass(frozen=True, eq=False, init=False)
class Entries:
    """The values that are known of an (m, n) table, and where they are.

    * `rows`, `columns` (N,): integers from 0, no pair twice.
    * `values` (N,): float32 if they came so, else float64; finite.
    * `shape`: (m, n).
    * `row_names` (m,), `column_names` (n,): what the source called its lines, or None.
    * `long_form`: the names of the source's columns where it had one line per entry, else None.

    Raises TypeError or ValueError, in one sentence, for indices that are no integers, out of range or
    twice the same pair, and for values that are infinite, NaN, not one an entry or out of the range of
    single precision.
    """

    rows: Int[np.ndarray, " N"]
    columns: Int[np.ndarray, " N"]
    values: Float[np.ndarray, " N"]
    shape: tuple[int, int]
    row_names: np.ndarray | None
    column_names: np.ndarray | None
    long_form: LongForm | None

    def __init__(
        self,
        rows: Any,
        columns: Any,
        values: Any,
        shape: Any,
        *,
        row_names: np.ndarray | None = None,
        column_names: np.ndarray | None = None,
        long_form: LongForm | None = None,
    ):
        values = as_values(values, np.shape(as_numbers(rows, "rows")))
        as_numbers(columns, "columns")
        if not np.isfinite(values).all():
            raise ValueError(
                f"`values` has {np.sum(~np.isfinite(values))} NaN or infinite value(s): remove them."
            )
        rows, columns, shape = np.asarray(rows), np.asarray(columns), as_shape(shape)
        if len(values) or rows.size or columns.size:
            with np.errstate(over="ignore"):
                deviation = np.std(values, dtype=np.float64)
            if np.ptp(values) > 0 and not _SMALLEST <= deviation <= 1 / _SMALLEST:
                raise ValueError(
                    f"`values` have a standard deviation of {deviation:.3g}, out of the range of "
                    "single precision: multiply or divide them by a constant first."
                )
            # Measurements of the same entries check the indices, so that the checks stand once.
            A = EntryMeasurements(rows, columns, shape)
            rows, columns = np.asarray(A.rows), np.asarray(A.columns)
            self.__dict__["measurements"] = A
        # Frozen: not by assignment.
        self.__dict__.update(
            rows=rows,
            columns=columns,
            values=values,
            shape=shape,
            row_names=row_names,
            column_names=column_names,
            long_form=long_form,
        )

    @classmethod
    def from_array(cls, X: Any, column_names: np.ndarray | None = None) -> "Entries":
        """The entries of an (m, n) array that are not NaN, or those that a sparse matrix stores."""
        import scipy.sparse

        if scipy.sparse.issparse(X):
            coo = X.tocoo()
            known = ~np.isnan(coo.data)
            rows, columns, values = coo.row[known], coo.col[known], coo.data[known]
            order = np.lexsort((columns, rows))
            rows, columns, values = rows[order], columns[order], values[order]
        else:
            rows, columns = np.nonzero(~np.isnan(X))
            values = X[rows, columns]
        return cls(rows, columns, values, X.shape, column_names=column_names)

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def measurements(self) -> EntryMeasurements:
        """The same entries as measurements of a matrix. Raises ValueError if there are none."""
        return EntryMeasurements(self.rows, self.columns, self.shape)

    @cached_property
    def mean(self) -> float:
        """The mean of the values."""
        return float(np.mean(self.values, dtype=np.float64))

    @cached_property
    def spread(self) -> float:
        """The standard deviation of the values, one where they are all the same."""
        return float(np.std(self.values, dtype=np.float64)) or 1.0

    @cached_property
    def unit(self) -> Float[np.ndarray, " N"]:
        """The values with mean zero and variance one, float32: what a model is fitted to."""
        return self.scaled_by(self.mean, self.spread)

    def scaled_by(self, mean: float, spread: float) -> Float[np.ndarray, " N"]:
        """(values - mean) / spread in float32."""
        return ((self.values - mean) / spread).astype(np.float32)

    @property
    def constant(self) -> bool:
        """Whether all values are the same, or there is one."""
        return len(self) < 2 or bool(np.ptp(self.values) == 0)

    def empty_lines(self) -> tuple[int, int]:
        """How many rows and how many columns have no entry."""
        counts = (
            int(np.sum(np.bincount(lines, minlength=size) == 0))
            for lines, size in zip((self.rows, self.columns), self.shape, strict=True)
        )
        return next(counts), next(counts)

    def held_out(self, fraction: float, random: np.random.Generator) -> Bool[np.ndarray, " N"]:
        """Which entries to hold out: a random share, at least one and not all."""
        held = np.zeros(len(self), bool)
        count = min(len(self) - 1, max(1, round(fraction * len(self))))
        held[random.permutation(len(self))[:count]] = True
        return held

    def only(self, chosen: Bool[np.ndarray, " N"]) -> "Entries":
        """Some of the entries, of the same table."""
        return Entries(
            self.rows[chosen],
            self.columns[chosen],
            self.values[chosen],
            self.shape,
            row_names=self.row_names,
            column_names=self.column_names,
            long_form=self.long_form,
        )

    def updated(self, new: "Entries") -> "Entries":
        """These entries and the new ones, of a table at least as large; new values replace old ones."""
        n = new.shape[1]
        old_keys, new_keys = (e.rows.astype(np.int64) * n + e.columns for e in (self, new))
        kept = ~np.isin(old_keys, new_keys)
        rows, columns, values = (
            np.concatenate([old[kept], added])
            for old, added in (
                (self.rows, new.rows),
                (self.columns, new.columns),
                (self.values, new.values),
            )
        )
        return Entries(rows, columns, values, new.shape)

    def filled(self, matrix: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
        """The matrix, changed in place to have these values where they are known."""
        matrix[self.rows, self.columns] = self.values
        return matrix


def as_values(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values as floating-point numbers, one for each index; or TypeError, ValueError."""
    values = np.asarray(as_numbers(values, "values"))
    if values.dtype.kind not in "fiub":
        raise TypeError(
            f"`values` must be numbers, found {values.dtype}: convert them with `.astype(float)`."
        )
    values = np.asarray(values, np.float32 if values.dtype == np.float32 else np.float64)
    if values.shape != shape:
        raise ValueError(
            f"`values` has the shape {values.shape} and `rows` the shape {shape}: give one value for "
            "each entry."
        )
    return values
