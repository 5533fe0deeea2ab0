"""What a solver returns."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ..network import DeepLinear


class Result(eqx.Enumeration):
    """How a solve ended; the members are the sentences that the user reads."""

    converged = (
        "Converged to a stationary point; the measurements are met, or as nearly as `noise` or "
        "`strength` ask."
    )
    low_rank = (
        "Converged: a matrix of the rank in `stats['rank']`, which fewer numbers describe than there "
        "are measurements, meets them to round-off."
    )
    undetermined = (
        "The measurements are met by a network of locally least penalty, but its matrix takes more "
        "numbers to describe than there are measurements: others may meet them as well. Take more "
        "measurements, or another `depth`."
    )
    step_limit = (
        "The step limit was reached before the measurements were met or the gradient was small; "
        "raise `max_outer_steps` or `max_inner_steps`, or try another `depth` or `width`."
    )
    collapsed = (
        "The network ended at zero: `strength` is so large that zero is the answer, or it collapsed "
        "to the saddle point there, which a smaller `strength`, a larger `width` or a random start "
        "(`key`) may avoid."
    )
    noise_not_reached = (
        "No penalty strength left a residual of the given `noise`; it is too small for this `width`"
        " or too large for these measurements."
    )
    not_finite = "NaN or infinity appeared while solving; check the scale of the measurements."


def where(condition: Array, yes: Any, no: Any) -> Result:
    """The first result where a traced condition holds, else the second."""
    return Result.where(condition, yes, no)


Callback = Callable[[int, float], None]


def tell(callback: Callback | None, step: Array, residual: Array) -> None:
    """Call back from compiled code with a step's number and relative residual."""
    if callback is not None:
        jax.debug.callback(
            lambda step, residual: callback(int(step), float(residual)), step, residual
        )


class Solution(eqx.Module):
    """A recovered matrix, the network it was found by, and how the solve ended.

    `result` is a member of `Result` (`sol.result == Result.converged`), `message` its sentence.
    `stats` holds arrays: `residual` (||A(W) - y|| / ||y||), `penalty`, `gradient_steps`
    (or products with the normal equations), `outer_steps`, `residual_history` (per outer step, NaN
    where not reached), the exact `rank` that was identified (0: none), the relative `gap` of its
    penalty to a lower bound (NaN: none was computed), the `strength` of the penalty and the standard
    deviation of the `noise` (NaN where the measurements were interpolated). Under `vmap`, take
    `matrix` inside the mapped function: a batch of networks does not multiply by itself.
    """

    network: DeepLinear
    result: Result
    stats: dict[str, Any]

    @property
    def matrix(self) -> Float[Array, "m n"]:
        """The recovered matrix, shape (m, n)."""
        return self.network.matrix()

    @property
    def message(self) -> str:
        """How the solve ended, in a sentence. Not for use under `vmap`."""
        sentences: Any = Result
        return sentences[self.result]

    @property
    def successful(self) -> Array:
        """Whether the solve converged, a boolean scalar."""
        return (self.result == Result.converged) | (self.result == Result.low_rank)
