"""The method `Lagrangian`: any penalty at any depth, over the layers."""

from dataclasses import replace

import equinox as eqx
import jax

from ..._checks import is_traced, positive_integer
from ...penalties import Flatness
from .._low_rank_matrix import LowRankMatrix
from .._method import AbstractMethod, Problem
from .._solution import Result, Solution, where
from .._step_limits import StepLimits
from ..determined import Determinacy, determined_at
from ..factored import factored, machine_for
from ._interpolate import interpolate
from ._regularise import regularise
from ._start import unit_start


class Lagrangian(AbstractMethod):
    """Any penalty at any depth: L-BFGS over the layers inside an augmented Lagrangian (decisions 1, 2).

    Near a low-rank interpolator Gauss-Newton finishes the work. With a noise level the penalty's
    strength is moved until the loss is noise^2; with a strength there is one minimisation, of as many
    steps as both limits allow together. It fits every problem.

    * `max_outer_steps`: updates of the multipliers, or of the strength.
    * `max_inner_steps`: L-BFGS steps in each of them.

    Raises ValueError for limits below one.
    """

    max_outer_steps: int = eqx.field(static=True, default=200)
    max_inner_steps: int = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        """Raise ValueError for limits below one."""
        positive_integer(self.max_outer_steps, "max_outer_steps")
        positive_integer(self.max_inner_steps, "max_inner_steps")

    def unfit(self, problem: Problem) -> str | None:
        """A limit of time: this method is one program, which cannot be stopped."""
        if problem.stop.limited:
            return (
                "`max_seconds` was given, and Lagrangian is one compiled program that cannot be "
                "stopped: leave it out, pass method=Lagrangian(max_outer_steps=...), or weight decay "
                "of depth 3 or more."
            )
        return None

    def solve(self, problem: Problem) -> Solution:
        """The interpolator of least penalty; else the minimum of loss + strength * penalty."""
        A = problem.A
        if isinstance(problem.penalty, Flatness):
            A = A.prepared(problem.depth, problem.width)
        start = problem.start
        if start is None:
            start = unit_start(problem.A, problem.y, problem.depth, problem.width, problem.key)
        exact = problem.noise is None and problem.strength is None
        solve = interpolate if exact else regularise
        limits = StepLimits(self.max_outer_steps, self.max_inner_steps)
        return _judged(problem, solve(A, problem, start, limits, self))


def _judged(problem: Problem, found: Solution) -> Solution:
    """The solution, with what its measurements determine where a rank was identified.

    The minimiser of a penalty is one whether they determine it or not; it is called a matrix of low rank
    only where they do. Under `jit` and `vmap` that is not looked at.
    """
    low_rank = found.result == Result.low_rank
    if is_traced(problem.A, problem.y, found.rank) or not int(found.rank):
        return replace(found, result=where(low_rank, Result.converged, found.result))
    machine = machine_for(problem.A, problem.y)
    rank = int(found.rank)
    U, s, Vt = (machine.xp.asarray(part) for part in found.network.svd())
    X = LowRankMatrix(U[:, :rank], s[:rank], Vt[:rank].T)
    F = factored(problem.A, rank, machine, problem.y.dtype)
    determined = determined_at(problem.A, F, X, jax.random.key(0))
    confirmed = determined.status == Determinacy.yes
    result = where(low_rank & ~confirmed, Result.converged, found.result)
    return replace(found, determined=determined, result=result)
