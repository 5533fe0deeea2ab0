"""The estimator for tables in the manner of scikit-learn."""

import datetime
import math
import warnings
from collections import Counter
from typing import Any

import equinox as eqx
import numpy as np
import scipy.sparse
from jaxtyping import Array
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from .._checks import as_function, as_integers, as_shape, found, require_memory
from .._progress import OnStep, silent
from .._renamed import warn_renamed
from ..data import real_values
from ..entries import Entries
from ..flatness import trace_of_hessian
from ..measurements import EntryMeasurements
from ..network import DeepLinear
from ..norms import effective_rank, nuclear_norm
from ..penalties import AbstractPenalty, Flatness, as_penalty
from ._completion import Completion, Model
from ._queries import FittedTable
from ._width import DEFAULT_WIDTH
from .average import AverageCompletion, FactorisationAverage
from .single import SingleFactorisation

_DEPRECATED = "deprecated"


class MatrixCompleter(FittedTable, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fill the holes of a table by a deep matrix factorisation, without choosing a rank.

    The model is mean + row bias + column bias + W, W the end-to-end matrix of a deep linear network,
    fitted to the observed entries with a penalty on its layers (see
    `flatrank.completion.SingleFactorisation`).

    X is an array with NaN for missing, or a scipy.sparse matrix, in which *stored* entries are
    observed (a stored zero is an observed zero) and all others are missing.

    Parameters
    ----------
    depth : int, default 2
        Number of layers, at least 2.
    penalty : None | "flatness" | "weight-decay" | Flatness() | WeightDecay(), default None
        The inductive bias: trace of the Hessian, or sum of squares of the layers. None averages over
        the factorisations of depth 2 that could have made the table, drawn by label noise, instead of
        taking the one of the smallest penalty (flatness where depth or strength says otherwise): more
        accurate, and intervals know which entries are uncertain.
    strength : float | "auto", default "auto"
        Penalty strength: mean square error + strength * penalty, in the units of X. "auto" chooses it
        on held-out entries along a warm-started path; averages are over all strengths.
    draws : int | None, default None
        How many factorisations to average over: 8 to 40, by the number of entries; 0 takes the
        flattest one.
    smoothing : float, default 0.0
        The share of the trace of the Hessian that is measured as if the entries were spread evenly
        (Foygel and Srebro 2011): 0 holds rows and columns by their numbers of entries, 1 all alike.
    width : int | None, default None
        Bound on the rank; None allows 32, or less where the entries could not determine so much.
    biases : bool, default True
        Whether rows and columns have biases of their own.
    validation_fraction : float, default 0.1
        Fraction of the observed entries held out when the strength is "auto", for the error (and the
        strength of a single factorisation); all entries take part in the model.
    tolerance : float, default 3e-4
        The last fit of a single factorisation ends when a sweep lowers its objective by less than
        this fraction. Averages do not use it, nor `max_sweeps`.
    max_sweeps : int, default 30
        The last fit ends after this many sweeps at the latest.
    random_state : int | RandomState | None, default None
        Decides the held-out entries and the random start.
    alpha : deprecated
        The name of `strength` in release 0.1.

    Attributes
    ----------
    completion_ : Completion
        The fitted model: `predict(rows, columns)`, `matrix()`, `network`, biases, `held_out`.
    strength_ : float
        The penalty strength used.
    held_out_error_ : float
        Root mean square error on the held-out entries; NaN if there were none, as with a given
        strength. With draws nothing was chosen on them.
    effective_rank_, nuclear_norm_, trace_of_hessian_ : float
        Of the network, biases left out; with draws, of the one nearest to their average.
    width_ : int
        Number of directions.
    entries_ : Entries
        What was fitted: `rows`, `columns`, `values`, `shape`.

    Examples
    --------
    >>> import numpy as np
    >>> from flatrank import MatrixCompleter
    >>> table = np.outer(np.arange(1.0, 41.0), np.linspace(1.0, 2.0, 30))
    >>> holes = np.where(np.random.default_rng(0).random(table.shape) < 0.5, table, np.nan)
    >>> filled = MatrixCompleter(random_state=0).fit_transform(holes)
    >>> bool(np.abs(filled - table).max() < 0.03 * table.max())
    True
    """

    # Any: scikit-learn wants nothing checked before `fit`, and the tests check annotations.
    def __init__(
        self,
        depth: Any = 2,
        penalty: Any = None,
        strength: Any = "auto",
        *,
        width: Any = None,
        biases: Any = True,
        validation_fraction: Any = 0.1,
        tolerance: Any = 3e-4,
        max_sweeps: Any = 30,
        draws: Any = None,
        smoothing: Any = 0.0,
        random_state: Any = None,
        alpha: Any = _DEPRECATED,
    ):
        self.depth = depth
        self.penalty = penalty
        self.strength = strength
        self.width = width
        self.biases = biases
        self.validation_fraction = validation_fraction
        self.tolerance = tolerance
        self.max_sweeps = max_sweeps
        self.draws = draws
        self.smoothing = smoothing
        self.random_state = random_state
        self.alpha = alpha

    def fit(self, X: Any, y: Any = None) -> "MatrixCompleter":
        """Fit the model to the observed entries of X, shape (m, n), or to `Entries`.

        Raises ValueError for infinite values, for parameters out of range and for a table without
        an observed entry. Warns about rows and columns without one, which are completed from the
        statistics of the others.
        """
        del y
        if isinstance(X, Entries):
            return self._fitted(X)
        X = self._validated(X, reset=True)
        entries = Entries.from_array(X)
        if len(entries) == 0:
            raise ValueError(
                f"X has no observed entry (all {X.shape[0]} x {X.shape[1]} are missing): "
                "there is nothing to complete it from."
            )
        return self._fitted(entries)

    def fit_entries(
        self,
        rows: Any,
        columns: Any,
        values: Any,
        shape: Any,
        *,
        on_step: Any = silent,
    ) -> "MatrixCompleter":
        """Fit the model to values at (rows_i, columns_i) of a table of a given shape.

        `on_step(what, fraction done)` is called as the work proceeds. Raises as `fit` does, and
        ValueError for indices out of range or an entry given twice.
        """
        as_function(on_step, "on_step", "of (what, fraction)")
        return self._fitted(Entries(rows, columns, values, shape), on_step)

    def partial_fit_entries(
        self, rows: Any, columns: Any, values: Any, shape: Any = None
    ) -> "MatrixCompleter":
        """Fit some more entries; one that was there before is replaced.

        `shape` may be larger than the fitted table's, for new rows and columns (by default it grows to
        the largest index). Draws go on from the last one; without draws, all is fitted again with the
        strength that was chosen, nothing is held out, and there are no intervals. Raises as
        `fit_entries` does.
        """
        check_is_fitted(self)
        m, n = self.completion_.shape
        if shape is None:
            shape = tuple(
                max(size, int(lines.max()) + 1 if lines.size else 0)
                for size, lines in (
                    (m, as_integers(rows, "rows")),
                    (n, as_integers(columns, "columns")),
                )
            )
        else:
            shape = as_shape(shape)
        if shape[0] < m or shape[1] < n:
            raise ValueError(f"`shape` is {shape}, smaller than the fitted table's {(m, n)}.")
        # Checked alone first: among themselves, new entries must differ.
        new = Entries(rows, columns, values, shape)
        return self._fitted(self.entries_.updated(new), before=self.completion_)

    def _fitted(
        self, entries: Entries, on_step: OnStep = silent, before: Completion | None = None
    ) -> "MatrixCompleter":
        model = self._model(entries, before)
        m, n = entries.shape
        # Two layouts with an index, a value and a weight per entry, padded by half; the factors.
        width = min(m, n, self.width or DEFAULT_WIDTH)
        require_memory(
            100 * len(entries) + 40 * (m + n) * (width + 1),
            f"Fitting {len(entries)} entries of a {m} x {n} table",
            "use a smaller `width` or fewer rows",
        )
        for name, empty in zip(("row", "column"), entries.empty_lines(), strict=True):
            if empty:
                warnings.warn(
                    f"{empty} {name}(s) of X have no observed entry: they are completed from the "
                    f"statistics of the others.",
                    stacklevel=3,
                )
        self.n_features_in_ = n
        if len(getattr(self, "feature_names_in_", ())) not in (0, n):
            del self.feature_names_in_
        self.completion_ = model.fit(entries, on_step)
        network = self.completion_.network
        self.strength_ = self.completion_.strength
        self.held_out_error_ = self.completion_.held_out_error
        self.effective_rank_, self.nuclear_norm_, self.trace_of_hessian_ = (
            float(fact) for fact in _facts(network, entries.measurements)
        )
        self.n_observed_ = len(entries)
        self.width_ = network.width
        self.entries_ = entries
        return self

    def _model(self, entries: Entries, before: Completion | None) -> Model:
        """The model that the parameters ask for; with `before`, as what goes on from it.

        Raises TypeError or ValueError for parameters out of range.
        """
        penalty, strength = self._checked_parameters()
        averaged = self.draws != 0 and self.depth == 2 and penalty is None and strength == "auto"
        if self.draws and not averaged:
            raise ValueError(
                f"`draws` is {self.draws}, and averages are over depth 2, all strengths and no one "
                'penalty: use depth=2, strength="auto" and penalty=None, or draws=None.'
            )
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        # Where nothing varies there is nothing to average over.
        if averaged and not entries.constant:
            return FactorisationAverage(
                draws=self.draws,
                width=self.width,
                biases=self.biases,
                validation_fraction=self.validation_fraction,
                seed=seed,
                start=before.draws if isinstance(before, AverageCompletion) else None,
            )
        if before is not None and not averaged:
            strength = before.strength
        return SingleFactorisation(
            depth=self.depth,
            penalty=penalty or Flatness(),
            strength=strength,
            width=self.width,
            biases=self.biases,
            smoothing=self.smoothing,
            validation_fraction=self.validation_fraction,
            tolerance=self.tolerance,
            max_sweeps=self.max_sweeps,
            seed=seed,
        )

    def transform(self, X: Any) -> np.ndarray:
        """X with its holes filled, shape (rows of X, n); observed entries are kept.

        Each row is fitted on its own, by the exact minimiser of the last layer's problem (with draws
        by the mean of all), so that rows that were not in the training table need no new fit. Raises
        ValueError for infinite values or another number of columns, MemoryError for a result that
        would not fit.
        """
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        count, n = X.shape
        require_memory(
            16 * count * n, f"The completed {count} x {n} table", "transform fewer rows at a time"
        )
        entries = Entries.from_array(X)
        filled = entries.filled(self.completion_.fold_in(entries))
        return filled.astype(X.dtype, copy=False)

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the root mean square error on a tenth of X's entries, each row fitted to the rest.

        The tenth is drawn with `random_state`; larger is better, as scikit-learn wants it.
        """
        del y
        check_is_fitted(self)
        entries = Entries.from_array(self._validated(X, reset=False))
        if len(entries) == 0:
            raise ValueError("X has no observed entry: there is nothing to score.")
        random = check_random_state(self.random_state)
        hidden = random.permutation(len(entries)) < max(1, len(entries) // 10)
        filled = self.completion_.fold_in(entries.only(~hidden))
        errors = (filled[entries.rows, entries.columns] - entries.values)[hidden]
        return -float(np.sqrt(np.mean(errors**2)))

    def _validated(self, X: Any, reset: bool) -> Any:
        if isinstance(X, np.ma.MaskedArray):
            X = np.ma.filled(X.astype(float), np.nan)
        _check_numbers(X)
        return validate_data(
            self,
            X,
            reset=reset,
            accept_sparse=("csr", "coo", "csc"),
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )

    def _checked_parameters(self) -> tuple[AbstractPenalty | None, Any]:
        """The penalty and the strength, checked with all other parameters."""
        penalty = None if self.penalty is None else as_penalty(self.penalty)
        for name, low in (("depth", 2), ("width", 1), ("max_sweeps", 1)):
            value = getattr(self, name)
            if name == "width" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
                raise ValueError(f"`{name}` must be an integer of at least {low}, found {value!r}.")
        strength = self.strength
        if not (isinstance(self.alpha, str) and self.alpha == _DEPRECATED):
            warn_renamed("`alpha`", "`strength`", stacklevel=5)
            strength = self.alpha
        if not (isinstance(strength, str) and strength == "auto") and not (
            _is_number(strength) and 0 < strength < np.inf
        ):
            raise ValueError(
                f"`strength` must be 'auto' or a positive number, found {strength!r}; to interpolate "
                "the entries exactly use `flatrank.recover`."
            )
        if not (_is_number(self.smoothing) and 0 <= self.smoothing <= 1):
            raise ValueError(f"`smoothing` must be between 0 and 1, found {self.smoothing!r}.")
        if not (_is_number(self.validation_fraction) and 0 < self.validation_fraction < 1):
            raise ValueError(
                f"`validation_fraction` must be between 0 and 1, found {self.validation_fraction!r}."
            )
        if not _is_number(self.tolerance):
            raise ValueError(f"`tolerance` must be a number, found {self.tolerance!r}.")
        if not isinstance(self.biases, bool | np.bool_):
            raise ValueError(f"`biases` must be True or False, found {self.biases!r}.")
        draws = self.draws
        if draws is not None and (
            isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 0
        ):
            raise ValueError(f"`draws` must be None or an integer of at least 0, found {draws!r}.")
        return penalty, strength

    @property
    def alpha_(self) -> float:
        """The name of `strength_` in release 0.1."""
        warn_renamed("`alpha_`", "`strength_`")
        return self.strength_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _check_numbers(X: Any) -> None:
    """Raise TypeError or ValueError for text, dates and the like, with the name of the column.

    scikit-learn, which checks all else, does not name it.
    """
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        names = list(X.columns)
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"X has {names.count(twice[0])} columns {twice[0]!r}: rename one.")
        for name, dtype in zip(names, X.dtypes, strict=True):
            if getattr(dtype, "kind", "O") not in "fiub":
                real_values(np.asarray(X[name]), name, "X")
        return
    if scipy.sparse.issparse(X):
        return
    remedy = "pass an array of numbers (m, n), with NaN for what is missing"
    try:
        array = np.asarray(X)
    except (TypeError, ValueError):
        raise TypeError(f"X is a {type(X).__name__} that is no table: {remedy}.") from None
    if array.dtype.kind not in "fiubcO" or (array.dtype.kind == "O" and array.ndim != 2):
        raise TypeError(f"X must be a table, found {found(X)}: {remedy}.")
    if array.dtype.kind == "O":
        for k, column in enumerate(array.T):
            if any(isinstance(one, str | bytes | datetime.date | np.datetime64) for one in column):
                real_values(column, k, "X")


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
        and not math.isnan(value)
    )


@eqx.filter_jit
def _facts(network: DeepLinear, A: EntryMeasurements) -> tuple[Array, Array, Array]:
    """Effective rank, nuclear norm, trace of the Hessian: one program instead of dozens."""
    return effective_rank(network), nuclear_norm(network), trace_of_hessian(network, A)
