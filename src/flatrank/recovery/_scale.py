"""Sizes of measured values."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def largest_modulus(values: Float[Array, " N"]) -> Float[Array, ""]:
    """The largest modulus, one where all values are zero: what one may divide by."""
    return _largest(jnp, values)


def safe_norm(xp: Any, values: Any) -> Any:
    """The Euclidean norm of values whose squares may not be numbers of their type, on either machine."""
    largest = _largest(xp, values)
    return largest * xp.linalg.norm(values / largest)


def _largest(xp: Any, values: Any) -> Any:
    largest = xp.max(xp.abs(values))
    return xp.where(largest > 0, largest, 1.0)
