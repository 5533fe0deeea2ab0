"""The standard deviation of the noise, from measurements that are held out."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ...measurements import AbstractMeasurements
from .._degrees_of_freedom import determined_rank
from .._factored_measurements import factored
from .._scale import power_of
from .._step_limits import StepLimits
from ._homotopy import WIDER, homotopy
from ._least_squares import fit_above_noise

# Below this multiple of the type's resolution noise cannot be told from round-off.
_EXACT = 1e5
_HELD_OUT = 0.1


def estimated_noise(
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    depth: int,
    width: int | None,
    key: PRNGKeyArray,
    limits: StepLimits,
) -> Float[Array, ""]:
    """The standard deviation of the noise, zero where it cannot be told from round-off.

    A tenth of the measurements is held out of a path; the least error on them bounds the noise from
    above. Least squares at the rank that stands out of it then gives the residual's standard
    deviation, with the degrees of freedom of the fit taken off.
    """
    split_key, key = jax.random.split(key)
    order = jax.random.permutation(split_key, A.count)
    held = max(1, int(_HELD_OUT * A.count))
    kept_A, held_A = A.part(order[held:]), A.part(order[:held])
    kept_y, held_y = y[order[held:]], y[order[:held]]
    m, n = A.shape
    limit = determined_rank(kept_A, width)
    F = factored(kept_A, WIDER * limit)
    power = power_of(kept_A, y)
    watch = (factored(held_A, limit), held_y)
    path = homotopy(F, kept_y, A.shape, power, depth, limit, key, limits, watch=watch)
    size = jnp.linalg.norm(held_y) / held**0.5
    above = path.residual * size
    if float(path.residual) < _EXACT * float(jnp.finfo(y.dtype).eps):
        return jnp.zeros_like(above)
    noise = above
    for _ in range(2):
        fit = fit_above_noise(F, kept_y, A.shape, power, depth, limit, key, noise, limits)
        freedom = kept_A.count - fit.rank * (m + n - fit.rank)
        noise = jnp.sqrt(fit.square / jnp.maximum(freedom, 1).astype(y.dtype))
    return noise
