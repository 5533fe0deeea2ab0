"""The interpolator of least penalty: augmented Lagrangian over the layers, then a low-rank finish.

    minimise penalty(W_1, ..., W_L)  subject to  A(W_L ... W_1) = y

The problem is solved for a matrix of unit Frobenius norm (estimated from y) and for a penalty of
one at the start, so that one penalty parameter fits all ensembles, sizes, depths and penalties. Too
small a parameter would let the network collapse to the saddle point at zero, from which it does not
return; an iterate at zero is thrown away and the parameter raised.

The parameter grows, and inner minima are asked for more exactly, only once one has been found: a
parameter that grows because inner minimisations stop early ends in problems too ill-conditioned to
solve, at some interpolator that is not the one of least penalty.

Near a low-rank interpolator Gauss-Newton is quadratic where the augmented Lagrangian is linear, so
that a candidate is computed early. It is accepted only once its penalty is within `_GAP` of the
least value of the augmented Lagrangian, which bounds the penalty of every interpolator from below
wherever the inner minimum is global (depth 2 with a width that does not bind); the gap is reported.
A low-rank interpolator that is not the one of least penalty is thus not mistaken for it.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...measurements import AbstractMeasurements
from ...network import DeepLinear
from ...penalties import AbstractPenalty
from .._solution import Callback, Result, Solution, tell, where
from ._low_rank_finish import interpolate_at_rank, rank_gap
from ._quasi_newton import minimise

_FIRST_PARAMETER = 8.0
_GROWTH = 2.0
# The gradient's norm at which the first inner minimisation ends; a later one that cannot get there has
# not found its minimum.
_FIRST_TOLERANCE = 1e-2
# The gradient's norm at which an interpolator is stationary.
_STATIONARY = 1e-3
# A finish is tried where the singular values fall off at least this much.
_WORTHWHILE_RATIO = 20.0
# Relative distance of the candidate's penalty from the lower bound at which it is accepted.
_GAP = 1e-4


class _State(NamedTuple):
    network: DeepLinear
    multipliers: Array
    parameter: Array
    residual: Array
    gradient_norm: Array  # where the last inner minimisation ended
    minima: Array  # how many of them ended at a minimum
    candidate: DeepLinear  # a low-rank interpolator, once there is one
    candidate_rank: Array  # 0: none yet
    gap: Array  # (its penalty - the lower bound) / its penalty
    tried_at: Array  # residual at the last attempt to finish
    gradient_steps: Array
    outer_steps: Array
    history: Array


@eqx.filter_jit
def interpolate(
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    start: DeepLinear,
    penalty: AbstractPenalty,
    tolerance: float,
    max_outer_steps: int,
    max_inner_steps: int,
    callback: Callback | None = None,
) -> Solution:
    """The interpolator of least penalty from a start of unit Frobenius norm, see the module."""
    m, n = A.shape
    dtype = start.layers[0].dtype
    eps = float(jnp.finfo(dtype).eps)
    # weight * mean(residual^2) is about ||W - M||_F^2, exactly so in the isotropic ensemble.
    weight = (m * n / A.mean_square_norm()).astype(dtype)
    # Through the largest value, whose square may not be a number of this type.
    largest = jnp.max(jnp.abs(y))
    unit = y / jnp.where(largest > 0, largest, 1.0)
    norm = largest * jnp.sqrt(weight * jnp.mean(unit**2))
    unit_y = y / jnp.where(norm > 0, norm, 1.0)
    y_norm = jnp.where(norm > 0, jnp.linalg.norm(unit_y), 1.0)
    first_penalty = penalty(start, A)
    first_penalty = jnp.where(first_penalty > 0, first_penalty, 1.0)

    def residuals(network: DeepLinear) -> Array:
        return A.apply_network(network) - unit_y

    def lagrangian(network: DeepLinear, multipliers: Array, parameter: Array) -> Array:
        r = residuals(network)
        constraint = jnp.mean((multipliers + 0.5 * parameter * r) * r)
        return penalty(network, A) / first_penalty + weight * constraint

    def outer_step(state: _State) -> _State:
        wanted = jnp.maximum(_FIRST_TOLERANCE * 0.3 ** state.minima.astype(dtype), 10 * eps)
        inner = minimise(
            lambda network: lagrangian(network, state.multipliers, state.parameter),
            state.network,
            max_inner_steps,
            wanted,
        )
        minimal = inner.gradient_norm <= wanted
        network = inner.point
        r = residuals(network)
        residual = jnp.linalg.norm(r) / y_norm
        decomposition = network.svd()
        singular_values = decomposition[1]

        # A zero end is a failure, not an answer: begin again with more weight on the measurements.
        collapsed = _is_zero(singular_values) & (norm > 0)
        gap = rank_gap(singular_values)
        worthwhile = (
            (gap.ratio >= _WORTHWHILE_RATIO)
            & (gap.rank * (m + n - gap.rank) <= A.count)
            & (residual < 0.3 * state.tried_at)
            & (state.candidate_rank == 0)
            & ~collapsed
        )
        candidate, candidate_rank = jax.lax.cond(
            worthwhile,
            lambda: low_rank_interpolator(decomposition, gap.rank),
            lambda: (state.candidate, state.candidate_rank),
        )
        bound = lagrangian(network, state.multipliers, state.parameter)
        candidate_penalty = penalty(candidate, A) / first_penalty
        # Far from the inner minimum the Lagrangian is larger, and no bound.
        bounded = (candidate_rank > 0) & ~collapsed & (inner.gradient_norm <= _FIRST_TOLERANCE)
        candidate_gap = jnp.where(bounded, 1 - bound / candidate_penalty, jnp.inf)
        tell(callback, state.outer_steps, residual)
        slow = minimal & (residual > 0.25 * state.residual) & (residual > tolerance)
        return _State(
            network=_choose(collapsed, start, network),
            multipliers=jnp.where(collapsed, 0.0, state.multipliers + state.parameter * r),
            parameter=state.parameter * jnp.where(collapsed, 8.0, jnp.where(slow, _GROWTH, 1.0)),
            residual=jnp.where(collapsed, 1.0, residual),
            gradient_norm=inner.gradient_norm,
            minima=state.minima + minimal.astype(state.minima.dtype),
            candidate=candidate,
            candidate_rank=candidate_rank,
            gap=candidate_gap,
            tried_at=jnp.where(worthwhile, residual, state.tried_at),
            gradient_steps=state.gradient_steps + inner.steps,
            outer_steps=state.outer_steps + 1,
            history=state.history.at[state.outer_steps].set(residual),
        )

    def low_rank_interpolator(
        decomposition: tuple[Array, Array, Array], rank: Array
    ) -> tuple[DeepLinear, Array]:
        pair, remaining = interpolate_at_rank(decomposition, A, unit_y, rank)
        candidate = DeepLinear.from_svd(*pair.svd(), start.depth, start.width)
        found = remaining <= 200 * eps
        return penalty.settle(candidate, A), jnp.where(found, rank, 0)

    def stationary(state: _State) -> Array:
        return (state.residual <= tolerance) & (state.gradient_norm <= _STATIONARY)

    def unfinished(state: _State) -> Array:
        met = stationary(state) | (state.gap <= _GAP)
        return (state.outer_steps < max_outer_steps) & ~met & jnp.isfinite(state.residual)

    infinity = jnp.asarray(jnp.inf, dtype)
    state = jax.lax.while_loop(
        unfinished,
        outer_step,
        _State(
            network=start,
            multipliers=jnp.zeros_like(unit_y),
            parameter=jnp.asarray(_FIRST_PARAMETER, dtype),
            residual=jnp.asarray(1.0, dtype),
            gradient_norm=infinity,
            minima=jnp.asarray(0),
            candidate=start,
            candidate_rank=jnp.asarray(0),
            gap=infinity,
            tried_at=infinity,
            gradient_steps=jnp.asarray(0),
            outer_steps=jnp.asarray(0),
            history=jnp.full(max_outer_steps, jnp.nan, dtype),
        ),
    )
    low_rank = state.gap <= _GAP
    network = _choose(low_rank, state.candidate, state.network)
    residual = jnp.linalg.norm(residuals(network)) / y_norm
    result = where(stationary(state), Result.converged, Result.step_limit)
    result = where(low_rank, Result.low_rank, result)
    result = where(_is_zero(network.svd()[1]), Result.collapsed, result)
    result = where(jnp.isfinite(state.residual), result, Result.not_finite)
    result = where(norm > 0, result, Result.converged)
    network = _choose(norm > 0, network.scaled(norm), jax.tree.map(jnp.zeros_like, start))
    return Solution(
        network,
        result,
        {
            "residual": jnp.where(norm > 0, residual, 0.0),
            "penalty": penalty(network, A),
            "rank": jnp.where(low_rank, state.candidate_rank, 0),
            "gap": jnp.where(low_rank, state.gap, jnp.nan),
            "strength": jnp.asarray(jnp.nan, dtype),
            "noise": jnp.asarray(jnp.nan, dtype),
            "gradient_steps": state.gradient_steps,
            "outer_steps": state.outer_steps,
            "residual_history": state.history,
        },
    )


def _is_zero(singular_values: Float[Array, " k"]) -> Array:
    """Whether a matrix that should have unit norm has all but vanished."""
    return jnp.sum(singular_values**2) < 1e-3


def _choose(condition: Array, yes: DeepLinear, no: DeepLinear) -> DeepLinear:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
