"""Noisy measurements: loss + strength * penalty, with the strength given or set by the noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...flatness import loss
from ...measurements import AbstractMeasurements
from ...network import DeepLinear
from .._method import AbstractMethod, Problem
from .._solution import Result, Solution, solution, where
from .._step_limits import StepLimits
from .._tell import tell
from ._quasi_newton import minimise
from ._unit_problem import unit_problem


@eqx.filter_jit
def regularise(
    A: AbstractMeasurements,
    problem: Problem,
    start: DeepLinear,
    limits: StepLimits,
    method: AbstractMethod,
) -> Solution:
    """Minimise loss + strength * penalty from a start of unit Frobenius norm.

    With `noise` in place of `strength`, the strength is moved until the loss is noise^2 (Morozov's
    discrepancy principle): the least penalty among matrices that fit as well as the truth does. `A` are
    the problem's measurements, prepared; `method` is what the solution names.
    """
    y, penalty, tolerance = problem.y, problem.penalty, problem.tolerance
    strength, noise = problem.strength, problem.noise
    dtype = start.layers[0].dtype
    unit = unit_problem(A, y, dtype)
    # With W = scale * W', loss = scale^2 loss' and penalty = scale^degree penalty'.
    unit_strength = unit.scale ** (penalty.degree(start.depth) - 2)

    def solve(network: DeepLinear, strength: Array, steps: int) -> tuple:
        def objective(network: DeepLinear) -> Array:
            return unit.weight * (loss(network, A, unit.y) + strength * penalty(network, A))

        minimum = minimise(objective, network, steps, tolerance)
        return minimum.point, minimum.gradient_norm, minimum.steps

    if noise is None:
        assert strength is not None
        unit_penalty = strength * unit_strength
        network, gradient_norm, steps = solve(start, unit_penalty, limits.outer * limits.inner)
        outer, reached = jnp.asarray(1), jnp.asarray(True)
        history = jnp.full(limits.outer, jnp.nan, dtype)
    else:
        target = (noise / unit.scale) ** 2

        def outer_step(carry: tuple) -> tuple:
            network, strength, _, _, steps, outer, history = carry
            network, gradient_norm, more = solve(network, strength, limits.inner)
            now = loss(network, A, unit.y)
            # To first order the loss of a shrunken fit is quadratic in the strength.
            change = jnp.clip(jnp.sqrt(target / jnp.maximum(now, 1e-30)), 0.1, 10.0)
            near = jnp.abs(now / target - 1) < 1e-2
            strength = jnp.where(near, strength, strength * change)
            residual = jnp.sqrt(now / jnp.mean(unit.y**2))
            tell(problem.on_step, outer, residual, limits.outer)
            history = history.at[outer].set(residual)
            return network, strength, near, gradient_norm, steps + more, outer + 1, history

        def unfinished(carry: tuple) -> Array:
            _, _, near, gradient_norm, _, outer, _ = carry
            return (outer < limits.outer) & ~(near & (gradient_norm <= tolerance))

        carry = jax.lax.while_loop(
            unfinished,
            outer_step,
            (
                start,
                target / penalty(start, A),
                jnp.asarray(False),
                jnp.asarray(jnp.inf, dtype),
                jnp.asarray(0),
                jnp.asarray(0),
                jnp.full(limits.outer, jnp.nan, dtype),
            ),
        )
        network, unit_penalty, reached, gradient_norm, steps, outer, history = carry

    singular_values = network.svd()[1]
    zero = jnp.sum(singular_values**2) < 1e-6
    result = where(gradient_norm <= tolerance, Result.converged, Result.step_limit)
    result = where(reached, result, Result.noise_not_reached)
    result = where(zero & (unit.norm > 0), Result.collapsed, result)
    result = where(jnp.isfinite(gradient_norm), result, Result.not_finite)
    result = where(unit.norm > 0, result, Result.converged)
    network = unit.restored(network)
    size = jnp.where(unit.norm > 0, jnp.linalg.norm(y), 1.0)
    return solution(
        A,
        network,
        result=result,
        method=method,
        bias=penalty,
        residual=jnp.linalg.norm(A.apply_network(network) - y) / size,
        strength=unit_penalty / unit_strength,
        noise=noise,
        outer_steps=outer,
        inner_steps=steps,
        residual_history=history,
    )
