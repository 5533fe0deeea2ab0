"""The method `Auto`: the path where it fits, the Lagrangian where it does not or finds nothing."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._checks import as_instance, is_traced
from .._order import after
from ._degrees_of_freedom import sufficient_width
from ._method import AbstractMethod, Problem
from ._solution import Result, Solution, where
from .lagrangian import Lagrangian
from .path import Path


class Auto(AbstractMethod):
    """`Path` for weight decay of depth 3 and more without start and strength, else `Lagrangian`.

    Where the path finds no interpolator whose rank the measurements determine, the augmented Lagrangian
    looks for one of locally least penalty; it is called `Result.undetermined` unless every entry was
    measured. `method="auto"` is `Auto()`.

    * `path`, `lagrangian`: the two methods with their settings.
    """

    path: Path = eqx.field(default=Path())
    lagrangian: Lagrangian = eqx.field(default=Lagrangian())

    def __check_init__(self) -> None:
        """Raise TypeError for what is not that method."""
        as_instance(self.path, Path, "path", "pass Path(), with its limits if need be")
        as_instance(self.lagrangian, Lagrangian, "lagrangian", "pass Lagrangian(), with its limits")

    def unfit(self, problem: Problem) -> str | None:
        """None: every problem fits."""
        return None

    def solve(self, problem: Problem) -> Solution:
        """The solution of the method that was chosen. Under `jit` and `vmap` its `method` is `Auto`."""
        if self.path.unfit(problem) is not None:
            return self.lagrangian.solve(problem)
        if problem.noise is not None:
            return self.path.solve(problem)
        if not is_traced(problem.A, problem.y):
            found = self.path.solve(problem)
            return found if bool(found.successful) else self._instead(problem, found.residual)
        # `cond` wants the same shapes from both, and one of them is chosen when the program runs.
        width = sufficient_width(problem.A) if problem.width is None else problem.width
        problem = replace(problem, width=width)
        found = self.path.solve(problem)
        other = jax.eval_shape(lambda: self._instead(problem, found.residual))
        length = max(len(found.residual_history), len(other.residual_history))

        def alike(solution: Solution) -> Solution:
            missing = length - len(solution.residual_history)
            history = jnp.pad(solution.residual_history, (0, missing), constant_values=jnp.nan)
            return replace(solution, method=self, residual_history=history)

        return jax.lax.cond(
            found.successful,
            lambda: alike(found),
            lambda: alike(self._instead(problem, found.residual)),
        )

    def _instead(self, problem: Problem, earlier: Array) -> Solution:
        """The Lagrangian's solution, computed after `earlier` is known."""
        A = problem.A
        # Under `vmap` both methods are computed: one after the other, or XLA's threads wait for each
        # other for ever (decision 3).
        other = self.lagrangian.solve(replace(problem, y=after(earlier, problem.y)))
        if A.count >= A.shape[0] * A.shape[1]:
            return other
        met = other.result == Result.converged
        return replace(other, result=where(met, Result.undetermined, other.result))
