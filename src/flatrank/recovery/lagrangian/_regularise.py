"""Noisy measurements: loss + strength * penalty, with the strength given or set by the noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...flatness import loss
from ...measurements import AbstractMeasurements
from ...network import DeepLinear
from ...penalties import AbstractPenalty
from .._solution import Callback, Result, Solution, tell, where
from ._quasi_newton import minimise


@eqx.filter_jit
def regularise(
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    start: DeepLinear,
    penalty: AbstractPenalty,
    strength: Float[Array, ""] | None,
    noise: Float[Array, ""] | None,
    tolerance: float,
    max_outer_steps: int,
    max_inner_steps: int,
    callback: Callback | None = None,
) -> Solution:
    """Minimise loss + strength * penalty from a start of unit Frobenius norm.

    With `noise` in place of `strength`, the strength is moved until the loss is noise^2 (Morozov's
    discrepancy principle): the least penalty among matrices that fit as well as the truth does.
    """
    m, n = A.shape
    dtype = start.layers[0].dtype
    weight = (m * n / A.mean_square_norm()).astype(dtype)
    # Through the largest value, whose square may not be a number of this type.
    largest = jnp.max(jnp.abs(y))
    unit = y / jnp.where(largest > 0, largest, 1.0)
    norm = largest * jnp.sqrt(weight * jnp.mean(unit**2))
    scale = jnp.where(norm > 0, norm, 1.0)
    unit_y = y / scale
    # With W = scale * W', loss = scale^2 loss' and penalty = scale^degree penalty'.
    unit_strength = scale ** (penalty.degree(start.depth) - 2)

    def solve(network: DeepLinear, strength: Array, steps: int) -> tuple:
        def objective(network: DeepLinear) -> Array:
            return weight * (loss(network, A, unit_y) + strength * penalty(network, A))

        minimum = minimise(objective, network, steps, tolerance)
        return minimum.point, minimum.gradient_norm, minimum.steps

    if noise is None:
        assert strength is not None
        unit_penalty = strength * unit_strength
        network, gradient_norm, steps = solve(
            start, unit_penalty, max_outer_steps * max_inner_steps
        )
        outer, reached = jnp.asarray(1), jnp.asarray(True)
        history = jnp.full(max_outer_steps, jnp.nan, dtype)
    else:
        target = (noise / scale) ** 2

        def outer_step(carry: tuple) -> tuple:
            network, strength, _, _, steps, outer, history = carry
            network, gradient_norm, more = solve(network, strength, max_inner_steps)
            now = loss(network, A, unit_y)
            # To first order the loss of a shrunken fit is quadratic in the strength.
            change = jnp.clip(jnp.sqrt(target / jnp.maximum(now, 1e-30)), 0.1, 10.0)
            near = jnp.abs(now / target - 1) < 1e-2
            strength = jnp.where(near, strength, strength * change)
            residual = jnp.sqrt(now / jnp.mean(unit_y**2))
            tell(callback, outer, residual)
            history = history.at[outer].set(residual)
            return network, strength, near, gradient_norm, steps + more, outer + 1, history

        def unfinished(carry: tuple) -> Array:
            _, _, near, gradient_norm, _, outer, _ = carry
            return (outer < max_outer_steps) & ~(near & (gradient_norm <= tolerance))

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
                jnp.full(max_outer_steps, jnp.nan, dtype),
            ),
        )
        network, unit_penalty, reached, gradient_norm, steps, outer, history = carry

    singular_values = network.svd()[1]
    zero = jnp.sum(singular_values**2) < 1e-6
    result = where(gradient_norm <= tolerance, Result.converged, Result.step_limit)
    result = where(reached, result, Result.noise_not_reached)
    result = where(zero & (norm > 0), Result.collapsed, result)
    result = where(jnp.isfinite(gradient_norm), result, Result.not_finite)
    network = network.scaled(scale)
    return Solution(
        network,
        result,
        {
            "residual": jnp.linalg.norm(A.apply_network(network) - y)
            / jnp.where(norm > 0, jnp.linalg.norm(y), 1.0),
            "penalty": penalty(network, A),
            "rank": jnp.asarray(0),
            "gap": jnp.asarray(jnp.nan, dtype),
            "strength": unit_penalty / unit_strength,
            "noise": jnp.asarray(jnp.nan if noise is None else noise, dtype),
            "gradient_steps": steps,
            "outer_steps": outer,
            "residual_history": history,
        },
    )
