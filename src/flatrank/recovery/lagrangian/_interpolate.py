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
from .._method import AbstractMethod, Problem
from .._solution import Result, Solution, solution, where
from .._step_limits import StepLimits
from .._tell import tell
from ._low_rank_finish import interpolate_at_rank, rank_gap
from ._quasi_newton import minimise
from ._unit_problem import choose, unit_problem

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
    inner_steps: Array
    outer_steps: Array
    history: Array


@eqx.filter_jit
def interpolate(
    A: AbstractMeasurements,
    problem: Problem,
    start: DeepLinear,
    limits: StepLimits,
    method: AbstractMethod,
) -> Solution:
    """The interpolator of least penalty from a start of unit Frobenius norm, see the module.

    `A` are the problem's measurements, prepared; `method` is what the solution names.
    """
    m, n = A.shape
    penalty, tolerance = problem.penalty, problem.tolerance
    dtype = start.layers[0].dtype
    eps = float(jnp.finfo(dtype).eps)
    unit = unit_problem(A, problem.y, dtype)
    y_norm = jnp.where(unit.norm > 0, jnp.linalg.norm(unit.y), 1.0)
    first_penalty = penalty(start, A)
    first_penalty = jnp.where(first_penalty > 0, first_penalty, 1.0)

    def residuals(network: DeepLinear) -> Array:
        return A.apply_network(network) - unit.y

    def lagrangian(network: DeepLinear, multipliers: Array, parameter: Array) -> Array:
        r = residuals(network)
        constraint = jnp.mean((multipliers + 0.5 * parameter * r) * r)
        return penalty(network, A) / first_penalty + unit.weight * constraint

    def outer_step(state: _State) -> _State:
        wanted = jnp.maximum(_FIRST_TOLERANCE * 0.3 ** state.minima.astype(dtype), 10 * eps)
        inner = minimise(
            lambda network: lagrangian(network, state.multipliers, state.parameter),
            state.network,
            limits.inner,
            wanted,
        )
        minimal = inner.gradient_norm <= wanted
        network = inner.point
        r = residuals(network)
        residual = jnp.linalg.norm(r) / y_norm
        decomposition = network.svd()
        singular_values = decomposition[1]

        # A zero end is a failure, not an answer: begin again with more weight on the measurements.
        collapsed = _is_zero(singular_values) & (unit.norm > 0)
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
        tell(problem.on_step, state.outer_steps, residual, limits.outer)
        slow = minimal & (residual > 0.25 * state.residual) & (residual > tolerance)
        return _State(
            network=choose(collapsed, start, network),
            multipliers=jnp.where(collapsed, 0.0, state.multipliers + state.parameter * r),
            parameter=state.parameter * jnp.where(collapsed, 8.0, jnp.where(slow, _GROWTH, 1.0)),
            residual=jnp.where(collapsed, 1.0, residual),
            gradient_norm=inner.gradient_norm,
            minima=state.minima + minimal.astype(state.minima.dtype),
            candidate=candidate,
            candidate_rank=candidate_rank,
            gap=candidate_gap,
            tried_at=jnp.where(worthwhile, residual, state.tried_at),
            inner_steps=state.inner_steps + inner.steps,
            outer_steps=state.outer_steps + 1,
            history=state.history.at[state.outer_steps].set(residual),
        )

    def low_rank_interpolator(
        decomposition: tuple[Array, Array, Array], rank: Array
    ) -> tuple[DeepLinear, Array]:
        pair, remaining = interpolate_at_rank(decomposition, A, unit.y, rank)
        candidate = DeepLinear.from_svd(*pair.svd(), start.depth, start.width)
        found = remaining <= 200 * eps
        return penalty.settle(candidate, A), jnp.where(found, rank, 0)

    def stationary(state: _State) -> Array:
        return (state.residual <= tolerance) & (state.gradient_norm <= _STATIONARY)

    def unfinished(state: _State) -> Array:
        met = stationary(state) | (state.gap <= _GAP)
        return (state.outer_steps < limits.outer) & ~met & jnp.isfinite(state.residual)

    infinity = jnp.asarray(jnp.inf, dtype)
    state = jax.lax.while_loop(
        unfinished,
        outer_step,
        _State(
            network=start,
            multipliers=jnp.zeros_like(unit.y),
            parameter=jnp.asarray(_FIRST_PARAMETER, dtype),
            residual=jnp.asarray(1.0, dtype),
            gradient_norm=infinity,
            minima=jnp.asarray(0),
            candidate=start,
            candidate_rank=jnp.asarray(0),
            gap=infinity,
            tried_at=infinity,
            inner_steps=jnp.asarray(0),
            outer_steps=jnp.asarray(0),
            history=jnp.full(limits.outer, jnp.nan, dtype),
        ),
    )
    low_rank = state.gap <= _GAP
    network = choose(low_rank, state.candidate, state.network)
    residual = jnp.linalg.norm(residuals(network)) / y_norm
    result = where(stationary(state), Result.converged, Result.step_limit)
    result = where(low_rank, Result.low_rank, result)
    result = where(_is_zero(network.svd()[1]), Result.collapsed, result)
    result = where(jnp.isfinite(state.residual), result, Result.not_finite)
    result = where(unit.norm > 0, result, Result.converged)
    return solution(
        A,
        unit.restored(network),
        result=result,
        method=method,
        bias=penalty,
        residual=jnp.where(unit.norm > 0, residual, 0.0),
        rank=jnp.where(low_rank, state.candidate_rank, 0),
        gap=jnp.where(low_rank, state.gap, jnp.nan),
        outer_steps=state.outer_steps,
        inner_steps=state.inner_steps,
        residual_history=state.history,
    )


def _is_zero(singular_values: Float[Array, " k"]) -> Array:
    """Whether a matrix that should have unit norm has all but vanished."""
    return jnp.sum(singular_values**2) < 1e-3
