"""Norms and ranks of a matrix or of a network's end-to-end matrix."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .network import DeepLinear

Matrix = Float[Array, "m n"] | DeepLinear


def singular_values(matrix: Matrix) -> Float[Array, " k"]:
    """The singular values, largest first; of a network, without forming its matrix."""
    if isinstance(matrix, DeepLinear):
        return matrix.svd()[1]
    return jnp.linalg.svd(matrix, compute_uv=False)


def schatten_norm(matrix: Matrix, p: float) -> Float[Array, ""]:
    """The Schatten-p norm (sum_i s_i^p)^{1/p}; for p < 1 a quasi-norm.

    Raises ValueError if p is not positive.
    """
    if not p > 0:
        raise ValueError(f"`p` must be positive, found {p}; the rank is the limit p -> 0.")
    s = singular_values(matrix)
    if p == float("inf"):
        return s[0]
    scale = jnp.where(s[0] > 0, s[0], 1.0)
    return scale * jnp.sum((s / scale) ** p) ** (1 / p)


def nuclear_norm(matrix: Matrix) -> Float[Array, ""]:
    """The sum of the singular values."""
    return jnp.sum(singular_values(matrix))


def weighted_trace_norm(
    matrix: Matrix, row_weights: Float[Array, " m"], column_weights: Float[Array, " n"]
) -> Float[Array, ""]:
    """|| diag(row_weights)^{1/2} M diag(column_weights)^{1/2} ||_* (Foygel and Srebro 2011)."""
    if isinstance(matrix, DeepLinear):
        left, right = matrix.factors()
        weighted = (jnp.sqrt(row_weights)[:, None] * left, right * jnp.sqrt(column_weights)[None])
        return nuclear_norm(DeepLinear(weighted[::-1]))
    rows, columns = jnp.sqrt(row_weights)[:, None], jnp.sqrt(column_weights)[None]
    return nuclear_norm(rows * matrix * columns)


def effective_rank(matrix: Matrix) -> Float[Array, ""]:
    """exp of the Shannon entropy of the normalised singular values (Roy and Vetterli 2007)."""
    s = singular_values(matrix)
    share = s / jnp.where(s[0] > 0, jnp.sum(s), 1.0)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(share, share)))


def stable_rank(matrix: Matrix) -> Float[Array, ""]:
    """||M||_F^2 / ||M||_2^2, 0 for the zero matrix."""
    s = singular_values(matrix)
    return jnp.sum((s / jnp.where(s[0] > 0, s[0], 1.0)) ** 2)


def numerical_rank(matrix: Matrix, tolerance: float | None = None) -> jax.Array:
    """The number of singular values above tolerance * s_1 (default: max(m, n) * machine epsilon)."""
    s = singular_values(matrix)
    if tolerance is None:
        tolerance = max(matrix.shape) * float(jnp.finfo(s.dtype).eps)
    return jnp.sum(s > tolerance * s[0])
