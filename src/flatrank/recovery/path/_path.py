"""Weight decay of depth three and more, by the path of `_homotopy.py`: exact, or least squares."""

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ...measurements import AbstractMeasurements
from ...network import DeepLinear
from ...penalties import WeightDecay
from .._degrees_of_freedom import determined_rank
from .._factored_measurements import factored
from .._low_rank_matrix import LowRankMatrix
from .._scale import power_of, safe_norm
from .._solution import Callback, Result, Solution, where
from ._homotopy import WIDER, PathEnd, homotopy
from ._least_squares import fit_above_noise


def interpolate_at_low_rank(
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    depth: int,
    width: int | None,
    key: PRNGKeyArray,
    tolerance: float,
    callback: Callback | None = None,
    like: Solution | None = None,
) -> Solution:
    """An interpolator whose rank the measurements determine, or the step limit where there is none.

    The shapes of the solution are those of `like`, where it is given.
    """
    limit = determined_rank(A, width)
    F = factored(A, WIDER * limit)
    path = homotopy(F, y, A.shape, power_of(A, y), depth, limit, key, callback=callback)
    network, stats = _measured(A, y, path.X, path, depth, width or limit, jnp.nan, like)
    rank = stats["rank"]
    m, n = A.shape
    # As many numbers as measurements would fit anything, unless every entry is measured.
    determined = (rank * (m + n - rank) < A.count) | (A.count >= m * n)
    found = (stats["residual"] <= tolerance) & determined
    result = where(found, Result.low_rank, Result.step_limit)
    result = where(jnp.isfinite(path.residual), result, Result.not_finite)
    return Solution(network, result, stats)


def fit_at_rank(
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    noise: Float[Array, ""],
    depth: int,
    width: int | None,
    key: PRNGKeyArray,
    callback: Callback | None = None,
) -> Solution:
    """Least squares at the rank that stands out of the noise."""
    limit = determined_rank(A, width)
    F = factored(A, WIDER * limit)
    fit = fit_above_noise(F, y, A.shape, power_of(A, y), depth, limit, key, noise, callback)
    network, stats = _measured(A, y, fit.X, fit.path, depth, width or limit, noise, None)
    m, n = A.shape
    freedom = jnp.maximum(A.count - fit.rank * (m + n - fit.rank), 1).astype(y.dtype)
    explained = fit.square <= 4 * noise**2 * freedom
    result = where(explained, Result.converged, Result.noise_not_reached)
    result = where(fit.rank == 0, Result.collapsed, result)
    result = where(jnp.isfinite(fit.square), result, Result.not_finite)
    return Solution(network, result, stats)


def _measured(
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    X: LowRankMatrix,
    path: PathEnd,
    depth: int,
    width: int,
    noise: Array | float,
    like: Solution | None,
) -> tuple[DeepLinear, dict[str, Array]]:
    """The network of a matrix, in the shapes of `like` if it is given, and its statistics."""
    history = path.history
    if like is not None:
        width = like.network.width
        length = len(like.stats["residual_history"])
        missing = max(0, length - len(history))
        history = jnp.pad(history, (0, missing), constant_values=jnp.nan)[:length]
    network = DeepLinear.from_svd(X.U, X.s, X.V.T, depth, width)
    size = safe_norm(y)
    residual = safe_norm(A.apply_network(network) - y) / jnp.where(size > 0, size, 1.0)
    nothing = jnp.asarray(jnp.nan, y.dtype)
    return (
        network,
        {
            "residual": residual,
            "penalty": WeightDecay()(network, A),
            "rank": jnp.sum(X.s > 0),
            "gap": nothing,
            "strength": nothing,
            "noise": jnp.asarray(noise, y.dtype),
            "gradient_steps": path.inner_steps,
            "outer_steps": path.steps,
            "residual_history": history,
        },
    )
