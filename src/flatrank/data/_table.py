"""A table with holes, as it came from a file: its observed entries and what its lines are called."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Triplets:
    """The names of the three columns of a table in long form."""

    row: str
    column: str
    value: str


@dataclass(frozen=True)
class EntryTable:
    """Observed entries of a (m, n) table: indices (N,), values (N,) and the lines' names.

    `row_names` and `column_names` hold what the file called its lines (ids of any type, sorted), or
    None where they had no names. `triplets` is set when the file was in long form.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    shape: tuple[int, int]
    row_names: np.ndarray | None = None
    column_names: np.ndarray | None = None
    triplets: Triplets | None = None

    @classmethod
    def from_array(cls, array: np.ndarray, column_names: np.ndarray | None = None) -> "EntryTable":
        """The entries of an (m, n) array that are not NaN."""
        rows, columns = np.nonzero(~np.isnan(array))
        return cls(rows, columns, array[rows, columns], array.shape, None, column_names)

    def checked(self, source: str) -> "EntryTable":
        """Itself, or ValueError if nothing is observed or a value is infinite."""
        if len(self.values) == 0:
            raise ValueError(
                f"{source} has no observed entry: there is nothing to complete it from."
            )
        infinite = np.flatnonzero(np.isinf(self.values))
        if len(infinite):
            row, column = self.rows[infinite[0]], self.columns[infinite[0]]
            raise ValueError(
                f"{source} has {len(infinite)} infinite value(s), the first in row {row}, column "
                f"{column} (counted from 0): make them empty if they are missing."
            )
        return self
