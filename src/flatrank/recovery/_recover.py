"""One entry: a matrix from its measurements."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import is_traced, positive_integer
from .._order import after
from ..flatness import check_fit, check_values
from ..measurements import AbstractMeasurements, EntryMeasurements
from ..network import DeepLinear
from ..penalties import AbstractPenalty, Flatness, WeightDecay
from ._solution import Callback, Result, Solution, where
from .lagrangian import interpolate, regularise, unit_start
from .path import estimated_noise, fit_at_rank, interpolate_at_low_rank


def recover(
    A: AbstractMeasurements,
    y: Any,
    depth: int = 2,
    penalty: AbstractPenalty | None = None,
    *,
    noise: float | Array | str | None = None,
    strength: float | Array | None = None,
    width: int | None = None,
    key: PRNGKeyArray | None = None,
    start: DeepLinear | None = None,
    tolerance: float | None = None,
    max_outer_steps: int = 200,
    max_inner_steps: int = 100,
    callback: Callback | None = None,
) -> Solution:
    """The matrix of least penalty that agrees with the measurements y = A(M).

    `penalty` is `Flatness()` (the default) or `WeightDecay()`. *Weight decay of depth 3 and more* finds
    the rank by itself and reaches furthest: near the limit of what measurements can determine, and at
    condition numbers of 1e5 and more (a Gauss-Newton path, `homotopy.py`). Otherwise, and where that
    finds no low-rank matrix, an augmented Lagrangian over the layers is solved (`interpolate.py`).

    Without `noise` and `strength` the measurements are interpolated exactly. `noise` is the standard
    deviation of an error in y (in the units of y), or "auto" to estimate it on held-out measurements:
    weight decay of depth 3 and more then fits least squares at the rank that stands out of the noise;
    other penalties are raised until the loss is noise^2. `strength` minimises loss + strength *
    penalty.

    `width` bounds the rank; by default it is large enough never to (k(k+1)/2 <= N holds for some
    minimiser at depth 2: Pataki 1998; k(m+n-k) <= N for what N measurements can determine). The start
    is spectral, random with a `key`, or as given. `tolerance` bounds ||A(W) - y|| / ||y|| when
    interpolating, and the gradient otherwise (default: 1e-9 in float64, 1e-4 in float32). `callback`
    is called with the number and the relative residual of each outer step.

    Works under `jit` and `vmap`, where values cannot be looked at and only shapes are checked ("auto"
    does not). An error of 1e-8 needs float64: `jax.config.update("jax_enable_x64", True)`.

    Raises TypeError or ValueError for arguments that do not fit, ValueError for an entry ensemble
    with an empty row or column, about which nothing is known, and MemoryError before an allocation
    that would not fit.

    >>> import jax
    >>> import flatrank as fr
    >>> truth = jax.numpy.outer(jax.numpy.arange(1.0, 9.0), jax.numpy.arange(8.0))
    >>> A = fr.gaussian_measurements(jax.random.key(0), 45, (8, 8))
    >>> solution = fr.recover(A, A.apply(truth), depth=3)
    >>> bool(solution.successful), int(solution.stats["rank"])
    (True, 1)
    >>> bool(jax.numpy.allclose(solution.matrix, truth, rtol=1e-3))
    True
    """
    y = check_values(y, A)
    if penalty is None:
        penalty = Flatness()
    if positive_integer(depth, "depth") < 2:
        raise ValueError(f"`depth` must be at least 2, found {depth}: one layer has no bias.")
    if width is not None:
        positive_integer(width, "width")
    _check_noise(noise, strength, y)
    if isinstance(A, EntryMeasurements):
        _check_every_line_seen(A)
    if start is not None:
        check_fit(start, A)
        if start.depth != depth:
            raise ValueError(f"`start` has depth {start.depth} and `depth` is {depth}.")
    if tolerance is None:
        tolerance = 1e-9 if jnp.finfo(y.dtype).bits == 64 else 1e-4
    path_key = jax.random.key(0) if key is None else key
    if isinstance(noise, str):
        noise = estimated_noise(A, y, max(depth, 3), width, path_key)
        noise = None if float(noise) == 0 else noise
    low_rank = (
        isinstance(penalty, WeightDecay) and depth >= 3 and start is None and strength is None
    )

    def over_layers(y: Float[Array, " N"] = y) -> Solution:
        prepared = A.prepared(depth, width) if isinstance(penalty, Flatness) else A
        first = unit_start(A, y, depth, width, key) if start is None else start
        limits = (tolerance, max_outer_steps, max_inner_steps)
        if noise is None and strength is None:
            return interpolate(prepared, y, first, penalty, *limits, callback)
        at, level = (None if v is None else jnp.asarray(v, y.dtype) for v in (strength, noise))
        return regularise(prepared, y, first, penalty, at, level, *limits, callback)

    if not low_rank:
        return over_layers()
    if noise is not None:
        return fit_at_rank(A, y, jnp.asarray(noise, y.dtype), depth, width, path_key, callback)

    def over_layers_instead() -> Solution:
        # Under `vmap` both are computed: one after the other (decision 3).
        other = over_layers(after(found.stats["residual"], y))
        if A.count >= A.shape[0] * A.shape[1]:
            return other
        met = other.result == Result.converged
        return Solution(other.network, where(met, Result.undetermined, other.result), other.stats)

    if is_traced(A, y):
        # The steps that follow are compiled with the path: both have the same shapes.
        shape = jax.eval_shape(over_layers)
        found = interpolate_at_low_rank(A, y, depth, width, path_key, tolerance, callback, shape)
        return jax.lax.cond(found.successful, lambda: found, over_layers_instead)
    found = interpolate_at_low_rank(A, y, depth, width, path_key, tolerance, callback)
    return found if bool(found.successful) else over_layers_instead()


def _check_noise(noise: Any, strength: Any, y: Array) -> None:
    """Raise ValueError for a noise or a strength that cannot be."""
    if noise is not None and strength is not None:
        raise ValueError("`noise` and `strength` were both given: pass one, the other follows.")
    if isinstance(noise, str):
        if noise != "auto":
            raise ValueError(
                f"`noise` must be a standard deviation, 'auto' or None, found {noise!r}."
            )
        if is_traced(y):
            raise ValueError(
                "`noise` is 'auto' and `y` is traced (`jit`, `vmap`): estimate the noise outside and "
                "pass its standard deviation."
            )
        return
    for name, value in (("noise", noise), ("strength", strength)):
        if value is not None and not is_traced(value) and not (0 < float(value) < math.inf):
            raise ValueError(
                f"`{name}` must be positive and finite, found {value}: leave it out to interpolate."
            )
    if noise is not None and not is_traced(noise, y):
        size = float(np.sqrt(np.mean(np.asarray(y, np.float64) ** 2)))
        if float(noise) >= size:
            raise ValueError(
                f"`noise` is {float(noise):.3g} and the root mean square of `y` is {size:.3g}: noise "
                "alone would explain the measurements; check the units of both."
            )


def _check_every_line_seen(A: EntryMeasurements) -> None:
    if is_traced(A.rows, A.columns):
        return
    for name, indices, size in zip(("row", "column"), (A.rows, A.columns), A.shape, strict=True):
        empty = np.flatnonzero(np.bincount(np.asarray(indices), minlength=size) == 0)
        if len(empty):
            raise ValueError(
                f"`A` observes no entry of {name} {empty[0]} ({len(empty)} empty {name}(s)): "
                "nothing is known about it; remove it, or use MatrixCompleter, which fills it."
            )
