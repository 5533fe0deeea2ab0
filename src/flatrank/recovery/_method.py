"""What a method of recovery is: a small object with its settings, and one function."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .._progress import OnStep
from ..measurements import AbstractMeasurements
from ..network import DeepLinear
from ..penalties import AbstractPenalty
from ._machine import Stop

if TYPE_CHECKING:
    from ._solution import Solution


class Problem(eqx.Module):
    """What is to be solved, checked: the arguments of `recover` that are no settings of a solver.

    * `A`, `y`: N measurements of an m x n matrix and their values, shape (N,).
    * `depth`: layers of the network, at least 2.
    * `penalty`: what is to be least among the matrices that agree with `y`.
    * `noise`: the standard deviation of the error in `y`, in its units and type; None: exact.
    * `strength`: minimise loss + strength * penalty; None: follows from `noise`.
    * `width`: bounds the rank; None: the method takes one that does not bind.
    * `key`: of random starts; None: the method's own start.
    * `start`: layers to start from; None: the method's own start.
    * `tolerance`: bounds ||A(W) - y|| / ||y||, or the gradient where there is noise.
    * `on_step`: is told of each outer step; None: nobody is.
    * `stop`: says when to give up; a solver that looks at it returns the best so far.
    """

    A: AbstractMeasurements
    y: Float[Array, " N"]
    depth: int
    penalty: AbstractPenalty
    noise: Float[Array, ""] | None
    strength: Float[Array, ""] | None
    width: int | None
    key: PRNGKeyArray | None
    start: DeepLinear | None
    tolerance: float
    on_step: OnStep | None
    stop: Stop


class AbstractMethod(eqx.Module):
    """A way to solve a `Problem`; its fields are settings of the solver and nothing of the problem.

    Fields are static (`equinox.field(static=True)`), so that a `Solution` that names its method passes
    through `jit` and `vmap`.
    """

    @abstractmethod
    def unfit(self, problem: Problem) -> str | None:
        """Why the method cannot solve the problem, in a sentence with the remedy; None: it can."""

    @abstractmethod
    def solve(self, problem: Problem) -> "Solution":
        """The solution of a problem that is not unfit. Works under `jit` and `vmap`."""


def as_method(value: Any, auto: AbstractMethod) -> AbstractMethod:
    """A method, given as such or by its class; `auto` for the word; or TypeError / ValueError."""
    if isinstance(value, AbstractMethod):
        return value
    if isinstance(value, type) and issubclass(value, AbstractMethod):
        return value()
    known = "pass 'auto', flatrank.recovery.Path() or flatrank.recovery.Lagrangian()."
    if isinstance(value, str):
        if value == "auto":
            return auto
        raise ValueError(f"`method` is {value!r}: {known}")
    raise TypeError(f"`method` is a {type(value).__name__}: {known}")
