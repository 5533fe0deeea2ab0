"""scikit-learn estimators."""

import warnings
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from .._checks import as_shape, require_memory
from ..flatness import trace_of_hessian
from ..measurements import EntryMeasurements
from ..network import DeepLinear
from ..norms import effective_rank, nuclear_norm
from ..penalties import AbstractPenalty, Flatness, WeightDecay
from ._buckets import line_buckets
from ._complete import DEFAULT_WIDTH, averages, complete
from ._queries import FittedTable
from .average import folded_in
from .single import BiasedNetwork, last_layer_problem, solve_lines

# The smallest standard deviation of values, and one over the largest, that single precision can hold.
_SMALLEST = 1e-30
_PENALTIES = {"flatness": Flatness, "weight-decay": WeightDecay}


class MatrixCompleter(FittedTable, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fill the holes of a table by a deep matrix factorisation, without choosing a rank.

    The model is mean + row bias + column bias + W, W the end-to-end matrix of a deep linear network,
    fitted to the observed entries with a penalty on its layers.

    X is an array with NaN for missing, or a scipy.sparse matrix, in which *stored* entries are
    observed (a stored zero is an observed zero) and all others are missing.

    Parameters
    ----------
    depth : int, default 2
        Number of layers, at least 2.
    penalty : None | "flatness" | "weight-decay" | Flatness() | WeightDecay(), default None
        The inductive bias: trace of the Hessian, or sum of squares of the layers. None averages over
        the factorisations of depth 2 that could have made the table, drawn by label noise, instead of
        taking the one of the smallest penalty (flatness where depth or alpha says otherwise): more
        accurate, and intervals know which entries are uncertain.
    alpha : float | "auto", default "auto"
        Penalty strength: mean square error + alpha * penalty, in the units of X. "auto" chooses it
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
        Fraction of the observed entries held out when alpha is "auto", for the error (and the
        strength of a single factorisation); all entries take part in the model.
    tolerance : float, default 3e-4
        The last fit of a single factorisation ends when a sweep lowers its objective by less than
        this fraction. Averages do not use it, nor `max_sweeps`.
    max_sweeps : int, default 30
        The last fit ends after this many sweeps at the latest.
    random_state : int | RandomState | None, default None
        Decides the held-out entries and the random start.

    Attributes
    ----------
    completion_ : Completion
        The fitted model: `predict(rows, columns)`, `matrix()`, `network`, biases, `path`.
    alpha_ : float
        The penalty strength used.
    held_out_error_ : float
        Root mean square error on the held-out entries; NaN if there were none, as with a given
        alpha. With draws nothing was chosen on them.
    effective_rank_, nuclear_norm_, trace_of_hessian_ : float
        Of the network, biases left out; with draws, of the one nearest to their average.
    width_ : int
        Number of directions.
    rows_, columns_, values_ : arrays (N,)
        The entries that were fitted.

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
        alpha: Any = "auto",
        *,
        width: Any = None,
        biases: Any = True,
        validation_fraction: Any = 0.1,
        tolerance: Any = 3e-4,
        max_sweeps: Any = 30,
        draws: Any = None,
        smoothing: Any = 0.0,
        random_state: Any = None,
    ):
        self.depth = depth
        self.penalty = penalty
        self.alpha = alpha
        self.width = width
        self.biases = biases
        self.validation_fraction = validation_fraction
        self.tolerance = tolerance
        self.max_sweeps = max_sweeps
        self.draws = draws
        self.smoothing = smoothing
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "MatrixCompleter":
        """Fit the model to the observed entries of X, shape (m, n).

        Raises ValueError for infinite values, for parameters out of range and for a table without
        an observed entry. Warns about rows and columns without one, which are completed from the
        statistics of the others.
        """
        del y
        X = self._validated(X, reset=True)
        rows, columns, values = _observed(X)
        if len(values) == 0:
            raise ValueError(
                f"X has no observed entry (all {X.shape[0]} x {X.shape[1]} are missing): "
                "there is nothing to complete it from."
            )
        return self.fit_entries(rows, columns, values, X.shape)

    def fit_entries(
        self,
        rows: np.ndarray,
        columns: np.ndarray,
        values: np.ndarray,
        shape: tuple[int, int],
        on_step: Any = None,
    ) -> "MatrixCompleter":
        """Fit the model to values at (rows_i, columns_i) of a table of a given shape.

        `on_step(what, fraction done)` is called as the work proceeds. Raises as `fit` does, and
        ValueError for indices out of range or an entry given twice.
        """
        return self._fitted(rows, columns, values, shape, on_step, None)

    def partial_fit_entries(
        self, rows: Any, columns: Any, values: Any, shape: tuple[int, int] | None = None
    ) -> "MatrixCompleter":
        """Fit some more entries; one that was there before is replaced.

        `shape` may be larger than the fitted table's, for new rows and columns (by default it grows to
        the largest index). Draws go on from the last one; without draws, all is fitted again with the
        strength that was chosen, nothing is held out, and there are no intervals. Raises as
        `fit_entries` does.
        """
        check_is_fitted(self)
        old = self.completion_.network.shape
        new = [np.asarray(rows), np.asarray(columns), _as_values(values, np.shape(rows))]
        if shape is None:
            largest = (int(x.max()) + 1 if x.size else 0 for x in new[:2])
            m, n = (max(size, most) for size, most in zip(old, largest, strict=True))
        else:
            m, n = as_shape(shape)
        if m < old[0] or n < old[1]:
            raise ValueError(f"`shape` is {(m, n)}, smaller than the fitted table's {old}.")
        # Checked alone first: among themselves, new entries must differ.
        EntryMeasurements(new[0], new[1], (m, n))
        old_keys, new_keys = (
            i.astype(np.int64) * n + j for i, j in ((self.rows_, self.columns_), new[:2])
        )
        kept = ~np.isin(old_keys, new_keys)
        rows, columns, values = (
            np.concatenate([x[kept], y])
            for x, y in zip((self.rows_, self.columns_, self.values_), new, strict=True)
        )
        return self._fitted(rows, columns, values, (m, n), None, self.completion_)

    def _fitted(
        self, rows: Any, columns: Any, values: Any, shape: Any, on_step: Any, before: Any
    ) -> "MatrixCompleter":
        penalty = self._checked_parameters()
        m, n = as_shape(shape)
        values = _as_values(values, np.shape(rows))
        # Two layouts with an index, a value and a weight per entry, padded by half; the factors.
        width = min(m, n, self.width or DEFAULT_WIDTH)
        require_memory(
            100 * len(values) + 40 * (m + n) * (width + 1),
            f"Fitting {len(values)} entries of a {m} x {n} table",
            "use a smaller `width` or fewer rows",
        )
        if not np.isfinite(values).all():
            raise ValueError(
                f"`values` has {np.sum(~np.isfinite(values))} NaN or infinite value(s): remove them."
            )
        with np.errstate(over="ignore"):
            deviation = np.std(values, dtype=np.float64)
        if np.ptp(values) > 0 and not _SMALLEST <= deviation <= 1 / _SMALLEST:
            raise ValueError(
                f"`values` have a standard deviation of {deviation:.3g}, out of the range of single "
                "precision: multiply or divide them by a constant first."
            )
        A = EntryMeasurements(rows, columns, shape)
        rows, columns = np.asarray(A.rows), np.asarray(A.columns)
        for name, indices, size in zip(("row", "column"), (rows, columns), A.shape, strict=True):
            empty = np.sum(np.bincount(indices, minlength=size) == 0)
            if empty:
                warnings.warn(
                    f"{empty} {name}(s) of X have no observed entry: they are completed from the "
                    f"statistics of the others.",
                    stacklevel=2,
                )
        self.n_features_in_ = A.shape[1]
        if len(getattr(self, "feature_names_in_", ())) not in (0, A.shape[1]):
            del self.feature_names_in_
        alpha, start = self.alpha, None
        if before is not None:
            start = before.draws
            if not averages(self.depth, penalty, self.alpha, self.draws):
                alpha = before.alpha
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        self.completion_ = complete(
            rows,
            columns,
            values,
            A.shape,
            self.depth,
            penalty,
            alpha,
            self.width,
            self.biases,
            self.validation_fraction,
            seed,
            self.tolerance,
            self.max_sweeps,
            on_step,
            self.draws,
            self.smoothing,
            start,
        )
        network = self.completion_.network
        self.alpha_ = self.completion_.alpha
        self.held_out_error_ = self.completion_.held_out_error
        self.effective_rank_, self.nuclear_norm_, self.trace_of_hessian_ = (
            float(fact) for fact in _facts(network, A)
        )
        self.n_observed_ = len(values)
        self.width_ = network.width
        self.rows_, self.columns_, self.values_ = rows, columns, values
        return self

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
        rows, columns, values = _observed(X)
        filled = self._fold_in(rows, columns, values, count)
        filled[rows, columns] = values
        return filled.astype(X.dtype, copy=False)

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the root mean square error on a tenth of X's entries, each row fitted to the rest.

        The tenth is drawn with `random_state`; larger is better, as scikit-learn wants it.
        """
        del y
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        rows, columns, values = _observed(X)
        if len(values) == 0:
            raise ValueError("X has no observed entry: there is nothing to score.")
        random = check_random_state(self.random_state)
        hidden = random.permutation(len(values)) < max(1, len(values) // 10)
        filled = self._fold_in(rows[~hidden], columns[~hidden], values[~hidden], X.shape[0])
        return -float(np.sqrt(np.mean((filled[rows, columns] - values)[hidden] ** 2)))

    def _fold_in(
        self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, count: int
    ) -> np.ndarray:
        """The model's values on `count` rows of which some entries are known, (count, n), float64."""
        fitted = self.completion_
        n = fitted.network.shape[1]
        # In the units of the fit, of which the penalty of the biases is part.
        scale = fitted.spread
        unit = ((values - fitted.mean) / scale).astype(np.float32)
        if fitted.draws is not None:
            filled = folded_in(fitted.draws, rows, columns, unit, count, self.biases)
            return fitted.mean + scale * filled
        penalty = self._checked_parameters() or Flatness()
        weights = np.ones(len(unit), np.float32)
        width = fitted.network.width
        lines = line_buckets(rows, columns, unit, weights, (count, n), width)
        network = fitted.network.scaled(1 / scale)
        model = BiasedNetwork(
            network,
            jnp.zeros(network.shape[0], jnp.float32),
            jnp.asarray(fitted.column_bias / scale, jnp.float32),
        )
        strength = fitted.alpha * scale ** (penalty.degree(self.depth) - 2)
        problem = last_layer_problem(
            model,
            penalty,
            jnp.float32(strength),
            jnp.float32(self.n_observed_),
            self.biases,
            self.smoothing,
        )
        solved = np.asarray(solve_lines(lines, problem), np.float64) * scale
        below = np.asarray(problem.features[:-1, :-1], np.float64)
        bias = solved[:, -1:] if self.biases else 0.0
        return solved[:, :-1] @ below.T + bias + fitted.column_bias[None] + fitted.mean

    def _validated(self, X: Any, reset: bool) -> Any:
        if isinstance(X, np.ma.MaskedArray):
            X = np.ma.filled(X.astype(float), np.nan)
        return validate_data(
            self,
            X,
            reset=reset,
            accept_sparse=("csr", "coo", "csc"),
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )

    def _checked_parameters(self) -> AbstractPenalty | None:
        penalty = self.penalty
        if isinstance(penalty, str):
            if penalty not in _PENALTIES:
                raise ValueError(
                    f"`penalty` must be one of {sorted(_PENALTIES)}, found {penalty!r}."
                )
            penalty = _PENALTIES[penalty]()
        for name, low in (("depth", 2), ("width", 1), ("max_sweeps", 1)):
            value = getattr(self, name)
            if name == "width" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
                raise ValueError(f"`{name}` must be an integer of at least {low}, found {value!r}.")
        if self.alpha != "auto" and not (
            isinstance(self.alpha, int | float | np.number) and 0 < self.alpha < np.inf
        ):
            raise ValueError(
                f"`alpha` must be 'auto' or a positive number, found {self.alpha!r}; to interpolate "
                "the entries exactly use `flatrank.recover`."
            )
        if not (isinstance(self.smoothing, int | float | np.number) and 0 <= self.smoothing <= 1):
            raise ValueError(f"`smoothing` must be between 0 and 1, found {self.smoothing!r}.")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"`validation_fraction` must be between 0 and 1, found {self.validation_fraction!r}."
            )
        draws = self.draws
        if draws is not None and (
            isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 0
        ):
            raise ValueError(f"`draws` must be None or an integer of at least 0, found {draws!r}.")
        if draws and not averages(self.depth, penalty, self.alpha, draws):
            raise ValueError(
                f"`draws` is {draws}, and averages are over depth 2, all strengths and no one penalty: "
                'use depth=2, alpha="auto" and penalty=None, or draws=None.'
            )
        return penalty

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@eqx.filter_jit
def _facts(network: DeepLinear, A: EntryMeasurements) -> tuple[Array, Array, Array]:
    """Effective rank, nuclear norm, trace of the Hessian: one program instead of dozens."""
    return effective_rank(network), nuclear_norm(network), trace_of_hessian(network, A)


def _as_values(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values as floating-point numbers, one for each index."""
    values = np.asarray(values)
    values = np.asarray(values, np.float32 if values.dtype == np.float32 else np.float64)
    if values.shape != shape:
        raise ValueError(
            f"`values` has the shape {values.shape} and `rows` the shape {shape}: give one value for "
            "each entry."
        )
    return values


def _observed(X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and values of the observed entries, row by row."""
    if scipy.sparse.issparse(X):
        coo = X.tocoo()
        known = ~np.isnan(coo.data)
        rows, columns, values = coo.row[known], coo.col[known], coo.data[known]
        order = np.lexsort((columns, rows))
        return rows[order], columns[order], values[order]
    rows, columns = np.nonzero(~np.isnan(X))
    return rows, columns, X[rows, columns]
