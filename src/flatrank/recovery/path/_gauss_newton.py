"""One Gauss-Newton step for least squares with a ridge, on balanced factors X = P Q^T."""

from typing import Any, NamedTuple

from .._conjugate_gradients import conjugate_gradients
from .._low_rank_matrix import LowRankMatrix, low_rank_product
from .._machine import Stop
from ..factored import AbstractFactored


class Moved(NamedTuple):
    """A Gauss-Newton step: where it led, its residual, the fraction taken, the inner steps."""

    X: LowRankMatrix
    R: Any
    fraction: Any
    inner_steps: Any


def gauss_newton(
    F: AbstractFactored,
    target: Any,
    X: LowRankMatrix,
    ridge: Any,
    accuracy: Any,
    max_steps: int,
    *,
    blocks: bool,
    eps: float,
    stop: Stop | None,
    boldness: Any = 1.0,
) -> Moved:
    """A step for 1/2 ||A(P Q^T) - y||^2 + 1/2 sum_i ridge_i (||p_i||^2 + ||q_i||^2), balanced.

    Solved to a relative `accuracy`, or as far as `max_steps` of conjugate gradients lead; `blocks`
    chooses the preconditioner. Directions with s = 0 stay zero. The step is halved while the objective
    rises above `boldness` times what it was. Singular values at the data's resolution `eps` become zero.
    """
    machine, xp = F.machine, F.machine.xp
    m, _ = F.shape
    Z = X.factors(machine)

    def objective(Z: Any, R: Any) -> Any:
        return 0.5 * (xp.vdot(R, R) + xp.sum(ridge[None] * (Z * Z)))

    R = F.apply(Z) - target
    before = objective(Z, R)
    J = F.linearized(Z)
    downhill = J.transpose(-R) - ridge[None] * Z
    equations = F.normal_equations(Z, J, ridge, blocks=blocks)
    step, inner_steps = conjugate_gradients(machine, equations, downhill, accuracy, max_steps, stop)
    step = xp.where(xp.isfinite(xp.vdot(step, step)), step, 0.0)

    def moved(fraction: Any) -> tuple[Any, Any, Any]:
        Z_new = Z + fraction * step
        R = F.apply(Z_new) - target
        return Z_new, R, objective(Z_new, R)

    def halve(carry: tuple) -> tuple:
        return 0.5 * carry[0], moved(0.5 * carry[0])

    one = xp.ones((), X.s.dtype)
    fraction, (Z, R, _) = machine.loop(
        lambda carry: ~(carry[1][2] <= boldness * before) & (carry[0] > 1e-2),
        halve,
        (one, moved(one)),
    )
    new = low_rank_product(machine, Z[:m], Z[m:])
    new = new._replace(s=xp.where(new.s > 50 * eps * new.s[0], new.s, 0.0))
    return Moved(new, R, fraction, inner_steps)
