"""Which directions to add: singular pairs of the residual that pay for themselves."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._factored_measurements import AbstractFactored
from .._low_rank_matrix import LowRankMatrix, leading_singular_triples, low_rank_product


class Grown(NamedTuple):
    """The matrix with what was added to it, and probes (n, k) for the next search."""

    X: LowRankMatrix
    probes: Array


def grown(
    F: AbstractFactored,
    X: LowRankMatrix,
    R: Array,
    probes: Float[Array, "n k"],
    fresh: Float[Array, "n k"],
    *,
    weight: Float[Array, ""],
    q: float,
    rank_limit: int,
    allowed: Array,
) -> Grown:
    """The matrix with those singular pairs of its residual R that pay for themselves.

    Along u v^T the residual falls by s^2 / (2 c) at the size s / c, c = ||A(u v^T)||^2, and the
    penalty rises by weight / q times that size to the power q. One sweep from the probes finds the
    pairs; a probe whose pair was added is replaced by a fresh one.
    """
    new = leading_singular_triples(F, -R, probes, sweeps=1)
    cover = F.square_norms(new.U, new.V)
    size = new.s / jnp.where(cover > 0, cover, 1.0)
    alive = jnp.sum(X.s > 0)
    room = alive + jnp.arange(len(size)) < rank_limit
    pays = (0.5 * new.s * size > weight * size**q / q) & (cover > 0)
    pays &= room & allowed

    def joined() -> LowRankMatrix:
        k = len(X.s)
        both = low_rank_product(
            jnp.concatenate([X.U * X.s[None], new.U * jnp.where(pays, size, 0.0)[None]], 1),
            jnp.concatenate([X.V, new.V], 1),
        )
        return jax.tree.map(lambda x: x[..., :k], both)

    X = jax.lax.cond(jnp.any(pays), joined, lambda: X)
    return Grown(X, jnp.where(pays[None], fresh / len(fresh) ** 0.5, new.V))
