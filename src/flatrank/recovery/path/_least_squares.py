"""Noisy measurements: the rank that stands out of the noise, and least squares at that rank.

The penalty chooses the rank and is then let go: its shrinkage would only add to the error. What is left
is the estimate that an oracle would make who knew the rank.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..._progress import OnStep
from .._factored_measurements import AbstractFactored
from .._low_rank_matrix import LowRankMatrix
from .._step_limits import StepLimits
from ._gauss_newton import gauss_newton
from ._homotopy import PathEnd, homotopy

# A singular pair stays if it is this much larger than the largest that pure noise would give: the
# optimal hard threshold, (4 / sqrt 3) / 2 (Gavish and Donoho 2014).
_STANDS_OUT = 2 / 3**0.5


class Fit(NamedTuple):
    """A least-squares fit at its rank: the matrix, ||A(X) - y||^2, its rank, and the path to it."""

    X: LowRankMatrix
    square: Array
    rank: Array
    path: PathEnd


@eqx.filter_jit
def fit_above_noise(
    F: AbstractFactored,
    y: Array,
    shape: tuple[int, int],
    power: Array,
    depth: int,
    limit: int,
    key: PRNGKeyArray,
    noise: Array,
    limits: StepLimits,
    on_step: OnStep | None = None,
) -> Fit:
    """Least squares at the rank that stands out of noise of the given standard deviation.

    `shape` is that of the matrix, `power` is p (see `_homotopy.py`), `limit` the largest rank.
    """
    m, n = shape
    q = 2 / depth
    # The largest singular pair of pure noise, as a size of the matrix; at this t it just pays.
    loudest = _STANDS_OUT * noise * (m**0.5 + n**0.5) / jnp.sqrt(power)
    floor = (q / 2) ** (1 / (2 - q)) * loudest
    path = homotopy(F, y, shape, power, depth, limit, key, limits, floor=floor, on_step=on_step)
    target = F.arranged(y)
    count = len(y)

    def refit(X: LowRankMatrix) -> tuple[LowRankMatrix, Array]:
        def step(carry: tuple) -> tuple:
            X, now, _, steps = carry
            moved = gauss_newton(
                F, target, X, jnp.zeros_like(X.s), power, 0.01, limits.inner, blocks=True
            )
            square = jnp.sum(moved.R**2)
            better = square < now
            X = jax.tree.map(lambda new, old: jnp.where(better, new, old), moved.X, X)
            return X, jnp.minimum(square, now), now, steps + 1

        def falling(carry: tuple) -> Array:
            _, now, before, steps = carry
            return (steps < 30) & (now < (1 - 1e-7) * before)

        first = jnp.sum((F.apply(X.U * X.s[None], X.V) - target) ** 2)
        X, square, *_ = jax.lax.while_loop(
            falling, step, (X, first, jnp.asarray(jnp.inf, y.dtype), jnp.asarray(0))
        )
        return X, square

    def at_rank(rank: Array) -> tuple[LowRankMatrix, Array]:
        # From the penalised matrix each time: least squares at too large a rank is unstable.
        kept = jnp.where(jnp.arange(limit) < rank, path.X.s, 0.0)
        return refit(path.X._replace(s=kept))

    def drop(carry: tuple) -> tuple:
        X, square, rank, _ = carry
        smaller, larger_square = at_rank(rank - 1)
        freedom = (count - (rank - 1) * (m + n - rank + 1)).astype(y.dtype)
        # A direction goes if pure noise could gain as much, or if noise explains what is left.
        idle = larger_square - square < power * loudest**2
        idle |= larger_square < noise**2 * (freedom + 2 * (2 * freedom) ** 0.5)
        X = jax.tree.map(lambda a, b: jnp.where(idle, a, b), smaller, X)
        square = jnp.where(idle, larger_square, square)
        return X, square, jnp.where(idle, rank - 1, rank), idle

    rank = jnp.maximum(jnp.sum(path.X.s > 0.5 * loudest), 1)
    X, square = at_rank(rank)
    X, square, rank, _ = jax.lax.while_loop(
        lambda carry: carry[3] & (carry[2] > 1), drop, (X, square, rank, jnp.asarray(True))
    )
    return Fit(X, square, rank, path)
