"""Tangents of matrices of a rank: what measurements see of them.

At X = U diag(s) V^T the matrices of its rank move by U B^T + A V^T. With orthonormal U and V, instead of
factors that share s, nothing here depends on the condition number of X.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._conjugate_gradients import conjugate_gradients
from .._low_rank_matrix import LowRankMatrix
from .._machine import Stop
from ..factored import AbstractFactored, Derivative

# Each round of conjugate gradients leaves this much of the error, for entries on the host in float32;
# rounds go on until a step is smaller than `settled` of the first.
_INNER = 0.03
_ROUNDS = 40
# Conjugate gradients in a round.
INNER_STEPS = 500


def settled(dtype: Any) -> float:
    """The accuracy of projections, relative: 1e-8, and 5e-6 in float32."""
    return max(1e-8, 40 * float(np.finfo(dtype).eps))


def negligible(dtype: Any) -> float:
    """What is zero for all that is known of numbers of order one: a hundred times the accuracy."""
    return 100 * settled(dtype)


class Projection(NamedTuple):
    """A least-squares fit by tangents: the tangent, what is left, whether it settled."""

    tangent: Any
    left: Any
    settled: Any


class TangentSpace(NamedTuple):
    """The tangents of matrices of a rank, as Z = [A; B], (m + n, k), at a matrix."""

    F: AbstractFactored
    X: LowRankMatrix
    max_inner_steps: int = INNER_STEPS
    stop: Stop | None = None

    @property
    def orthonormal(self) -> Any:
        """[U; V]; columns that X does not use are zero, and so is their derivative."""
        xp = self.F.machine.xp
        alive = xp.where(self.X.s > 0, 1.0, 0.0).astype(self.X.U.dtype)
        return xp.concatenate([self.X.U, self.X.V]) * alive[None]

    def measured(self, tangent: Any) -> Any:
        """The measurements of a tangent, in the layout of residuals."""
        return self.F.linearized(self.orthonormal).product(tangent)

    def projection(self, values: Any) -> Projection:
        """The fit of values (in the layout of residuals) by tangents."""
        J = self.F.linearized(self.orthonormal)
        return self._refined(J, values, J.transpose, J.product)

    def inverse(self, right: Any) -> Projection:
        """The tangent (J^T J)^+ right, for a tangent `right` that is in its range."""
        J = self.F.linearized(self.orthonormal)
        normal = lambda step: J.transpose(J.product(step))  # noqa: E731
        return self._refined(J, right, lambda left: left, normal)

    def _refined(self, J: Derivative, left: Any, right: Callable, image: Callable) -> Projection:
        """Steps J^T J step = right(left), summed; each takes image(step) off what is left."""
        F, machine, xp = self.F, self.F.machine, self.F.machine.xp
        Z = self.orthonormal
        accuracy = settled(Z.dtype)
        equations = F.normal_equations(Z, J, xp.zeros_like(self.X.s), blocks=True)

        def improve(carry: tuple) -> tuple:
            tangent, left, _, first, rounds = carry
            step, _ = conjugate_gradients(
                machine, equations, right(left), _INNER, self.max_inner_steps, self.stop
            )
            # A later step that is no number: there was nothing left to fit.
            size = xp.linalg.norm(step)
            step = xp.where(xp.isfinite(size), step, 0.0)
            first = xp.where(rounds == 0, size, first)
            size = xp.where(xp.isfinite(size), size, 0.0)
            return tangent + step, left - image(step), size, first, rounds + 1

        begin = (xp.zeros_like(Z), left, *xp.asarray([1.0, 0.0], Z.dtype), machine.integer(0))
        tangent, left, size, first, _ = machine.loop(
            lambda carry: (carry[2] > accuracy * carry[3]) & (carry[4] < _ROUNDS),
            improve,
            begin,
            self.stop,
        )
        return Projection(tangent, left, (size <= accuracy * first) & xp.isfinite(first))

    def without_gauge(self, tangent: Any) -> Any:
        """The same move U B^T + A V^T with V^T B = 0: its square is then ||A||^2 + ||B||^2."""
        m, Z = self.F.shape[0], self.orthonormal
        U, V = Z[:m], Z[m:]
        A, B = tangent[:m], tangent[m:]
        shift = V.T @ B
        return self.F.machine.xp.concatenate([A + U @ shift.T, B - V @ shift])
