"""One Gauss-Newton step for least squares with a ridge, on balanced factors X = P Q^T."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._factored_measurements import AbstractFactored, Pair
from .._low_rank_matrix import LowRankMatrix, low_rank_product
from ._conjugate_gradients import conjugate_gradients
from ._preconditioner import Preconditioner, inverse_blocks


class Moved(NamedTuple):
    """A Gauss-Newton step: where it led, its residual, the fraction taken, the inner steps."""

    X: LowRankMatrix
    R: Array
    fraction: Array
    inner_steps: Array


def gauss_newton(
    F: AbstractFactored,
    target: Array,
    X: LowRankMatrix,
    ridge: Float[Array, " k"],
    power: Array,
    accuracy: Array | float,
    max_steps: int,
    *,
    blocks: bool,
) -> Moved:
    """A step for 1/2 ||A(P Q^T) - y||^2 + 1/2 sum_i ridge_i (||p_i||^2 + ||q_i||^2), balanced.

    Solved to a relative `accuracy`, or as far as `max_steps` of conjugate gradients lead; `blocks`
    chooses the preconditioner. Directions with s = 0 stay zero. The step is halved while the objective
    rises.
    """
    root = jnp.sqrt(X.s)[None]
    P, Q = X.U * root, X.V * root

    def objective(P: Array, Q: Array, R: Array) -> Array:
        return 0.5 * (jnp.sum(R**2) + jnp.sum(ridge[None] * (P**2)) + jnp.sum(ridge[None] * Q**2))

    R = F.apply(P, Q) - target
    before = objective(P, Q, R)
    product, transpose = F.linearized(P, Q)

    def normal(step: Pair) -> Pair:
        back = transpose(product(step))
        return back[0] + ridge[None] * step[0], back[1] + ridge[None] * step[1]

    downhill = transpose(-R)
    downhill = downhill[0] - ridge[None] * P, downhill[1] - ridge[None] * Q
    dead = jnp.where(X.s > 0, 0.0, 1.0).astype(ridge.dtype)
    found = F.blocks(P, Q) if blocks else None
    if found is None:
        precondition = Preconditioner(None, 1 / (power * X.s + ridge + dead))
    else:
        # One batch, not two at the same time (decision 3).
        inverses = inverse_blocks(jnp.concatenate(found), ridge + dead)
        precondition = Preconditioner((inverses[: len(P)], inverses[len(P) :]), None)
    (dP, dQ), inner_steps = conjugate_gradients(normal, downhill, precondition, accuracy, max_steps)

    def moved(fraction: Array) -> tuple[Array, Array, Array, Array]:
        P_new, Q_new = P + fraction * dP, Q + fraction * dQ
        R = F.apply(P_new, Q_new) - target
        return P_new, Q_new, R, objective(P_new, Q_new, R)

    def halve(carry: tuple) -> tuple:
        return 0.5 * carry[0], moved(0.5 * carry[0])

    one = jnp.ones((), X.s.dtype)
    fraction, (P, Q, R, _) = jax.lax.while_loop(
        lambda carry: (carry[1][3] > before) & (carry[0] > 1e-2), halve, (one, moved(one))
    )
    new = low_rank_product(P, Q)
    eps = float(jnp.finfo(X.s.dtype).eps)
    new = new._replace(s=jnp.where(new.s > 50 * eps * new.s[0], new.s, 0.0))
    return Moved(new, R, fraction, inner_steps)
