"""The method `Auto`: the path where it fits, else the Lagrangian."""

import equinox as eqx

from .._checks import as_instance
from ._method import AbstractMethod, Problem
from ._solution import Solution
from .lagrangian import Lagrangian
from .path import Path


class Auto(AbstractMethod):
    """`Path` for weight decay of depth 3 and more without start and strength, else `Lagrangian`.

    `method="auto"` is `Auto()`.

    * `path`, `lagrangian`: the two methods with their settings.
    """

    path: Path = eqx.field(default=Path())
    lagrangian: Lagrangian = eqx.field(default=Lagrangian())

    def __check_init__(self) -> None:
        """Raise TypeError for what is not that method."""
        as_instance(self.path, Path, "path", "pass Path(), with its limits if need be")
        as_instance(self.lagrangian, Lagrangian, "lagrangian", "pass Lagrangian(), with its limits")

    def unfit(self, problem: Problem) -> str | None:
        """None, but for what none of its methods can do."""
        return self.lagrangian.unfit(problem) if self.path.unfit(problem) else None

    def solve(self, problem: Problem) -> Solution:
        """The solution of the method that was chosen."""
        method = self.lagrangian if self.path.unfit(problem) else self.path
        return method.solve(problem)
