"""The same problem for a matrix of unit Frobenius norm, so that one set of constants fits all."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...measurements import AbstractMeasurements
from ...network import DeepLinear


class UnitProblem(NamedTuple):
    """Values for a matrix of unit norm, and what leads back to those that were measured.

    `weight` * mean(residual^2) is about ||W - M||_F^2, exactly so in the isotropic ensemble. `norm` is
    the norm of the matrix, estimated from y; zero if y is. `scale` is the norm, one where it is zero.
    """

    y: Float[Array, " N"]
    weight: Float[Array, ""]
    norm: Float[Array, ""]
    scale: Float[Array, ""]

    def restored(self, network: DeepLinear) -> DeepLinear:
        """The network in the scale of y; measurements that are zero are those of the zero matrix."""
        zero = jax.tree.map(jnp.zeros_like, network)
        return choose(self.norm > 0, network.scaled(self.norm), zero)


def unit_problem(A: AbstractMeasurements, y: Float[Array, " N"], dtype: Any) -> UnitProblem:
    """The unit problem of measured values; `dtype` is that of the network."""
    m, n = A.shape
    weight = (m * n / A.mean_square_norm()).astype(dtype)
    # Through the largest value: the square of a value of 1e30 is infinite in float32.
    largest = jnp.max(jnp.abs(y))
    norm = largest * jnp.sqrt(weight * jnp.mean((y / jnp.where(largest > 0, largest, 1.0)) ** 2))
    scale = jnp.where(norm > 0, norm, 1.0)
    return UnitProblem(y / scale, weight, norm, scale)


def choose(condition: Array, yes: DeepLinear, no: DeepLinear) -> DeepLinear:
    """The first network where a traced condition holds, else the second."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
