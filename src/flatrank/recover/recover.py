"""One entry: a matrix from its measurements."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import is_traced, positive_integer, require_memory
from ..flatness import check_fit, check_values
from ..measurements import AbstractMeasurements, EntryMeasurements
from ..network import DeepLinear
from .interpolate import interpolate
from .penalties import AbstractPenalty, Flatness
from .regularise import regularise
from .solution import Solution


def recover(
    A: AbstractMeasurements,
    y: Any,
    depth: int = 2,
    penalty: AbstractPenalty | None = None,
    *,
    noise: float | Array | None = None,
    strength: float | Array | None = None,
    width: int | None = None,
    key: PRNGKeyArray | None = None,
    start: DeepLinear | None = None,
    tolerance: float | None = None,
    max_outer_steps: int = 60,
    max_inner_steps: int = 100,
) -> Solution:
    """The matrix of least penalty that agrees with the measurements y = A(M).

    Without `noise` and `strength` the measurements are interpolated exactly; `noise`, the standard
    deviation of an error in y (in the units of y), asks for a loss of noise^2; `strength` minimises
    loss + strength * penalty. `penalty` is `Flatness()` (the default) or `WeightDecay()`.

    `width` bounds the rank; by default it is large enough never to (k(k+1)/2 <= N holds for some
    minimiser at depth 2: Pataki 1998). The start is spectral, the truncated singular value
    decomposition of the back-projected measurements, or random with a `key`, or as given.
    `tolerance` bounds ||A(W) - y|| / ||y|| when interpolating, and the gradient otherwise (default:
    1e-9 in float64, 1e-4 in float32).

    Works under `jit` and `vmap`, where values cannot be looked at and only shapes are checked.
    An error of 1e-8 needs float64: `jax.config.update("jax_enable_x64", True)`.

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
    if noise is not None and strength is not None:
        raise ValueError("`noise` and `strength` were both given: pass one, the other follows.")
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
    if isinstance(A, EntryMeasurements):
        _check_every_line_seen(A)
    if start is not None:
        check_fit(start, A)
        if start.depth != depth:
            raise ValueError(f"`start` has depth {start.depth} and `depth` is {depth}.")
    A = A.prepared(depth, width)
    start = _unit_start(A, y, depth, width, key) if start is None else start
    if tolerance is None:
        tolerance = 1e-9 if jnp.finfo(y.dtype).bits == 64 else 1e-4
    if noise is None and strength is None:
        return interpolate(A, y, start, penalty, tolerance, max_outer_steps, max_inner_steps)
    noise, strength = (
        None if value is None else jnp.asarray(value, y.dtype) for value in (noise, strength)
    )
    return regularise(
        A, y, start, penalty, strength, noise, tolerance, max_outer_steps, max_inner_steps
    )


def sufficient_width(A: AbstractMeasurements) -> int:
    """A width that does not bind: the smaller side, or the largest k with k(k+1)/2 <= N."""
    return max(1, min(*A.shape, (math.isqrt(8 * A.count + 1) - 1) // 2))


def _unit_start(
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    depth: int,
    width: int | None,
    key: PRNGKeyArray | None,
) -> DeepLinear:
    width = sufficient_width(A) if width is None else positive_integer(width, "width")
    if key is not None:
        m, n = A.shape
        random = DeepLinear.gaussian(key, A.shape, depth, width, scale=(m * n) ** -0.5)
        return DeepLinear(tuple(layer.astype(y.dtype) for layer in random.layers))
    m, n = A.shape
    # The spectral start forms the back-projection and its singular vectors.
    require_memory(
        4 * m * n * y.dtype.itemsize,
        f"The spectral start of a {m} x {n} matrix",
        "pass a `key` for a random start, or complete the table with MatrixCompleter",
    )
    largest = jnp.max(jnp.abs(y))
    back = A.adjoint(y / jnp.where(largest > 0, largest, 1.0))
    norm = jnp.linalg.norm(back)
    return DeepLinear.balanced(back / jnp.where(norm > 0, norm, 1.0), depth, width)


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
