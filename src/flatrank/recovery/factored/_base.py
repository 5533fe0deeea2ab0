"""Measurements of a matrix in two factors, X = P Q^T, and their derivatives as matrix products."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from .._machine import XLA, Machine

# Arrays of the machine at hand: NumPy's on the host, JAX's under XLA.
HostOrXla = Any


class NormalEquations(NamedTuple):
    """(J^T J + diag(ridge)) D = right side, as conjugate gradients want it.

    * `enter`, `leave`: from factors to the arrays that the others work on, and back.
    * `normal`: the matrix times a direction.
    * `precondition`: an approximate inverse times a residual.
    """

    enter: Callable[[HostOrXla], HostOrXla]
    normal: Callable[[HostOrXla], HostOrXla]
    precondition: Callable[[HostOrXla], HostOrXla]
    leave: Callable[[HostOrXla], HostOrXla]


class Derivative(NamedTuple):
    """The derivative J of Z -> A(P Q^T) at a point, and its transpose."""

    product: Callable[[HostOrXla], HostOrXla]
    transpose: Callable[[HostOrXla], HostOrXla]


class AbstractFactored(ABC):
    """A(P Q^T), the factors stacked as Z = [P; Q], shape (m + n, k).

    Residuals are kept in a layout of the ensemble's own. `power` is p, for which ||A(X)||^2 is
    p ||X||_F^2 on average over X. Under XLA it is a pytree, on the host a plain object: an Equinox
    module makes a new one for every method that is called, 60 us each time.
    """

    shape: tuple[int, int]
    power: Any

    @property
    def machine(self) -> Machine:
        """Where its arrays live."""
        return XLA

    @abstractmethod
    def arranged(self, y: HostOrXla) -> HostOrXla:
        """Values, one for each measurement, in the layout of residuals."""

    @abstractmethod
    def apply(self, Z: HostOrXla) -> HostOrXla:
        """A(P Q^T)."""

    @abstractmethod
    def linearized(self, Z: HostOrXla) -> Derivative:
        """The derivative at Z."""

    @abstractmethod
    def adjoint(self, residual: HostOrXla) -> Derivative:
        """V -> A*(residual) V and U -> A*(residual)^T U, for V (n, k) and U (m, k)."""

    @abstractmethod
    def square_norms(self, U: HostOrXla, V: HostOrXla) -> HostOrXla:
        """||A(u_i v_i^T)||^2, one for each pair of columns, shape (k,)."""

    def inverse_blocks(self, Z: HostOrXla, ridge: HostOrXla) -> HostOrXla | None:
        """Inverses of the k x k diagonal blocks of J^T J + diag(ridge), one for each row of Z.

        None where they are near multiples of p Q^T Q and p P^T P, which are diagonal.
        """
        return None

    def normal_equations(
        self, Z: HostOrXla, J: Derivative, ridge: HostOrXla, *, blocks: bool
    ) -> NormalEquations:
        """The normal equations of a step from Z; `blocks` chooses the preconditioner.

        Columns of Z that are zero get a one: their right side is zero, and so is their step.
        """
        xp = self.machine.xp
        columns = xp.sum(Z * Z, axis=0)
        dead = xp.where(columns > 0, 0.0, 1.0).astype(ridge.dtype)
        inverses = self.inverse_blocks(Z, ridge + dead) if blocks else None
        if inverses is None:
            # Z is balanced: ||p_i||^2 = ||q_i||^2 = s_i.
            inverse = 1 / (self.power * columns / 2 + ridge + dead)
            precondition = lambda r: inverse[None] * r  # noqa: E731
        else:
            precondition = lambda r: xp.einsum("mij,mj->mi", inverses, r)  # noqa: E731
        return NormalEquations(
            enter=lambda right: right,
            normal=lambda step: J.transpose(J.product(step)) + ridge[None] * step,
            precondition=precondition,
            leave=lambda step: step,
        )
