"""A matrix of low rank as its singular value decomposition; the matrix itself is never formed."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._order import after
from ..network import svd_of_product
from ._factored_measurements import AbstractFactored


class LowRankMatrix(NamedTuple):
    """A matrix U diag(s) V^T: U (m, k), s (k,), V (n, k); unused columns have s = 0."""

    U: Array
    s: Array
    V: Array


def low_rank_product(P: Float[Array, "m k"], Q: Float[Array, "n k"]) -> LowRankMatrix:
    """The singular value decomposition of P Q^T; the matrix is not formed."""
    u, s, vt = svd_of_product(P, Q)
    return LowRankMatrix(u, s, vt.T)


@eqx.filter_jit
def leading_singular_triples(
    F: AbstractFactored, residual: Array, start: Float[Array, "n k"], sweeps: int
) -> LowRankMatrix:
    """The k leading singular triples of A*(residual), by subspace iteration from a start."""

    def image(V: Array) -> Array:
        return jnp.linalg.qr(F.times(residual, V))[0]

    def sweep(_: Array, V: Array) -> Array:
        return jnp.linalg.qr(F.times_transposed(residual, image(V)))[0]

    V = jax.lax.fori_loop(0, sweeps - 1, sweep, jnp.linalg.qr(start)[0])
    U = image(V)
    return _svd_of_image(U, F.times_transposed(residual, U))


def _svd_of_image(U: Float[Array, "m k"], Z: Float[Array, "n k"]) -> LowRankMatrix:
    """The singular value decomposition of U Z^T for orthonormal U."""
    right, upper = jnp.linalg.qr(Z)
    a, s, bt = jnp.linalg.svd(after(right, upper.T), full_matrices=False)
    return LowRankMatrix(U @ a, s, right @ bt.T)
