"""A table with holes: scaling, the path of penalty strengths, the choice on held-out entries."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from .._checks import require_memory
from ..measurements import IsotropicMeasurements
from ..network import DeepLinear
from ..norms import effective_rank
from ..penalties import AbstractPenalty, Flatness, WeightDecay
from .average import Draws, average, biased_product, moments, number_of_draws, predicted_deviations
from .single import (
    BiasedNetwork,
    Fit,
    Table,
    alternate,
    check_penalty,
    entry_table,
    with_all_entries,
)

# Strengths on the path fall by this factor; it ends this many steps after the best.
_PATH_RATIO = 0.5
_PATH_LENGTH = 24
_PATIENCE = 2
_PATH_SWEEPS = 6
DEFAULT_WIDTH = 32


@dataclass(frozen=True)
class PathStep:
    """One penalty strength on the path: its held-out error and what it cost."""

    alpha: float
    held_out_error: float
    effective_rank: float
    sweeps: int


@dataclass(frozen=True)
class Completion:
    """mean + W + row bias + column bias, in the units of the data, and how it was chosen.

    `spread` is the standard deviation of the data, in which the biases' penalty is measured. With
    `draws`, in units of it, predictions are their averages, and `network` is the nearest of its width.

    `held_out_error` is the root mean square error on the entries that were held out (NaN if there were
    none), and `held_rows`, `held_columns`, `held_residuals` are those entries and what they differed
    by; `held_deviations` the standard deviations that were predicted for it. `history` is the last
    fit's objective after each of its `sweeps` (the first 256 at most); with draws the mean square
    residual of every sweep of every chain, in units of the variance of the data.
    """

    network: DeepLinear
    row_bias: np.ndarray
    column_bias: np.ndarray
    mean: float
    spread: float
    alpha: float
    held_out_error: float
    path: tuple[PathStep, ...]
    history: np.ndarray
    sweeps: int
    converged: bool
    held_rows: np.ndarray
    held_columns: np.ndarray
    held_residuals: np.ndarray
    held_deviations: np.ndarray
    draws: Draws | None = None

    def predict(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The completed entries at (rows_i, columns_i), shape (N,)."""
        if self.draws is not None:
            return self.mean + self.spread * moments(self.draws, rows, columns)[0]
        model = BiasedNetwork(
            self.network, jnp.asarray(self.row_bias), jnp.asarray(self.column_bias)
        )
        return self.mean + _predict(model, rows, columns)

    def predict_partly(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The entries at (rows_i, columns_i), of which -1 is a row or column that was not fitted.

        It has the mean of the others' prior, which without draws is no bias and W = 0.
        """
        if self.draws is not None:
            factors = (
                np.concatenate([lines, mean[:, None]], axis=1)
                for lines, mean in (
                    (self.draws.rows, self.draws.row_mean),
                    (self.draws.columns, self.draws.column_mean),
                )
            )
            left, right = factors
            extended = self.draws._replace(rows=left, columns=right)
            i, j = (np.where(x < 0, f.shape[1] - 1, x) for x, f in ((rows, left), (columns, right)))
            return self.mean + self.spread * moments(extended, i, j)[0]
        biases = np.where(rows >= 0, self.row_bias[rows], 0.0)
        return self.mean + biases + np.where(columns >= 0, self.column_bias[columns], 0.0)

    def matrix(self) -> np.ndarray:
        """The whole completed table, shape (m, n). Raises MemoryError before it would not fit."""
        m, n = self.network.shape
        require_memory(
            16 * m * n, f"The completed {m} x {n} table", "use predict(rows, columns) instead"
        )
        return self.rows_of_matrix(np.arange(m))

    def rows_of_matrix(self, rows: np.ndarray) -> np.ndarray:
        """Some rows of the completed table, shape (len(rows), n)."""
        if self.draws is not None:
            left, right = self.draws.rows[:, rows], self.draws.columns
            values = np.zeros((len(rows), right.shape[1]))
            for a, b in zip(left, right, strict=True):
                values += biased_product(a, b)
            return self.mean + self.spread / len(left) * values
        left, right = (np.asarray(factor) for factor in self.network.factors())
        low_rank = left[rows].astype(np.float64) @ right
        return low_rank + self.mean + self.row_bias[rows, None] + self.column_bias[None]

    def interval(
        self, rows: np.ndarray, columns: np.ndarray, coverage: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds that held a share `coverage` of the held-out entries (split conformal prediction)."""
        # Where nothing varied, nothing is expected to.
        spread = np.where(self.held_deviations > 0, self.held_deviations, 1.0)
        scores = np.sort(np.abs(self.held_residuals) / spread)
        place = int(np.ceil(coverage * (len(scores) + 1)))
        factor = scores[place - 1] if place <= len(scores) else np.inf
        if self.draws is None:
            middle, deviations = self.predict(rows, columns), np.asarray(self.held_out_error)
        else:
            mean, variance = moments(self.draws, rows, columns)
            middle = self.mean + self.spread * mean
            deviations = self.spread * predicted_deviations(self.draws, columns, variance)
        reach = np.where(deviations > 0, factor, 0.0) * deviations
        return middle - reach, middle + reach


def complete(
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    shape: tuple[int, int],
    depth: int = 2,
    penalty: AbstractPenalty | None = None,
    alpha: float | Literal["auto"] = "auto",
    width: int | None = None,
    biases: bool = True,
    validation_fraction: float = 0.1,
    seed: int = 0,
    tolerance: float = 3e-4,
    max_sweeps: int = 30,
    on_step: Callable[[str, float], None] | None = None,
    draws: int | None = None,
    smoothing: float = 0.0,
    start: Draws | None = None,
) -> Completion:
    """Fit W + biases to observed entries by alternating exact minimisation, float32.

    `alpha` is the penalty strength: loss + alpha * penalty, in the units of the data. "auto" fits a
    warm-started path of falling strengths to all but a fraction of the entries, takes the strength
    with the smallest error on those, and fits again to all; `smoothing`: see `alternate`. Without a
    penalty, at depth 2 and "auto", strengths and factors are averaged over instead, `draws` of them
    (None: by the number of entries; see `average`, also for `start`).
    `width` bounds the rank (default: at most 32, and what the number of entries can determine).
    `on_step(what, fraction done)` is called as the work proceeds. Inputs are taken as checked.
    """
    averaged = averages(depth, penalty, alpha, draws) and len(values) > 1 and np.ptp(values) > 0
    penalty = penalty or (WeightDecay() if averaged else Flatness())
    check_penalty(penalty)
    m, n = shape
    given_width = None if width is None else min(width, m, n)
    # Twice as many entries as parameters, for the noise to be told from the directions.
    enough = len(values) // 2 if averaged else len(values)
    width = default_width(shape, enough) if given_width is None else given_width
    tell = on_step or (lambda what, fraction: None)
    mean = float(np.mean(values, dtype=np.float64))
    spread = float(np.std(values, dtype=np.float64)) or 1.0
    unit = ((values - mean) / spread).astype(np.float32)
    # alpha is per entry of squared error; with data divided by its spread, and W with it:
    to_data = spread ** (2 - penalty.degree(depth))
    rng = np.random.default_rng(seed)
    held = np.zeros(len(values), bool)
    if alpha == "auto" and len(values) < 2:
        # Nothing can be held out of a single entry; any strength completes the table by its value.
        alpha = to_data
    if alpha == "auto":
        count = min(len(values) - 1, max(1, round(validation_fraction * len(values))))
        held[rng.permutation(len(values))[:count]] = True
    tell("arranging the entries", 0.0)
    if averaged:
        found = average(
            rows,
            columns,
            unit,
            shape,
            held,
            given_width,
            width,
            biases,
            number_of_draws(len(values)) if draws is None else draws,
            seed,
            tell,
            start,
        )
        residuals = unit[held] - found.held_mean
        deviations = predicted_deviations(found.draws, columns[held], found.held_variance)
        tell("done", 1.0)
        return Completion(
            network=found.middle.network.scaled(spread),
            row_bias=np.asarray(found.middle.row_bias, np.float64) * spread,
            column_bias=np.asarray(found.middle.column_bias, np.float64) * spread,
            mean=mean,
            spread=spread,
            alpha=found.strength * to_data,
            held_out_error=float(np.sqrt(np.mean(residuals**2))) * spread,
            path=(),
            history=found.history,
            sweeps=len(found.history),
            converged=True,
            held_rows=rows[held],
            held_columns=columns[held],
            held_residuals=residuals * spread,
            held_deviations=deviations * spread,
            draws=found.draws,
        )
    table = entry_table(rows, columns, unit, ~held, shape, width)
    key = jax.random.key(int(rng.integers(2**31)))
    model = BiasedNetwork(
        _random_start(key, shape, width), jnp.zeros(m, jnp.float32), jnp.zeros(n, jnp.float32)
    )

    def fit(
        model: BiasedNetwork, table: Table, strength: float, sweeps: int, tolerance: float
    ) -> Fit:
        return alternate(
            _rekindled(model, penalty, strength),
            table,
            penalty,
            jnp.float32(strength),
            jnp.float32(tolerance),
            jnp.asarray(sweeps),
            biases,
            jnp.float32(smoothing),
        )

    def held_out_residuals(model: BiasedNetwork) -> np.ndarray:
        return unit[held] - _predict(model, rows[held], columns[held])

    def walk(
        model: BiasedNetwork, strengths: list[float], warm: bool
    ) -> tuple[list[PathStep], float, BiasedNetwork]:
        """Falling strengths until the error rises, then one on either side of the best."""
        steps: list[PathStep] = []
        start, models = model, []

        def visit(model: BiasedNetwork, strength: float) -> None:
            tell("choosing the penalty strength", len(steps) / (len(strengths) + 2))
            done = fit(model if warm else start, table, strength, _PATH_SWEEPS, 1e-3)
            fitted = done.model
            error = float(np.sqrt(np.mean(held_out_residuals(fitted) ** 2)))
            rank = float(effective_rank(fitted.network))
            steps.append(PathStep(strength, error, rank, int(done.sweeps)))
            models.append(fitted)

        def best() -> int:
            return int(np.argmin([step.held_out_error for step in steps]))

        for strength in strengths:
            visit(models[-1] if models else start, strength)
            if len(steps) - 1 - best() >= _PATIENCE:
                break
        centre = best()
        for factor in (_PATH_RATIO**-0.5, _PATH_RATIO**0.5):
            visit(models[centre], steps[centre].alpha * factor)
        chosen = best()
        in_order = sorted(steps, key=lambda step: -step.alpha)
        return in_order, steps[chosen].alpha, models[chosen]

    path: list[PathStep] = []
    if alpha == "auto":
        largest = _largest_strength(rows, columns, unit, ~held, shape, penalty, smoothing)
        strengths = [largest * _PATH_RATIO ** (i + 1) for i in range(_PATH_LENGTH)]
        path, strength, model = walk(model, strengths, warm=True)
    else:
        strength = float(alpha) / to_data
    if depth > 2:
        # Depth 3 and more have a saddle at zero: start from the depth-2 matrix.
        if alpha != "auto":
            flat = _matching_strength(shape, penalty, strength, depth)
            model = fit(model, table, flat, _PATH_SWEEPS, 1e-3).model
        shallow = model.network
        flat_penalty = float(_scaled_penalty(penalty, shallow))
        network = DeepLinear.from_svd(*shallow.svd(), depth, width)
        model = BiasedNetwork(network, model.row_bias, model.column_bias)
        if alpha == "auto":
            deep_penalty = float(_scaled_penalty(penalty, network))
            middle = strength * flat_penalty / max(deep_penalty, 1e-30)
            strengths = [middle * _PATH_RATIO**i for i in range(-3, 5)]
            path, strength, model = walk(model, strengths, warm=False)

    error, residuals = float("nan"), np.zeros(0)
    if alpha == "auto":
        residuals = held_out_residuals(model)
        error = float(np.sqrt(np.mean(residuals**2)))
        table = with_all_entries(table)
    tell("fitting all entries", 0.9)
    done = fit(model, table, strength, max_sweeps, tolerance)
    model, sweeps = done.model, int(done.sweeps)
    tell("done", 1.0)
    return Completion(
        network=model.network.scaled(spread),
        row_bias=np.asarray(model.row_bias, np.float64) * spread,
        column_bias=np.asarray(model.column_bias, np.float64) * spread,
        mean=mean,
        spread=spread,
        alpha=strength * to_data,
        held_out_error=error * spread,
        path=tuple(
            PathStep(s.alpha * to_data, s.held_out_error * spread, s.effective_rank, s.sweeps)
            for s in path
        ),
        history=np.asarray(done.history)[:sweeps],
        sweeps=sweeps,
        converged=sweeps < max_sweeps,
        held_rows=rows[held],
        held_columns=columns[held],
        held_residuals=residuals * spread,
        held_deviations=np.full(len(residuals), error * spread),
    )


def averages(
    depth: int, penalty: AbstractPenalty | None, alpha: float | str, draws: int | np.integer | None
) -> bool:
    """Whether these arguments of `complete` ask for an average over factorisations."""
    return draws != 0 and depth == 2 and penalty is None and alpha == "auto"


def default_width(shape: tuple[int, int], count: int) -> int:
    """The largest rank with no more parameters than entries, at least 1 and at most 32."""
    m, n = shape
    rank = np.arange(1, min(m, n, DEFAULT_WIDTH) + 1)
    return max(1, int(np.sum(rank * (m + n - rank) <= count)))


def _random_start(key: jax.Array, shape: tuple[int, int], width: int) -> DeepLinear:
    network = DeepLinear.gaussian(key, shape, 2, width, scale=1e-2)
    return DeepLinear(tuple(layer.astype(jnp.float32) for layer in network.layers))


def _threshold(penalty: AbstractPenalty, strength: float, shape: tuple[int, int]) -> float:
    """Where depth 2 soft-thresholds the singular values when the entries are spread evenly."""
    m, n = shape
    return 2 * strength * (m * n) ** 0.5 if isinstance(penalty, Flatness) else strength * m * n


def _rekindled(model: BiasedNetwork, penalty: AbstractPenalty, strength: float) -> BiasedNetwork:
    """Directions that a larger strength put out, back at a tenth of the present threshold.

    Alternating minimisation leaves zero only exponentially slowly. The dying directions are the
    right ones: they decay more slowly the more the data wants them.
    """
    network = model.network
    if network.depth > 2:
        return model
    u, s, vt = network.svd()
    floor = 0.1 * _threshold(penalty, strength, network.shape)
    network = DeepLinear.from_svd(u, jnp.maximum(s, jnp.float32(floor)), vt, 2)
    return BiasedNetwork(network, model.row_bias, model.column_bias)


def _largest_strength(
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    used: np.ndarray,
    shape: tuple[int, int],
    penalty: AbstractPenalty,
    smoothing: float,
) -> float:
    """The strength above which depth 2 gives W = 0 (without biases): a dual norm of the data."""
    data = values[used].astype(np.float64)
    if not data.any():
        return 1.0
    if isinstance(penalty, Flatness):
        row_counts, column_counts = (
            (1 - smoothing) * np.bincount(lines[used], minlength=size)
            + smoothing * len(data) / size
            for lines, size in zip((rows, columns), shape, strict=True)
        )
        data = data / np.sqrt(row_counts[rows[used]] * column_counts[columns[used]]) / 2
    else:
        data = data / len(data)
    sparse = scipy.sparse.csr_array((data, (rows[used], columns[used])), shape=shape)
    if min(shape) < 3:
        largest = np.linalg.norm(sparse.toarray(), 2)
    else:
        start = np.ones(min(shape))
        largest = scipy.sparse.linalg.svds(
            sparse, k=1, v0=start, tol=1e-3, return_singular_vectors=False
        )[0]
    return float(largest) or 1.0


def _scaled_penalty(penalty: AbstractPenalty, network: DeepLinear) -> jax.Array:
    """The penalty of a network, the trace of the Hessian for evenly spread entries."""
    m, n = network.shape
    return penalty(network, IsotropicMeasurements(network.shape)) / (
        m * n if isinstance(penalty, Flatness) else 1
    )


def _matching_strength(
    shape: tuple[int, int], penalty: AbstractPenalty, strength: float, depth: int
) -> float:
    """A depth-2 strength that weighs a matrix of unit entries as `strength` does at this depth."""
    m, n = shape
    u, s, vt = (
        jnp.full(size, value, jnp.float32)
        for size, value in (((m, 1), m**-0.5), (1, (m * n) ** 0.5), ((1, n), n**-0.5))
    )
    deep = _scaled_penalty(penalty, DeepLinear.from_svd(u, s, vt, depth))
    shallow = _scaled_penalty(penalty, DeepLinear.from_svd(u, s, vt, 2))
    return strength * float(deep / shallow)


def _predict(model: BiasedNetwork, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The model's values at (rows_i, columns_i), gathered a bounded part at a time."""
    left, right = (np.asarray(factor) for factor in model.network.factors())
    row_bias, column_bias = np.asarray(model.row_bias), np.asarray(model.column_bias)
    out = np.empty(len(rows), np.float64)
    for start in range(0, len(rows), 2**18):
        i, j = rows[start : start + 2**18], columns[start : start + 2**18]
        out[start : start + 2**18] = np.einsum("ek,ek->e", left[i], right.T[j])
    return out + row_bias[rows] + column_bias[columns]
