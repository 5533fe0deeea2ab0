"""The method `Lagrangian`: any penalty at any depth, over the layers."""

import equinox as eqx

from ..._checks import positive_integer
from ...penalties import Flatness
from .._method import AbstractMethod, Problem
from .._solution import Solution
from .._step_limits import StepLimits
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
        """None: every problem fits."""
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
        return solve(A, problem, start, limits, self)
