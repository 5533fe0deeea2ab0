"""A table with holes by averaging over the factorisations that could have made it (`posterior`).

The number of directions grows while the weakest of them is more than noise; nothing is chosen on
held-out entries. A first chain, without them, says how large the error is; it goes on with them, and
its draws are the model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import require_memory
from ..network import DeepLinear
from .alternating import BiasedNetwork, Table, entry_table, with_all_entries
from .buckets import LineBuckets
from .posterior import Draws, State, draw_lines, first_state, moments, standard_chances, sweep

# The number of directions that is tried first; it doubles. With bias and label they are 16 numbers, a
# whole number of vector registers.
_FIRST_WIDTH = 14
# Sweeps after a change.
_SETTLING, _MOST_SETTLING = 5, 20
# A direction this much stronger than the strongest that noise alone would show is one of the table's.
_MORE_THAN_NOISE = 2.0
# How far draws go to the other side of the mean: see `draw_lines`.
_OVERRELAXATION = 0.9
# Draws when none are asked for: as many as this number of entries is visited, within bounds.
_VISITS, _MOST_DRAWS, _LEAST_DRAWS = 8e6, 40, 8


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

    def __init__(self, table: Table, biases: bool, seed: int):
        self.biased = jnp.float32(biases)
        self.random = np.random.default_rng(seed)
        self.key = jax.random.key(seed)
        self.history: list[float] = []
        self.over = 0.0
        self.take(table)

    def take(self, table: Table) -> None:
        """Go on with this table."""
        self.table = table
        self.degrees = table.by_column.degrees()

    @property
    def width(self) -> int:
        """The number of directions."""
        return self.state.rows.shape[1] - 1

    def step(self) -> tuple[State, jax.Array]:
        """The draw that a sweep begins with, its rows the conditional means."""
        chances = standard_chances(self.random, self.table.shape[0], self.degrees, self.width)
        self.key, key = jax.random.split(self.key)
        begin, over = self.state, jnp.float32(self.over)
        self.state, means, square = sweep(self.table, begin, chances, self.biased, over, key)
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

    def weakest(self) -> float:
        """The variance that the weakest direction explains, in units of the strongest of noise alone.

        That of noise in every entry of an m x n table would be its variance times (m^1/2 + n^1/2)^2 over
        the number of entries (Marchenko and Pastur).
        """
        grams = []
        for factors in (self.state.rows, self.state.columns):
            spread = np.asarray(factors, np.float64)[:, :-1]
            spread = spread - spread.mean(0)
            grams.append(spread.T @ spread / len(spread))
        shares = np.linalg.eigvals(grams[0] @ grams[1]).real
        noise = self.degrees @ (1 / np.asarray(self.state.noise_precision))
        m, n = self.table.shape
        return float(shares.min() * self.degrees.sum() ** 2 / (noise * (m**0.5 + n**0.5) ** 2))

    def draws(self, count: int, on_draw: Callable[[int], None]) -> Draws:
        """So many draws, one a sweep."""
        self.over, found = _OVERRELAXATION, []
        for k in range(count):
            begin, means = self.step()
            found.append(begin._replace(rows=means))
            on_draw(k)
        self.over = 0.0
        return Draws(
            *(np.stack([np.asarray(x) for x in parts]) for parts in zip(*found, strict=True))
        )


def number_of_draws(count: int) -> int:
    """How many draws a table of so many entries is worth: more entries leave less to average."""
    return int(np.clip(_VISITS / max(count, 1), _LEAST_DRAWS, _MOST_DRAWS))


def average(
    rows: np.ndarray,
    columns: np.ndarray,
    unit: np.ndarray,
    shape: tuple[int, int],
    held: np.ndarray,
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
    some = entry_table(rows, columns, unit, ~held, shape, widest)
    chain = _Chain(some, biases, seed)
    tell("how many directions", 0.05)
    if start is not None:
        chain.state = _continued(start, shape, chain.random)
        chain.steps(_SETTLING)
    else:
        now = min(_FIRST_WIDTH, most_width) if width is None else width
        chain.state = first_state(shape, now, chain.random)
        chain.settle()
        while width is None and now < most_width and chain.weakest() > _MORE_THAN_NOISE:
            # Anew: a settled chain does not find room for new directions.
            now = min(2 * now + 2, most_width)
            chain.state = first_state(shape, now, chain.random)
            chain.settle()

    held_mean = held_variance = np.zeros(0)
    if held.any():
        part = chain.draws(
            max(draws // 2, 1), lambda k: tell("measuring the error", 0.2 + 0.3 * k / draws)
        )
        held_mean, held_variance = entry_moments(part, rows[held], columns[held])
        chain.take(with_all_entries(some))
        chain.steps(_SETTLING // 2)
    found = chain.draws(draws, lambda k: tell("averaging", 0.4 + 0.5 * k / draws))
    return Average(
        found,
        _middle(found),
        _strength(found, chain.table),
        np.asarray(chain.history),
        held_mean,
        held_variance,
    )


def folded_in(draws: Draws, lines: LineBuckets, biases: bool) -> Float[np.ndarray, "count n"]:
    """Mean values of new rows, of which some entries are known, given the columns of each draw."""
    size = len(lines.place), draws.columns.shape[2]
    nothing, ones = jnp.zeros(size, jnp.float32), jnp.ones(size[0], jnp.float32)
    total = np.zeros((size[0], draws.columns.shape[1]))
    for k in range(len(draws.columns)):
        V, mean, precision, noise = (
            jnp.asarray(part[k])
            for part in (
                draws.columns,
                draws.row_mean,
                draws.row_precision,
                draws.noise_precision,
            )
        )
        means, _, _ = draw_lines(
            lines, V, nothing, mean, precision, (ones, noise), jnp.float32(biases),
            jnp.float32(0), nothing,
        )  # fmt: skip
        total += biased_product(np.asarray(means), draws.columns[k])
    return total / len(draws.columns)


def biased_product(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The values of factors that end with the bias, (m, q) and (n, q): (m, n)."""
    return rows[:, :-1] @ columns[:, :-1].T + rows[:, -1:] + columns[None, :, -1]


def predicted_deviations(draws: Draws, columns: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Standard deviations of new values in these columns that vary so much over the draws."""
    return np.sqrt(variance + np.mean(1 / draws.noise_precision, axis=0)[columns])


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


def _continued(draws: Draws, shape: tuple[int, int], random: np.random.Generator) -> State:
    """The last draw as a state, with new lines small and random, and as noisy as the others."""
    last = State(*(part[-1] for part in draws))
    first = first_state(shape, last.rows.shape[1] - 1, random)

    def extended(old: Array | np.ndarray, new: Array) -> Array:
        return jnp.concatenate([jnp.asarray(old), new[len(old) :]])

    even = jnp.full(shape[1], last.noise_level, jnp.float32)
    return State(*(jnp.asarray(part) for part in last))._replace(
        rows=extended(last.rows, first.rows),
        columns=extended(last.columns, first.columns),
        noise_precision=extended(last.noise_precision, even),
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


def _strength(draws: Draws, table: Table) -> float:
    """The strength of weight decay that the draws have on average, as `complete` means it."""
    # Invariant under changes of basis: geometric means over directions and over both layers.
    logarithms = [
        np.linalg.slogdet(precision[:, :-1, :-1])[1] / (precision.shape[1] - 1)
        for precision in (draws.row_precision, draws.column_precision)
    ]
    noise = np.mean(1 / draws.noise_precision, axis=1)
    return float(np.mean(np.exp(0.5 * (logarithms[0] + logarithms[1])) * noise) / table.count)
