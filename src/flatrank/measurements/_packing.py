"""Symmetric matrices as vectors of their upper triangles."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def pack(symmetric: Array, doubled: bool = False) -> Array:
    """The upper triangle as a vector; `doubled` counts each off-diagonal entry twice."""
    first, second = np.triu_indices(symmetric.shape[0])
    packed = symmetric[first, second]
    if doubled:
        packed = packed * jnp.asarray(np.where(first == second, 1.0, 2.0), packed.dtype)
    return packed


def unpack(packed: Array, size: int) -> Array:
    """The symmetric matrix with a given upper triangle."""
    first, second = np.triu_indices(size)
    place = np.zeros((size, size), np.int32)
    place[first, second] = place[second, first] = np.arange(len(first))
    return packed[place]
