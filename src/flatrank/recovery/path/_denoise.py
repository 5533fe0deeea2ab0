"""Noisy measurements: the rank that stands out of the noise, and least squares at that rank.

The penalty chooses the rank and is then let go: its shrinkage would only add to the error. What is left
is the estimate that an oracle would make who knew the rank.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ...measurements import AbstractMeasurements
from .._solution import Callback
from ._factored import AbstractFactored, factored
from ._homotopy import (
    WIDER,
    Low,
    Path,
    determined_rank,
    gauss_newton,
    homotopy,
    power_of,
)

# A singular pair stays if it is this much larger than the largest that pure noise would give: the
# optimal hard threshold, (4 / sqrt 3) / 2 (Gavish and Donoho 2014).
_STANDS_OUT = 2 / 3**0.5
# Below this fraction of the measurements' size noise cannot be told from round-off.
_EXACT = 1e5
_HELD_OUT = 0.1


class Fit(NamedTuple):
    """A least-squares fit at its rank: the matrix, ||A(X) - y||^2, its rank, and the path to it."""

    low: Low
    square: Array
    rank: Array
    path: Path


def denoise(
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    noise: Float[Array, ""],
    depth: int,
    width: int | None,
    key: PRNGKeyArray,
    callback: Callback | None = None,
) -> Fit:
    """Least squares at the rank that stands out of noise of a given standard deviation."""
    limit = determined_rank(A, width)
    F = factored(A, WIDER * limit)
    return _denoise(F, y, A.shape, power_of(A, y), depth, limit, key, noise, callback)


@eqx.filter_jit
def _denoise(
    F: AbstractFactored,
    y: Array,
    shape: tuple[int, int],
    power: Array,
    depth: int,
    limit: int,
    key: PRNGKeyArray,
    noise: Array,
    callback: Callback | None = None,
) -> Fit:
    m, n = shape
    q = 2 / depth
    # The largest singular pair of pure noise, as a size of the matrix; at this t it just pays.
    loudest = _STANDS_OUT * noise * (m**0.5 + n**0.5) / jnp.sqrt(power)
    floor = (q / 2) ** (1 / (2 - q)) * loudest
    path = homotopy(F, y, shape, power, depth, limit, key, floor, callback=callback)
    target = F.arranged(y)
    count = len(y)

    def refit(low: Low) -> tuple[Low, Array]:
        def step(carry: tuple) -> tuple:
            low, now, _, steps = carry
            moved = gauss_newton(F, target, low, jnp.zeros_like(low.s), power, 0.01, blocks=True)
            square = jnp.sum(moved.R**2)
            better = square < now
            low = jax.tree.map(lambda new, old: jnp.where(better, new, old), moved.low, low)
            return low, jnp.minimum(square, now), now, steps + 1

        def falling(carry: tuple) -> Array:
            _, now, before, steps = carry
            return (steps < 30) & (now < (1 - 1e-7) * before)

        first = jnp.sum((F.apply(low.U * low.s[None], low.V) - target) ** 2)
        low, square, *_ = jax.lax.while_loop(
            falling, step, (low, first, jnp.asarray(jnp.inf, y.dtype), jnp.asarray(0))
        )
        return low, square

    def at_rank(rank: Array) -> tuple[Low, Array]:
        # From the penalised matrix each time: least squares at too large a rank is unstable.
        kept = jnp.where(jnp.arange(limit) < rank, path.low.s, 0.0)
        return refit(path.low._replace(s=kept))

    def drop(carry: tuple) -> tuple:
        low, square, rank, _ = carry
        smaller, larger_square = at_rank(rank - 1)
        freedom = (count - (rank - 1) * (m + n - rank + 1)).astype(y.dtype)
        # A direction goes if pure noise could gain as much, or if noise explains what is left.
        idle = larger_square - square < power * loudest**2
        idle |= larger_square < noise**2 * (freedom + 2 * (2 * freedom) ** 0.5)
        low = jax.tree.map(lambda a, b: jnp.where(idle, a, b), smaller, low)
        square = jnp.where(idle, larger_square, square)
        return low, square, jnp.where(idle, rank - 1, rank), idle

    rank = jnp.maximum(jnp.sum(path.low.s > 0.5 * loudest), 1)
    low, square = at_rank(rank)
    low, square, rank, _ = jax.lax.while_loop(
        lambda carry: carry[3] & (carry[2] > 1), drop, (low, square, rank, jnp.asarray(True))
    )
    return Fit(low, square, rank, path)


def estimated_noise(
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    depth: int,
    width: int | None,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """The standard deviation of the noise, zero where it cannot be told from round-off.

    A tenth of the measurements is held out of a path; the least error on them bounds the noise from
    above. Least squares at the rank that stands out of it then gives the residual's standard
    deviation, with the degrees of freedom of the fit taken off.
    """
    split_key, key = jax.random.split(key)
    order = jax.random.permutation(split_key, A.count)
    held = max(1, int(_HELD_OUT * A.count))
    kept_A, held_A = A.part(order[held:]), A.part(order[:held])
    kept_y, held_y = y[order[held:]], y[order[:held]]
    m, n = A.shape
    limit = determined_rank(kept_A, width)
    F = factored(kept_A, WIDER * limit)
    power = power_of(kept_A, y)
    watch = (factored(held_A, limit), held_y)
    path = homotopy(F, kept_y, A.shape, power, depth, limit, key, watch=watch)
    size = jnp.linalg.norm(held_y) / held**0.5
    above = path.residual * size
    if float(path.residual) < _EXACT * float(jnp.finfo(y.dtype).eps):
        return jnp.zeros_like(above)
    noise = above
    for _ in range(2):
        fit = _denoise(F, kept_y, A.shape, power, depth, limit, key, noise)
        freedom = kept_A.count - fit.rank * (m + n - fit.rank)
        noise = jnp.sqrt(fit.square / jnp.maximum(freedom, 1).astype(y.dtype))
    return noise
