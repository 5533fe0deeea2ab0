"""Preconditioned conjugate gradients on a pair of factors (Hestenes and Stiefel 1952)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._factored_measurements import Pair
from ._preconditioner import Preconditioner


def conjugate_gradients(
    normal: Callable[[Pair], Pair],
    right: Pair,
    precondition: Preconditioner,
    accuracy: Array | float,
    max_steps: int,
) -> tuple[Pair, Array]:
    """The solution to a relative accuracy in the preconditioner's norm, and the steps taken."""

    def dot(a: Pair, b: Pair) -> Array:
        return jnp.vdot(a[0], b[0]) + jnp.vdot(a[1], b[1])

    def add(a: Pair, factor: Array, b: Pair) -> Pair:
        return a[0] + factor * b[0], a[1] + factor * b[1]

    def iterate(carry: tuple) -> tuple:
        x, r, direction, size, steps = carry
        image = normal(direction)
        length = size / dot(direction, image)
        x, r = add(x, length, direction), add(r, -length, image)
        z = precondition(r)
        new = dot(r, z)
        return x, r, add(z, new / size, direction), new, steps + 1

    z = precondition(right)
    first = dot(right, z)
    x, _, _, _, steps = jax.lax.while_loop(
        lambda carry: (carry[3] > accuracy**2 * first) & (carry[4] < max_steps),
        iterate,
        (jax.tree.map(jnp.zeros_like, right), right, z, first, jnp.asarray(0)),
    )
    return x, steps
