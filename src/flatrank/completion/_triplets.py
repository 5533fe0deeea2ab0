"""Tables in long form: one line per entry, with ids of any type instead of indices."""

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from .._checks import as_instance, between_0_and_1, positive_integer
from ..data import (
    FrameForm,
    Ids,
    columns_of,
    number_entries,
    require_ids,
)
from ..entries import Entries, LongForm
from ._completer import MatrixCompleter


class TripletCompleter(BaseEstimator):
    """Complete a long table of (row id, column id, value), such as ratings, without choosing a rank.

    Tables are pandas or polars DataFrames, pyarrow Tables, dicts of arrays, or NumPy arrays with named
    fields. Ids are numbers, strings, dates or anything else that can be hashed, and come back as they
    went in. A line without a value (NaN, None) is a hole: its ids are learned, it is no entry.

    An id that was not fitted is predicted as an average row or column is (without draws: as the mean
    and the bias of the other side). One warning says how many there were.

    Parameters
    ----------
    row, column, value : str, default "user", "item", "rating"
        The names of the three columns.
    completer : MatrixCompleter | None, default None
        How the table is completed; None stands for `MatrixCompleter()`. It is cloned, not fitted.

    Attributes
    ----------
    completer_ : MatrixCompleter
        The fitted completer, whose rows and columns are numbered as the ids are.
    row_ids_, column_ids_ : ndarray
        The ids in the order of these numbers: as they first came.

    Examples
    --------
    >>> import numpy as np
    >>> from flatrank import MatrixCompleter, TripletCompleter
    >>> people, films = np.divmod(np.arange(800), 20)
    >>> ratings = {
    ...     "user": np.char.add("u", people.astype(str)), "item": films,
    ...     "rating": 3 + np.sin(people) * np.cos(films),
    ... }
    >>> completer = TripletCompleter(completer=MatrixCompleter(random_state=0)).fit(ratings)
    >>> predicted = completer.predict({"user": ["u7"], "item": [3]})
    >>> bool(abs(predicted[0] - (3 + np.sin(7) * np.cos(3))) < 0.1)
    True
    """

    # Any: scikit-learn wants nothing checked before `fit`.
    def __init__(
        self, row: Any = "user", column: Any = "item", value: Any = "rating", completer: Any = None
    ):
        self.row = row
        self.column = column
        self.value = value
        # Made here, so that `set_params(completer__strength=...)` has something to set, and not in the
        # signature, where all would share it.
        self.completer = MatrixCompleter() if completer is None else completer

    def fit(self, frame: Any, y: Any = None) -> "TripletCompleter":
        """Fit the entries of a long table.

        Raises ValueError for a missing column, missing ids, a pair of ids that appears twice, values
        that are infinite or not numbers, and a table without a value.
        """
        del y
        names = self._names()
        columns, form = columns_of(frame, (names.row, names.column, names.value))
        entries, ids = number_entries(columns, names)
        if len(entries) == 0:
            raise ValueError(
                f"The table has no value in column {names.value!r} (of {len(columns[names.value])} "
                "line(s)): there is nothing to complete it from."
            )
        self.completer_ = clone(self.completer).fit(entries)
        self.ids_ = ids
        self.form_ = form
        return self

    def partial_fit(self, frame: Any, y: Any = None) -> "TripletCompleter":
        """Take in new entries, which may have new ids, without fitting everything again.

        The value of a pair that was known is replaced; a line without a value changes nothing. Raises
        as `fit` does.
        """
        if not hasattr(self, "completer_"):
            return self.fit(frame, y)
        names = self._names()
        columns, _ = columns_of(frame, (names.row, names.column, names.value))
        entries, ids = number_entries(columns, names, self.ids_)
        if len(entries):
            self.completer_.partial_fit_entries(
                entries.rows, entries.columns, entries.values, entries.shape
            )
            self.ids_ = ids
        return self

    @classmethod
    def from_table(cls, table: Any, completer: Any) -> "TripletCompleter":
        """The completer of a table in long form whose entries `completer` has been fitted to."""
        as_instance(table, Entries, "table", "pass Entries of a long table, as `read_table` gives")
        as_instance(completer, MatrixCompleter, "completer", "pass a fitted MatrixCompleter")
        if table.long_form is None or table.row_names is None or table.column_names is None:
            raise ValueError("`table` is not in long form: save the completer itself.")
        names = table.long_form
        made = cls(names.row, names.column, names.value, clone(completer))
        made.completer_ = completer
        made.ids_ = (Ids(table.row_names), Ids(table.column_names))
        made.form_ = FrameForm()
        return made

    @property
    def row_ids_(self) -> np.ndarray:
        """The ids of the rows in the order of their numbers."""
        return self.ids_[0].values

    @property
    def column_ids_(self) -> np.ndarray:
        """The ids of the columns in the order of their numbers."""
        return self.ids_[1].values

    def predict(self, frame: Any) -> np.ndarray:
        """The model's value for each line's pair of ids, shape (N,), in the order of the lines.

        Raises ValueError for a missing column or id, and where not one id of a column is known and
        they are of another type than the fitted ones.
        """
        rows, columns = self._numbers(frame)
        known = (rows >= 0) & (columns >= 0)
        completion = self.completer_.completion_
        predicted = completion.predict_partly(rows, columns)
        predicted[known] = self.completer_.predict_entries(rows[known], columns[known])
        return predicted

    def predict_interval(self, frame: Any, coverage: Any = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, shape (N,) each, that cover a new value with this probability.

        Where an id was not fitted they are quantiles of what the fitted entries differ by from what is
        known of them in the same way. Raises as `predict` does, and ValueError for a coverage that is
        not between 0 and 1.
        """
        coverage = between_0_and_1(coverage, "coverage")
        rows, columns = self._numbers(frame)
        known = (rows >= 0) & (columns >= 0)
        lower, upper = np.empty(len(rows)), np.empty(len(rows))
        lower[known], upper[known] = self.completer_.predict_interval(
            rows[known], columns[known], coverage
        )
        fitted = self.completer_
        for row_known in (False, True):
            for column_known in (False, True):
                lines = ((rows >= 0) == row_known) & ((columns >= 0) == column_known)
                if (row_known and column_known) or not lines.any():
                    continue
                beside = fitted.completion_.predict_partly(
                    np.where(row_known, fitted.entries_.rows, -1),
                    np.where(column_known, fitted.entries_.columns, -1),
                )
                low, high = np.quantile(
                    fitted.entries_.values - beside, [(1 - coverage) / 2, (1 + coverage) / 2]
                )
                centre = fitted.completion_.predict_partly(rows[lines], columns[lines])
                lower[lines], upper[lines] = centre + low, centre + high
        return lower, upper

    def recommend(self, ids: Any, n: int = 10, exclude_seen: bool = True) -> Any:
        """For each row id the n columns of largest predicted value, largest first.

        The result has a line for each, with the row id, the column id and `score`, as a table of the
        library that the fitted one was of. A row id has fewer lines where fewer columns are left after
        those it has an entry in; one that was not fitted gets the columns of largest level. Raises
        ValueError for missing ids and n below 1.
        """
        check_is_fitted(self)
        n = positive_integer(n, "n")
        names = self._names()
        if "score" in (names.row, names.column):
            raise ValueError("The result has a column 'score', as your ids have: rename theirs.")
        arrays, _ = columns_of({names.row: ids}, (names.row,))
        given = arrays[names.row]
        require_ids(given, names.row)
        rows = self._found(0, given, names.row)
        self._warn(3, (names.row, rows))
        columns = np.full((len(rows), n), -1)
        scores = np.full((len(rows), n), np.nan)
        known = rows >= 0
        columns[known], scores[known] = self.completer_.recommend(rows[known], n, exclude_seen)
        all_columns = np.arange(len(self.ids_[1]))
        level = self.completer_.completion_.predict_partly(
            np.full(len(all_columns), -1), all_columns
        )
        best = np.argsort(-level, kind="stable")[:n]
        columns[~known, : len(best)], scores[~known, : len(best)] = best, level[best]
        line, place = np.nonzero(columns >= 0)
        return self.form_.frame(
            {
                names.row: given[line],
                names.column: self.column_ids_[columns[line, place]],
                "score": scores[line, place],
            }
        )

    def _numbers(self, frame: Any) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        names = (self._names().row, self._names().column)
        given, _ = columns_of(frame, names)
        for name in names:
            require_ids(given[name], name)
        found = [self._found(side, given[name], name) for side, name in enumerate(names)]
        self._warn(4, *zip(names, found, strict=True))
        return found[0], found[1]

    def _found(self, side: int, given: np.ndarray, name: str) -> np.ndarray:
        try:
            numbers = self.ids_[side].find(given)
        except TypeError as error:
            raise ValueError(
                f"Column {name!r} has ids that cannot be looked up ({error})."
            ) from error
        fitted = self.ids_[side].values
        if len(given) and (numbers < 0).all() and _family(given) != _family(fitted):
            raise ValueError(
                f"No id in column {name!r} was fitted: they are {_family(given)}, and the fitted ones "
                f"are {_family(fitted)}: convert them."
            )
        return numbers

    def _warn(self, stacklevel: int, *found: tuple[str, np.ndarray]) -> None:
        unknown = {name: int(np.sum(numbers < 0)) for name, numbers in found}
        if any(unknown.values()):
            told = " and ".join(f"{count} {name!r}" for name, count in unknown.items() if count)
            warnings.warn(
                f"{told} id(s) were not fitted: they are predicted as average rows and columns are.",
                stacklevel=stacklevel,
            )

    def _names(self) -> LongForm:
        names = {"row": self.row, "column": self.column, "value": self.value}
        for parameter, name in names.items():
            if not isinstance(name, str):
                raise ValueError(f"`{parameter}` must be the name of a column, found {name!r}.")
        if len(set(names.values())) < 3:
            raise ValueError(f"`row`, `column` and `value` must be three names, found {names}.")
        if not isinstance(self.completer, MatrixCompleter):
            raise ValueError(f"`completer` must be a MatrixCompleter, found {self.completer!r}.")
        return LongForm(self.row, self.column, self.value)


def _family(ids: np.ndarray) -> str:
    """What ids are, in a word: equal ids are in one family."""
    kind = ids.dtype.kind
    if kind == "O":
        kinds = {
            "numbers" if issubclass(t, int | float | np.number) else t.__name__
            for t in map(type, ids)
        }
        return ", ".join(sorted(kinds)).replace("str", "strings")
    return {"M": "dates", "U": "strings", "T": "strings", "S": "bytes"}.get(kind, "numbers")
