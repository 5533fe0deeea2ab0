"""What a fitted table can be asked: single entries, intervals for them, the best columns of a row."""

from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils.validation import check_is_fitted

from .._checks import as_numbers, between_0_and_1, positive_integer
from .._renamed import warn_renamed
from ..entries import Entries
from ._completion import Completion

_ROWS_AT_ONCE = 256


class FittedTable:
    """Questions to an estimator with a `completion_` of its `entries_`."""

    completion_: Completion
    entries_: Entries

    def predict_entries(self, rows: Any, columns: Any) -> np.ndarray:
        """The model's values at (rows_i, columns_i) of the fitted table, shape (N,).

        With draws, their averages. Those of a single factorisation are the last sweep's; `transform`
        solves each row once more, and differs from them by as little as the fit has converged.

        Raises ValueError for indices out of range.
        """
        return self.completion_.predict(*self._pairs(rows, columns))

    def predict_interval(
        self, rows: Any, columns: Any, coverage: Any = 0.9
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, (N,) each, that hold a new entry with probability `coverage`.

        The draws' standard deviations (one for all entries without draws), scaled so that the held-out
        entries were covered (split conformal prediction): valid on average over entries that are
        missing as those were. Raises ValueError for indices out of range, a coverage outside (0, 1),
        and a model without held-out entries.
        """
        coverage = between_0_and_1(coverage, "coverage")
        pairs = self._pairs(rows, columns)
        if not len(self.completion_.held_out):
            raise ValueError(
                "No entries were held out, which intervals need: fit two entries or more with "
                'strength="auto" (a single factorisation anew, not by a partial fit).'
            )
        return self.completion_.interval(*pairs, coverage)

    def recommend(
        self, rows: Any, n: int = 10, exclude_seen: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """The columns with the largest predictions for some rows, and the predictions, best first.

        Shapes (len(rows), n). With `exclude_seen`, columns that were observed in the row are left out;
        where fewer than n are left the last are -1 and NaN. Raises ValueError for rows out of range and
        n below 1.
        """
        check_is_fitted(self)
        n = positive_integer(n, "n")
        rows = self._indices(rows, "rows", 0)
        width = self.completion_.shape[1]
        best = np.full((len(rows), n), -1)
        scores = np.full((len(rows), n), np.nan)
        fitted = self.entries_
        known = np.ones(len(fitted), bool), (fitted.rows, fitted.columns)
        seen = scipy.sparse.csr_array(known, shape=self.completion_.shape)
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(begin, begin + _ROWS_AT_ONCE)
            values = self.completion_.rows_of_matrix(rows[part])
            if exclude_seen:
                values[seen[rows[part]].nonzero()] = -np.inf
            order = np.argsort(-values, axis=1, kind="stable")[:, :n]
            found = np.take_along_axis(values, order, axis=1)
            best[part, : min(n, width)] = np.where(np.isfinite(found), order, -1)
            scores[part, : min(n, width)] = np.where(np.isfinite(found), found, np.nan)
        return best, scores

    def _pairs(self, rows: Any, columns: Any) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        pair = self._indices(rows, "rows", 0), self._indices(columns, "columns", 1)
        if len(pair[0]) != len(pair[1]):
            raise ValueError(
                f"`rows` has {len(pair[0])} indices and `columns` has {len(pair[1])}: "
                "pass one of each per entry."
            )
        return pair

    def _indices(self, indices: Any, name: str, axis: int) -> np.ndarray:
        array, size = np.asarray(as_numbers(indices, name)), self.completion_.shape[axis]
        if array.size == 0:
            return np.zeros(0, int)
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise ValueError(
                f"`{name}` must be a one-dimensional array of integers, found {array.dtype} of "
                f"shape {array.shape}."
            )
        if array.min() < 0 or array.max() >= size:
            remedy = (
                "`transform` or `partial_fit_entries`" if axis == 0 else "`partial_fit_entries`"
            )
            raise ValueError(
                f"`{name}` has indices in {array.min()}..{array.max()}, outside 0..{size - 1} "
                f"of the fitted table: use {remedy} for new {name}."
            )
        return array

    @property
    def rows_(self) -> np.ndarray:
        """The name of `entries_.rows` in release 0.1."""
        warn_renamed("`rows_`", "`entries_.rows`")
        return self.entries_.rows

    @property
    def columns_(self) -> np.ndarray:
        """The name of `entries_.columns` in release 0.1."""
        warn_renamed("`columns_`", "`entries_.columns`")
        return self.entries_.columns

    @property
    def values_(self) -> np.ndarray:
        """The name of `entries_.values` in release 0.1."""
        warn_renamed("`values_`", "`entries_.values`")
        return self.entries_.values
