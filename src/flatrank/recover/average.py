"""A table with holes by averaging over the factorisations that could have made it (`posterior`).

The number of directions grows while that helps on held-out entries; nothing else is chosen. A first
chain, without the held-out entries, says how large the error is; it goes on with them, and its draws
are the model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._checks import require_memory
from ..network import DeepLinear
from .alternating import BiasedNetwork, Table, entry_table
from .buckets import LineBuckets
from .penalties import AbstractPenalty, Flatness
from .posterior import (
    Draws,
    LineWeights,
    State,
    first_state,
    line_means_and_draws,
    moments,
    standard_chances,
    sweep,
)

# Numbers of directions that are tried.
WIDTHS = (8, 16, 32)
# Sweeps after a change, and draws that say what it was worth.
_SETTLING, _MOST_SETTLING, _FEW = 5, 20, 4
# A wider model has to lower the held-out error by this share.
_WORTH = 3e-3


@dataclass(frozen=True)
class Average:
    """Draws in units of the data's standard deviation, their middle, and what was held out."""

    draws: Draws
    middle: BiasedNetwork
    strength: float
    history: np.ndarray  # mean square residual after each sweep
    held_mean: np.ndarray
    held_variance: np.ndarray


class _Chain:
    """A chain of draws on a table, of which some entries may have no weight."""

    state: State

    def __init__(self, table: Table, weights: LineWeights, seed: int):
        self.table, self.weights = table, weights
        self.random = np.random.default_rng(seed)
        self.key = jax.random.key(seed)
        self.history: list[float] = []

    @property
    def width(self) -> int:
        """The number of directions."""
        return self.state.rows.shape[1] - 1

    def step(self) -> tuple[State, jax.Array]:
        """The draw that a sweep begins with, its rows the conditional means."""
        count = float(self.table.count)
        chances = standard_chances(self.random, self.table.shape, count, self.width)
        self.key, key = jax.random.split(self.key)
        begin = self.state
        self.state, means, square = sweep(self.table, self.weights, begin, chances, key)
        self.history.append(float(square))
        return begin, means

    def steps(self, count: int) -> None:
        """So many sweeps."""
        for _ in range(count):
            self.step()

    def settle(self) -> None:
        """Sweeps until the residual (its square) no longer falls by a tenth in one."""
        self.steps(_SETTLING)
        for _ in range(_MOST_SETTLING):
            if self.history[-1] > 0.9 * self.history[-2]:
                return
            self.step()

    def draws(self, count: int, on_draw: Callable[[int], None]) -> Draws:
        """So many draws, one a sweep."""
        found = []
        for k in range(count):
            begin, means = self.step()
            found.append(begin._replace(rows=means))
            on_draw(k)
        return Draws(*(np.stack([np.asarray(one[i]) for one in found]) for i in range(5)))


def line_weights(
    rows: np.ndarray,
    columns: np.ndarray,
    shape: tuple[int, int],
    penalty: AbstractPenalty,
    smoothing: float,
    biases: bool,
) -> LineWeights:
    """How strongly the prior holds each line: flatness by its entries, smoothed; weight decay alike."""
    left, right = (
        smoothed_shares(np.bincount(lines, minlength=count), len(lines) / count, penalty, smoothing)
        for lines, count in zip((rows, columns), shape, strict=True)
    )
    return LineWeights(
        jnp.asarray(left, jnp.float32), jnp.asarray(right, jnp.float32), jnp.float32(biases)
    )


def smoothed_shares(
    degrees: np.ndarray, mean_degree: float, penalty: AbstractPenalty, smoothing: float
) -> np.ndarray:
    """The weights of lines with so many entries, between flatness's and equal ones."""
    if not isinstance(penalty, Flatness):
        return np.ones(len(degrees))
    # A line without entries would have no prior at all.
    return np.maximum((1 - smoothing) * degrees / mean_degree + smoothing, 1e-3)


def average(
    rows: np.ndarray,
    columns: np.ndarray,
    unit: np.ndarray,
    shape: tuple[int, int],
    held: np.ndarray,
    penalty: AbstractPenalty,
    smoothing: float,
    width: int | None,
    most_width: int,
    biases: bool,
    draws: int,
    seed: int,
    tell: Callable[[str, float], None],
    start: Draws | None = None,
) -> Average:
    """Draws of the posterior, given entries of unit variance of which `held` are kept for the error.

    `width` fixes the number of directions; None lets it grow to `most_width`. With `start`, draws of a
    smaller table or of fewer entries, the chain goes on from the last of them.
    """
    m, n = shape
    widest = most_width if width is None else width
    require_memory(
        8 * draws * (m + n) * (widest + 1),
        f"{draws} draws of the factors of a {m} x {n} table",
        "use fewer `draws` or a smaller `width`",
    )
    weights = line_weights(rows, columns, shape, penalty, smoothing, biases)
    some = entry_table(rows, columns, unit, ~held, shape, widest)
    widths = (width,) if width is not None else _up_to(most_width)
    chain = _Chain(some, weights, seed)

    def error(few: Draws) -> float:
        mean, _ = entry_moments(few, rows[held], columns[held])
        return float(np.sqrt(np.mean((mean - unit[held]) ** 2)))

    tell("how many directions", 0.05)
    if start is not None:
        chain.state = _continued(start, shape, chain.random)
        chain.steps(_SETTLING)
    else:
        chain.state = first_state(shape, widths[0], chain.random)
        if held.any() and len(widths) > 1:
            _choose_width(chain, widths, error)
        else:
            chain.settle()
            chain.settle()

    held_mean = held_variance = np.zeros(0)
    if held.any():
        part = chain.draws(
            max(draws // 2, 1), lambda k: tell("measuring the error", 0.2 + 0.3 * k / draws)
        )
        held_mean, held_variance = entry_moments(part, rows[held], columns[held])
        chain.table = entry_table(rows, columns, unit, np.ones_like(held), shape, widest)
        chain.steps(_SETTLING // 2)
    found = chain.draws(draws, lambda k: tell("averaging", 0.4 + 0.5 * k / draws))
    return Average(
        found,
        _middle(found),
        _strength(found, chain.table, penalty),
        np.asarray(chain.history),
        held_mean,
        held_variance,
    )


def folded_in(
    draws: Draws, lines: LineBuckets, weights: np.ndarray, biases: bool
) -> Float[np.ndarray, "count n"]:
    """Mean values of new rows, of which some entries are known, given the columns of each draw."""
    size = len(weights), draws.columns.shape[2]
    nothing, biased = jnp.zeros(size, jnp.float32), jnp.float32(biases)
    total = np.zeros((size[0], draws.columns.shape[1]))
    for _, columns, precision, _, noise in zip(*draws, strict=True):
        V, prior, held, level = (
            jnp.asarray(x, jnp.float32) for x in (columns, precision, weights, noise)
        )
        means = np.asarray(line_means_and_draws(lines, V, prior, held, level, biased, nothing)[0])
        total += biased_product(means, columns)
    return total / len(draws.noise_precision)


def biased_product(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The values of factors that end with the bias, (m, q) and (n, q): (m, n)."""
    return rows[:, :-1] @ columns[:, :-1].T + rows[:, -1:] + columns[None, :, -1]


def predicted_deviations(draws: Draws, variance: np.ndarray) -> np.ndarray:
    """Standard deviations of new values of entries that vary so much over the draws."""
    return np.sqrt(variance + np.mean(1 / draws.noise_precision))


def entry_moments(
    draws: Draws, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over the draws of entries, in units of the data, a bounded part at a time."""
    size = 2**18
    mean, variance = np.empty(len(rows)), np.empty(len(rows))
    for begin in range(0, len(rows), size):
        part = slice(begin, begin + size)
        # Padded to a power of two: few shapes are compiled.
        i, j = (_padded(x[part].astype(np.int32)) for x in (rows, columns))
        found = moments(draws, i, j)
        count = len(rows[part])
        mean[part], variance[part] = (np.asarray(x)[:count] for x in found)
    return mean, variance


def _padded(indices: np.ndarray) -> jax.Array:
    size = 1 << max(0, len(indices) - 1).bit_length()
    return jnp.asarray(np.pad(indices, (0, size - len(indices))))


def _up_to(most: int) -> tuple[int, ...]:
    return (*(width for width in WIDTHS if width < most), most)


def _choose_width(chain: _Chain, widths: tuple[int, ...], error: Callable[[Draws], float]) -> None:
    """Start anew with more and more directions while the error of an average of a few draws falls."""
    least = np.inf
    for width in widths:
        before = chain.state
        chain.state = first_state(chain.table.shape, width, chain.random)
        chain.settle()
        now = error(chain.draws(_FEW, lambda k: None))
        if now > (1 - _WORTH) * least:
            chain.state = before
            return
        least = now


def _continued(draws: Draws, shape: tuple[int, int], random: np.random.Generator) -> State:
    """The last draw as a state, with new lines small and random."""
    last = [part[-1] for part in draws]
    width = last[0].shape[1] - 1
    first = first_state(shape, width, random)

    def extended(old: np.ndarray, new: jax.Array) -> jax.Array:
        return jnp.concatenate([jnp.asarray(old), new[len(old) :]])

    return State(
        extended(last[0], first.rows),
        extended(last[1], first.columns),
        *(jnp.asarray(part) for part in last[2:]),
    )


def _middle(draws: Draws) -> BiasedNetwork:
    """The network nearest to the mean of the draws, of as many directions as they have.

    Leading singular triples by subspace iteration; the mean, of many more directions, is not formed.
    """
    count, m, q = draws.rows.shape
    width = min(q - 1, m, draws.columns.shape[1])
    left, right = (
        np.moveaxis(factors[..., :-1], 0, 1).reshape(factors.shape[1], -1)
        for factors in (draws.rows, draws.columns)
    )
    basis = draws.columns[-1][:, :width]
    for _ in range(4):
        U = np.linalg.qr(left @ (right.T @ np.linalg.qr(basis)[0]))[0]
        basis = right @ (left.T @ U) / count
    V, upper = np.linalg.qr(basis)
    u, s, vt = np.linalg.svd(upper.T)
    parts = [jnp.asarray(x, jnp.float32) for x in (U @ u, s, (V @ vt.T).T)]
    return BiasedNetwork(
        DeepLinear.from_svd(parts[0], parts[1], parts[2], 2),
        jnp.asarray(draws.rows[..., -1].mean(0)),
        jnp.asarray(draws.columns[..., -1].mean(0)),
    )


def _strength(draws: Draws, table: Table, penalty: AbstractPenalty) -> float:
    """The penalty strength that the draws have on average, as `complete` means it."""
    m, n = table.shape
    # Invariant under changes of basis: geometric means over directions and over both layers.
    logarithms = [
        np.linalg.slogdet(precision[:, :-1, :-1])[1] / (precision.shape[1] - 1)
        for precision in (draws.row_precision, draws.column_precision)
    ]
    ratio = np.exp(0.5 * (logarithms[0] + logarithms[1])) / draws.noise_precision
    strength = float(np.mean(ratio) / table.count)
    # The trace holds row a by 2 n_a / N, n_a its entries, of which m n_a / N is the prior's weight.
    return strength * (0.5 * (m * n) ** 0.5 if isinstance(penalty, Flatness) else 1.0)
