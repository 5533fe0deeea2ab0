"""Sizes of measured values and of what the measurements make of a matrix."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def largest_modulus(values: Float[Array, " N"]) -> Float[Array, ""]:
    """The largest modulus, one where all values are zero: what one may divide by."""
    largest = jnp.max(jnp.abs(values))
    return jnp.where(largest > 0, largest, 1.0)


def safe_norm(values: Float[Array, " N"]) -> Float[Array, ""]:
    """The Euclidean norm of values whose squares may not be numbers of their type."""
    largest = jnp.max(jnp.abs(values))
    return largest * jnp.linalg.norm(values / jnp.where(largest > 0, largest, 1.0))
