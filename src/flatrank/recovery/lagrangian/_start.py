"""Where the augmented Lagrangian starts: a network whose matrix has unit Frobenius norm."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._checks import positive_integer
from ...measurements import AbstractMeasurements, EntryMeasurements, RankOneMeasurements
from ...network import DeepLinear
from .._degrees_of_freedom import sufficient_width
from .._low_rank_matrix import leading_singular_triples
from .._machine import XLA
from .._scale import largest_modulus
from ..factored import factored


def unit_start(
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    depth: int,
    width: int | None,
    key: PRNGKeyArray | None,
) -> DeepLinear:
    width = sufficient_width(A) if width is None else positive_integer(width, "width")
    if key is not None:
        m, n = A.shape
        random = DeepLinear.gaussian(key, A.shape, depth, width, scale=(m * n) ** -0.5)
        return DeepLinear(tuple(layer.astype(y.dtype) for layer in random.layers))
    if isinstance(A, EntryMeasurements | RankOneMeasurements):
        # Leading singular triples of a matrix that is not formed.
        F = factored(A, width, XLA, y.dtype)
        guess = jax.random.normal(jax.random.key(0), (A.shape[1], width), y.dtype)
        X = leading_singular_triples(F, F.arranged(y / largest_modulus(y)), guess, sweeps=5)
        s = X.s / jnp.where(X.s[0] > 0, jnp.linalg.norm(X.s), 1.0)
        return DeepLinear.from_svd(X.U, s, X.V.T, depth, width)
    back = A.adjoint(y / largest_modulus(y))
    norm = jnp.linalg.norm(back)
    return DeepLinear.balanced(back / jnp.where(norm > 0, norm, 1.0), depth, width)
