"""A draw of every line by XLA, for accelerators and where Numba is not to be had."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._buckets import Bucket, LineBuckets, in_turn
from ._given import Given, LineDraws


@eqx.filter_jit
def draw_bucketed(
    lines: LineBuckets, given: Given, biased: Float[Array, ""], over: Float[Array, ""]
) -> LineDraws:
    """See `draw_lines`; arrays in float32."""
    other = given.other
    q, dtype = other.shape[1], other.dtype
    # A line's own bias sees a one, and the other side's biases are taken off; padding sees zeros.
    features = other.at[:, -1].set(biased)
    seen_by = jnp.concatenate([features, other[:, -1:], given.other_noise[:, None]], axis=1)
    seen_by = jnp.pad(seen_by, [(0, 1), (0, 0)])
    parts = lines.rows_of(
        jnp.concatenate([given.normal, given.own, given.own_noise[:, None]], axis=1)
    )
    precision = given.precision
    push = precision @ given.mean

    def block(after: Array, part: tuple[Bucket, Array]) -> tuple[Array, Array]:
        bucket, own = part
        z, before, level = own[:, :q], own[:, q:-1], own[:, -1:]
        near = seen_by[bucket.others]
        root = jnp.sqrt(bucket.weights * near[..., -1])
        target = bucket.values - near[..., q]
        # One product has the system, its right side and the squares of the target.
        seen = jnp.concatenate([near[..., :q], target[..., None]], axis=2) * root[..., None]
        gram = jnp.einsum("bdp,bdq->bpq", seen, seen)
        of_lines, of_target = gram[:, :q, :q], gram[:, :q, q]
        system = level[..., None] * of_lines + precision[None] + after
        right = level * of_target + push[None]
        factor = jnp.linalg.cholesky(system)
        half = jax.lax.linalg.triangular_solve(factor, right[..., None], left_side=True, lower=True)
        x = jax.lax.linalg.triangular_solve(
            factor,
            jnp.concatenate([half, jnp.sqrt(1 - over**2) * z[..., None]], axis=2),
            left_side=True,
            lower=True,
            transpose_a=True,
        )
        centre = x[..., 0]
        drawn = centre + x[..., 1] - over * (before - centre)
        fitted = jnp.einsum("bpq,bq->bp", of_lines, drawn)
        squares = gram[:, q, q] + jnp.sum(drawn * (fitted - 2 * of_target), axis=1)
        squares = jnp.maximum(squares, 0)[:, None]
        return x[0, 0, 0], jnp.concatenate([centre, drawn, squares], axis=1)

    solved = in_turn(block, list(zip(lines.buckets, parts, strict=True)), dtype)
    found = lines.lines_of([x for _, x in solved])
    kept = jnp.ones((1, q), dtype).at[:, -1].set(biased)
    return LineDraws(found[:, :q] * kept, found[:, q:-1] * kept, found[:, -1])
