"""A matrix of low rank as its singular value decomposition; the matrix itself is never formed."""

from typing import Any, NamedTuple

from ._machine import Machine
from .factored import AbstractFactored


class LowRankMatrix(NamedTuple):
    """A matrix U diag(s) V^T: U (m, k), s (k,), V (n, k); unused columns have s = 0."""

    U: Any
    s: Any
    V: Any

    def factors(self, machine: Machine) -> Any:
        """Balanced factors Z = [U sqrt(s); V sqrt(s)], (m + n, k)."""
        return machine.xp.concatenate([self.U, self.V]) * machine.xp.sqrt(self.s)[None]

    def leading(self, k: int) -> "LowRankMatrix":
        """The first k singular triples."""
        return LowRankMatrix(self.U[:, :k], self.s[:k], self.V[:, :k])


def low_rank_product(machine: Machine, P: Any, Q: Any) -> LowRankMatrix:
    """The singular value decomposition of P Q^T; the matrix is not formed."""
    xp = machine.xp
    left, upper_left = xp.linalg.qr(P)
    right, upper_right = xp.linalg.qr(machine.after(left, Q))
    core = machine.after(right, upper_left @ upper_right.T)
    u, s, vt = xp.linalg.svd(core, full_matrices=False)
    return LowRankMatrix(left @ u, s, right @ vt.T)


def leading_singular_triples(
    F: AbstractFactored, residual: Any, start: Any, sweeps: int
) -> LowRankMatrix:
    """The k leading singular triples of A*(residual), by subspace iteration from a start (n, k)."""
    machine, xp = F.machine, F.machine.xp
    back = F.adjoint(residual)

    def image(V: Any) -> Any:
        return xp.linalg.qr(back.product(V))[0]

    def sweep(carry: tuple) -> tuple:
        V, left = carry
        return xp.linalg.qr(back.transpose(image(V)))[0], left - 1

    V, _ = machine.loop(
        lambda carry: carry[1] > 0,
        sweep,
        (xp.linalg.qr(start)[0], machine.integer(sweeps - 1)),
    )
    U = image(V)
    right, upper = xp.linalg.qr(back.transpose(U))
    a, s, bt = xp.linalg.svd(machine.after(right, upper.T), full_matrices=False)
    return LowRankMatrix(U @ a, s, right @ bt.T)
