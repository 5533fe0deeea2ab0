"""What a solver returns."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._renamed import warn_renamed
from ..measurements import AbstractMeasurements
from ..network import DeepLinear
from ..penalties import AbstractPenalty
from ._method import AbstractMethod
from .determined import Determined, nothing_known, standard_errors


class Result(eqx.Enumeration):
    """How a solve ended; the members are the sentences that the user reads."""

    converged = (
        "Converged to a stationary point; the measurements are met, or as nearly as `noise` or "
        "`strength` ask."
    )
    low_rank = (
        "Converged: a matrix of the rank in `solution.rank` meets the measurements to round-off; "
        "locally it is the only one of its rank, and more measurements agree than are needed for it."
    )
    partly_determined = (
        "A matrix of the rank in `solution.rank` meets the measurements, but they leave a part of it "
        "free: `solution.determined` says which. The rest is determined. Take more measurements of "
        "the lines that it names."
    )
    one_of_several = (
        "A matrix of the rank in `solution.rank` meets the measurements, but nothing confirms a part of "
        "it: another matrix of the rank may meet them as well. `solution.determined` says which part is "
        "confirmed. Take more measurements."
    )
    undecided = (
        "A matrix of the rank in `solution.rank` meets the measurements, but whether they determine it "
        "was not decided: the test did not settle, or (under `jit` and `vmap`) there is a line of as "
        "many entries as the rank."
    )
    undetermined = (
        "No matrix of a rank that the measurements could determine was found to meet them; one of a "
        "higher rank does, which takes more numbers to describe than there are measurements: many "
        "others do as well. Take more measurements, or pass `noise` if they are not exact."
    )
    time_limit = "Stopped by `max_seconds`: this is the best matrix until then."
    interrupted = "Stopped by the keyboard: this is the best matrix until then."
    step_limit = (
        "The step limit was reached before the measurements were met or the gradient was small; "
        "raise the limits that `method` has (`solution.method` names them), or try another `depth` "
        "or `width`."
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


def where(condition: Any, yes: Any, no: Any) -> Result:
    """The first result where a condition holds, which may be traced, else the second."""
    if isinstance(condition, bool | np.bool_):
        return yes if condition else no
    return Result.where(condition, yes, no)


class Solution(eqx.Module):
    """A recovered matrix, the network it was found by, and how the solve ended.

    A pytree: `jit` and `vmap` return it. Under `vmap`, take `matrix` inside the mapped function: a batch
    of networks does not multiply by itself. Scalars are arrays of shape ().

    * `network`: the layers whose product is the matrix.
    * `result`: a member of `Result`, as `fr.recovery.Result.converged`; `message` says it.
    * `method`: the method object that found it. Where values decide and are traced (`method="auto"`
      under `jit` and `vmap`), the `Auto` that chooses.
    * `bias`: the penalty that was asked for, such as `WeightDecay()`.
    * `residual`: ||A(W) - y|| / ||y||, no units; 0 where y is zero.
    * `penalty`: the value of the penalty at the network, in the units of the penalty.
    * `rank`: the exact rank that was identified, an integer; 0: none was, the matrix may have any.
    * `determined`: a `Determined`: whether the measurements determine the matrix, and which entries.
    * `gap`: how far the penalty is at most above the least one, relative to it; NaN: not known.
    * `strength`: the penalty's strength in loss + strength * penalty; NaN where it was let go to zero
      (interpolation, and least squares at a rank).
    * `noise`: the standard deviation of the error in y that was given or estimated, in the units of y;
      NaN where the measurements were taken as exact, or a strength was given.
    * `outer_steps`: how many values of the penalty's strength or of the multipliers were solved for.
    * `inner_steps`: L-BFGS steps (`Lagrangian`) or products with the normal equations (`Path`) in all.
    * `residual_history`: the residual after each outer step, as long as the step limit; NaN from
      `outer_steps` on, and everywhere where a strength was given.
    """

    network: DeepLinear
    result: Result
    method: AbstractMethod
    bias: AbstractPenalty
    residual: Float[Array, ""]
    penalty: Float[Array, ""]
    rank: Int[Array, ""]
    determined: Determined
    gap: Float[Array, ""]
    strength: Float[Array, ""]
    noise: Float[Array, ""]
    outer_steps: Int[Array, ""]
    inner_steps: Int[Array, ""]
    residual_history: Float[Array, " steps"]

    @property
    def matrix(self) -> Float[Array, "m n"]:
        """The recovered matrix, shape (m, n)."""
        return self.network.matrix()

    def standard_errors(self, rows: Any = None, columns: Any = None) -> Float[np.ndarray, "..."]:
        """The standard error of entries of the matrix, in its units: (N,) for indices, else (m, n).

        To first order in the noise, for least squares at the rank that was found: the estimate plus and
        minus 1.645 of them holds the true entry in 90 of 100 cases. Infinite where the measurements do
        not determine the entry. Matrices whose factors have up to 10,000 numbers (1000 x 1000 of rank
        5) take one dense inverse, larger ones a linear solve for each entry: pass `rows` and
        `columns`. NaN where a solve does not settle.

        Raises ValueError where there is no `noise` or nothing is known of what is determined, TypeError
        or ValueError for what are no indices, and MemoryError for a whole matrix that is larger.
        """
        if not np.isfinite(self.noise):
            raise ValueError(
                "The measurements were taken as exact, so that their error is not known: recover with "
                "`noise`, a standard deviation or 'auto'."
            )
        return standard_errors(self.determined, float(self.noise), rows, columns)

    @property
    def message(self) -> str:
        """How the solve ended, in a few sentences. Not for use under `vmap`."""
        sentences: Any = Result
        asked = (self.result == Result.partly_determined) | (self.result == Result.one_of_several)
        summary = self.determined.summary() if bool(asked) else ""
        return " ".join(filter(None, (sentences[self.result], summary)))

    @property
    def successful(self) -> Array:
        """Whether the solve converged, a boolean scalar."""
        return (self.result == Result.converged) | (self.result == Result.low_rank)

    @property
    def stats(self) -> dict[str, Array]:
        """What are fields now, as the dictionary of the release before; goes away with the next one."""
        warn_renamed("`solution.stats['rank']`", "`solution.rank` (and so on for every key)")
        names = ("residual", "penalty", "rank", "gap", "strength", "noise", "outer_steps")
        return {
            **{name: getattr(self, name) for name in names},
            "gradient_steps": self.inner_steps,
            "residual_history": self.residual_history,
        }


def solution(
    A: AbstractMeasurements,
    network: DeepLinear,
    *,
    result: Result,
    method: AbstractMethod,
    bias: AbstractPenalty,
    residual: Any,
    penalty: Any = None,
    rank: Any = 0,
    determined: Determined | None = None,
    gap: Any = jnp.nan,
    strength: Any = jnp.nan,
    noise: Any = None,
    outer_steps: Any,
    inner_steps: Any,
    residual_history: Any,
) -> Solution:
    """The `Solution` of any method: what is not known gets its NaN or 0, a penalty is measured here.

    Every field has the same type whatever the method, so that `jax.lax.cond` can choose between two.
    """
    dtype = network.layers[0].dtype

    def number(value: Any, dtype: Any = dtype) -> Array:
        # `jnp.asarray` compiles a program for every shape.
        traced = isinstance(value, jax.Array)
        return jnp.asarray(value, dtype) if traced else jax.device_put(np.asarray(value, dtype))

    return Solution(
        network=network,
        result=result,
        method=method,
        bias=bias,
        residual=number(residual),
        penalty=bias(network, A) if penalty is None else number(penalty),
        rank=number(rank, None),
        determined=nothing_known(*network.shape) if determined is None else determined,
        gap=number(gap),
        strength=number(strength),
        noise=number(jnp.nan if noise is None else noise),
        outer_steps=number(outer_steps, None),
        inner_steps=number(inner_steps, None),
        residual_history=number(residual_history),
    )
