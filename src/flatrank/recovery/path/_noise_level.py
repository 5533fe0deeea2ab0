"""The standard deviation of the noise, from measurements that are held out."""

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ...measurements import AbstractMeasurements
from .._degrees_of_freedom import determined_rank
from ..factored import factored, machine_for
from ._homotopy import PathSettings, homotopy, start_width
from ._least_squares import fit_above_noise

# Below this multiple of the type's resolution noise cannot be told from round-off.
_EXACT = 1e5
_HELD_OUT = 0.1


def estimated_noise(
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    key: PRNGKeyArray,
    settings: PathSettings,
    width: int | None,
) -> float:
    """The standard deviation of the noise, zero where it cannot be told from round-off.

    A tenth of the measurements is held out of a path; the least error on them bounds the noise from
    above. Least squares at the rank that stands out of it then gives the residual's standard
    deviation, with the degrees of freedom of the fit taken off.
    """
    split_key, key = jax.random.split(key)
    order = np.asarray(jax.random.permutation(split_key, A.count))
    held = max(1, int(_HELD_OUT * A.count))
    kept_A, held_A = A.part(order[held:]), A.part(order[:held])
    kept_y, held_y = (np.asarray(y)[chosen] for chosen in (order[held:], order[:held]))
    m, n = A.shape
    limit = determined_rank(kept_A, width)
    settings = settings._replace(rank_limit=limit)
    machine = machine_for(A)
    F = factored(kept_A, start_width(A.shape, limit), machine, y.dtype)
    watch = (factored(held_A, limit, machine, y.dtype), held_y)
    path = machine.run(homotopy, F, kept_y, key, settings, watch=watch)
    if float(path.residual) < _EXACT * settings.eps:
        return 0.0
    noise = path.residual * np.linalg.norm(held_y) / held**0.5
    for _ in range(2):
        fit = machine.run(fit_above_noise, F, kept_y, key, noise, settings)
        freedom = max(kept_A.count - int(fit.rank) * (m + n - int(fit.rank)), 1)
        noise = (fit.square / freedom) ** 0.5
    return float(noise)
