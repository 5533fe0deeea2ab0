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
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from ..._checks import require_memory
from ...network import DeepLinear
from .._buckets import line_buckets
from ..single import BiasedNetwork
from ._compressed import compressed_lines, compressible
from ._posterior import (
    Draws,
    Lines,
    State,
    draw_lines,
    first_state,
    moments,
    sweep,
)

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
_VISITS, _MOST_DRAWS, _LEAST_DRAWS = 1.3e7, 40, 8


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
    """A chain of draws on a table, given by its rows and by its columns."""

    state: State

    def __init__(self, table: tuple[Lines, Lines], biases: bool, seed: int):
        self.take(table)
        self.biased = biases
        self.random = np.random.default_rng(seed)
        self.history: list[float] = []
        self.over = 0.0

    def take(self, table: tuple[Lines, Lines]) -> None:
        """Go on with this table."""
        self.table = table
        # Once, not in every sweep: an accelerator has to give the weights back for it.
        self.degrees = table[1].degrees()

    @property
    def width(self) -> int:
        """The number of directions."""
        return self.state.rows.shape[1] - 1

    def step(self) -> tuple[State, np.ndarray]:
        """The draw that a sweep begins with, and its rows' conditional means."""
        begin = self.state
        self.state, means, square = sweep(
            *self.table, self.degrees, begin, self.biased, self.over, self.random
        )
        self.history.append(square)
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
            spread = factors[:, :-1].astype(float)
            spread = spread - spread.mean(0)
            grams.append(spread.T @ spread / len(spread))
        shares = np.linalg.eigvals(grams[0] @ grams[1]).real
        noise = self.degrees @ (1 / self.state.noise_precision.astype(float))
        m, n = (len(factors) for factors in (self.state.rows, self.state.columns))
        return float(shares.min() * self.degrees.sum() ** 2 / (noise * (m**0.5 + n**0.5) ** 2))

    def draws(self, count: int, on_draw: Callable[[int], None]) -> Draws:
        """So many draws, one a sweep."""
        self.over, found = _OVERRELAXATION, []
        for k in range(count):
            begin, means = self.step()
            found.append(begin._replace(rows=means))
            on_draw(k)
        self.over = 0.0
        return Draws(*(np.stack(parts) for parts in zip(*found, strict=True)))


def number_of_draws(count: int) -> int:
    """How many draws a table of so many entries is worth: more entries leave less to average."""
    return int(np.clip(_VISITS / max(count, 1), _LEAST_DRAWS, _MOST_DRAWS))


# Between its small products OpenBLAS keeps the cores busy waiting, which the draws need: twice the time.
@threadpool_limits.wrap(limits=1, user_api="blas")
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

    def table(used: np.ndarray) -> tuple[Lines, Lines]:
        return (
            _arranged(rows, columns, unit, used, shape, widest),
            _arranged(columns, rows, unit, used, shape[::-1], widest),
        )

    chain = _Chain(table(~held), biases, seed)
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
        held_mean, held_variance = moments(part, rows[held], columns[held])
        chain.take(table(np.ones(len(unit), bool)))
        chain.steps(_SETTLING // 2)
    found = chain.draws(draws, lambda k: tell("averaging", 0.4 + 0.5 * k / draws))
    return Average(
        found,
        _middle(found),
        _strength(found, len(unit)),
        np.asarray(chain.history),
        held_mean,
        held_variance,
    )


def _arranged(
    lines: np.ndarray,
    others: np.ndarray,
    values: np.ndarray,
    used: np.ndarray,
    shape: tuple[int, int],
    width: int,
) -> Lines:
    """The used entries of shape[0] lines, as the machine at hand draws them fastest."""
    if jax.default_backend() == "cpu" and compressible():
        if not used.all():
            lines, others, values = lines[used], others[used], values[used]
        return compressed_lines(lines, others, values, shape[0])
    # Without weight, not left out: so that shapes, which are compiled, do not depend on it.
    return line_buckets(lines, others, values, used.astype(np.float32), shape, width)


def folded_in(
    draws: Draws,
    rows: np.ndarray,
    columns: np.ndarray,
    unit: np.ndarray,
    count: int,
    biases: bool,
) -> Float[np.ndarray, "count n"]:
    """Mean values of `count` new rows, of which some entries are known, given each draw's columns."""
    n, q = draws.columns.shape[1:]
    lines = _arranged(rows, columns, unit, np.ones(len(unit), bool), (count, n), q - 1)
    nothing, ones = np.zeros((count, q), np.float32), np.ones(count, np.float32)
    total = np.zeros((count, n))
    for V, mean, precision, noise in zip(
        draws.columns, draws.row_mean, draws.row_precision, draws.noise_precision, strict=True
    ):
        means, _, _ = draw_lines(
            lines, V, nothing, mean, precision, (ones, noise), biases, 0.0, nothing
        )
        total += biased_product(means, V)
    return total / len(draws.columns)


def biased_product(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The values of factors that end with the bias, (m, q) and (n, q): (m, n)."""
    return rows[:, :-1] @ columns[:, :-1].T + rows[:, -1:] + columns[None, :, -1]


def predicted_deviations(draws: Draws, columns: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Standard deviations of new values in these columns that vary so much over the draws."""
    return np.sqrt(variance + np.mean(1 / draws.noise_precision, axis=0)[columns])


def _continued(draws: Draws, shape: tuple[int, int], random: np.random.Generator) -> State:
    """The last draw as a state, with new lines small and random, and as noisy as the others."""
    last = State(*(part[-1] for part in draws))
    first = first_state(shape, last.rows.shape[1] - 1, random)

    def extended(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.concatenate([old, new[len(old) :]])

    even = np.full(shape[1], last.noise_level, np.float32)
    return last._replace(
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
    # Balanced, as `DeepLinear.from_svd` has it.
    layers = np.sqrt(s)[:, None] * (V @ vt.T).T, (U @ u) * np.sqrt(s)
    return BiasedNetwork(
        DeepLinear([layer.astype(np.float32) for layer in layers]),
        jnp.asarray(draws.rows[..., -1].mean(0)),
        jnp.asarray(draws.columns[..., -1].mean(0)),
    )


def _strength(draws: Draws, count: int) -> float:
    """The strength of weight decay that the draws have on average, as `complete` means it."""
    # Invariant under changes of basis: geometric means over directions and over both layers.
    logarithms = [
        np.linalg.slogdet(precision[:, :-1, :-1])[1] / (precision.shape[1] - 1)
        for precision in (draws.row_precision, draws.column_precision)
    ]
    noise = np.mean(1 / draws.noise_precision, axis=1)
    return float(np.mean(np.exp(0.5 * (logarithms[0] + logarithms[1])) * noise) / count)
