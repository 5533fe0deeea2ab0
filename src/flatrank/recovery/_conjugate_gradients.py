"""Preconditioned conjugate gradients (Hestenes and Stiefel 1952)."""

from typing import Any

from ._machine import Machine, Stop
from .factored import NormalEquations


def conjugate_gradients(
    machine: Machine,
    equations: NormalEquations,
    right: Any,
    accuracy: Any,
    max_steps: int,
    stop: Stop | None = None,
) -> tuple[Any, Any]:
    """The solution to a relative accuracy in the preconditioner's norm, and the steps taken."""
    xp = machine.xp

    def iterate(carry: tuple) -> tuple:
        x, r, direction, size, steps = carry
        image = equations.normal(direction)
        curvature = xp.vdot(direction, image)
        # No curvature is left where the residual is rounding: that is the end.
        curved = curvature > 0
        length = xp.where(curved, size / xp.where(curved, curvature, 1), 0).astype(r.dtype)
        x, r = x + length * direction, r - length * image
        z = equations.precondition(r)
        new = xp.where(curved, xp.vdot(r, z), 0).astype(r.dtype)
        return x, r, z + (new / size) * direction, new, steps + 1

    r = equations.enter(right)
    z = equations.precondition(r)
    first = xp.vdot(r, z)
    x, _, _, _, steps = machine.loop(
        lambda carry: (carry[3] > accuracy**2 * first) & (carry[4] < max_steps),
        iterate,
        (xp.zeros_like(r), r, z, first, machine.integer(0)),
        stop,
    )
    return equations.leave(x), steps
