"""Norms and ranks of a matrix or of a network's end-to-end matrix."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._checks import as_floating, as_number, as_positive
from .network import DeepLinear, as_matrix, as_network, held_network


def singular_values(matrix: Any) -> Float[Array, " k"]:
    """The singular values, largest first; of a network, without forming its matrix.

    Here and below a matrix is a real array of shape (m, n), a network or a `Solution`. Raises TypeError
    or ValueError for anything else.
    """
    if held_network(matrix) is not None:
        return as_network(matrix, "matrix").svd()[1]
    return jnp.linalg.svd(as_matrix(matrix, finite=False), compute_uv=False)


def schatten_norm(matrix: Any, p: float) -> Float[Array, ""]:
    """The Schatten-p norm (sum_i s_i^p)^{1/p}; for p < 1 a quasi-norm.

    Raises ValueError if p is not positive.
    """
    if not as_number(p, "p", "pass 1 for the nuclear norm, 2 for Frobenius") > 0:
        raise ValueError(f"`p` must be positive, found {p}; the rank is the limit p -> 0.")
    s = singular_values(matrix)
    if p == float("inf"):
        return s[0]
    scale = jnp.where(s[0] > 0, s[0], 1.0)
    return scale * jnp.sum((s / scale) ** p) ** (1 / p)


def nuclear_norm(matrix: Any) -> Float[Array, ""]:
    """The sum of the singular values."""
    return jnp.sum(singular_values(matrix))


def weighted_trace_norm(matrix: Any, row_weights: Any, column_weights: Any) -> Float[Array, ""]:
    """|| diag(row_weights)^{1/2} M diag(column_weights)^{1/2} ||_* (Foygel and Srebro 2011).

    Raises ValueError unless there is one weight for each row and one for each column.
    """
    weights = (
        as_floating(row_weights, "row_weights", 1),
        as_floating(column_weights, "column_weights", 1),
    )
    network = None if held_network(matrix) is None else as_network(matrix, "matrix")
    matrix = as_matrix(matrix, finite=False) if network is None else matrix
    shape = matrix.shape if network is None else network.shape
    if shape != (len(weights[0]), len(weights[1])):
        raise ValueError(
            f"`row_weights` and `column_weights` have {len(weights[0])} and {len(weights[1])} numbers "
            f"and `matrix` has shape {shape}: pass one for each row and one for each column."
        )
    rows, columns = jnp.sqrt(weights[0])[:, None], jnp.sqrt(weights[1])[None]
    if network is None:
        return nuclear_norm(rows * matrix * columns)
    left, right = network.factors()
    return nuclear_norm(DeepLinear((right * columns, rows * left)))


def effective_rank(matrix: Any) -> Float[Array, ""]:
    """exp of the Shannon entropy of the normalised singular values (Roy and Vetterli 2007)."""
    s = singular_values(matrix)
    share = s / jnp.where(s[0] > 0, jnp.sum(s), 1.0)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(share, share)))


def stable_rank(matrix: Any) -> Float[Array, ""]:
    """||M||_F^2 / ||M||_2^2, 0 for the zero matrix."""
    s = singular_values(matrix)
    return jnp.sum((s / jnp.where(s[0] > 0, s[0], 1.0)) ** 2)


def numerical_rank(matrix: Any, tolerance: Any = None) -> jax.Array:
    """The number of singular values above tolerance * s_1 (default: max(m, n) * machine epsilon)."""
    s = singular_values(matrix)
    if tolerance is None:
        network = held_network(matrix)
        m, n = jnp.shape(matrix) if network is None else network.shape
        tolerance = max(m, n) * float(jnp.finfo(s.dtype).eps)
    else:
        tolerance = as_positive(tolerance, "tolerance", "leave it out for round-off", zero=True)
    return jnp.sum(s > tolerance * s[0])
