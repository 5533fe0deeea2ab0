"""Matrices with a known answer."""

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import as_shape, positive_integer


def low_rank_matrix(key: PRNGKeyArray, shape: tuple[int, int], rank: int) -> Float[Array, "m n"]:
    """The product of two standard normal factors, shape (m, n), of the given rank.

    Raises ValueError for a rank above min(m, n).
    """
    m, n = as_shape(shape)
    if positive_integer(rank, "rank") > min(m, n):
        raise ValueError(f"`rank` must be at most min(m, n) = {min(m, n)}, found {rank}.")
    left, right = jax.random.split(key)
    return jax.random.normal(left, (m, rank)) @ jax.random.normal(right, (rank, n))
