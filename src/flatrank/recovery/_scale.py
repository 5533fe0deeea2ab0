"""Sizes of measured values and of what the measurements make of a matrix."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..measurements import AbstractMeasurements


def largest_modulus(values: Float[Array, " N"]) -> Float[Array, ""]:
    """The largest modulus, one where all values are zero: what one may divide by."""
    largest = jnp.max(jnp.abs(values))
    return jnp.where(largest > 0, largest, 1.0)


def safe_norm(values: Float[Array, " N"]) -> Float[Array, ""]:
    """The Euclidean norm of values whose squares may not be numbers of their type."""
    largest = jnp.max(jnp.abs(values))
    return largest * jnp.linalg.norm(values / jnp.where(largest > 0, largest, 1.0))


def power_of(A: AbstractMeasurements, y: Float[Array, " N"]) -> Float[Array, ""]:
    """p, for which ||A(X)||^2 is p ||X||_F^2 on average over X, in the type of y."""
    return (A.count * A.mean_square_norm() / (A.shape[0] * A.shape[1])).astype(y.dtype)
