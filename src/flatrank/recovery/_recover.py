"""One entry: a matrix from its measurements."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._checks import as_function, as_key, as_positive, is_traced, positive_integer
from .._progress import OnStep
from .._renamed import nothing_left, taken_over
from .._words import DEPTH, PENALTY
from ..flatness import check_values
from ..measurements import EntryMeasurements, as_measurements
from ..network import DeepLinear, as_network
from ..penalties import as_penalty
from ._auto import Auto
from ._machine import Stop
from ._method import AbstractMethod, Problem, as_method
from ._solution import Solution
from ._tell import OldCallback
from .lagrangian import Lagrangian
from .path import Path


def recover(
    A: Any,
    y: Any,
    depth: int = DEPTH,
    penalty: Any = PENALTY,
    *,
    method: Any = "auto",
    noise: Any = None,
    strength: Any = None,
    width: int | None = None,
    key: Any = None,
    start: Any = None,
    tolerance: Any = None,
    max_seconds: Any = None,
    on_step: OnStep | None = None,
    **renamed: Any,
) -> Solution:
    """The matrix of least penalty that agrees with the measurements y = A(M).

    *Arguments.* `A`: N measurements of an m x n matrix, or an array of shape (N, m, n). `y`: their
    values, shape (N,). `depth`: layers of the network, at least 2. `penalty`: `WeightDecay()` or
    `Flatness()`, or their words "weight-decay" and "flatness". Weight decay of depth 3 and more, the
    default, finds the rank by itself and reaches furthest: near the limit of what measurements can
    determine, and at condition numbers of 1e5 and more.

    `method`: "auto" takes `flatrank.recovery.Path()` for weight decay of depth 3 and more, and
    `flatrank.recovery.Lagrangian()` otherwise. Pass one of them, or `flatrank.recovery.Auto(...)`, to
    choose it or to set its step limits.

    Without `noise` and `strength` the measurements are interpolated exactly. `noise`: the standard
    deviation of an error in y (in the units of y), or "auto" to estimate it on held-out measurements:
    weight decay of depth 3 and more then fits least squares at the rank that stands out of the noise;
    other penalties are raised until the loss is noise^2. `strength`: minimise loss + strength *
    penalty.

    `width`: bounds the rank; by default it is large enough never to (k(k+1)/2 <= N holds for some
    minimiser at depth 2: Pataki 1998; k(m+n-k) <= N for what N measurements can determine). The start
    is spectral, random with a `key` (`jax.random.key(0)`), or as given: `start`, a network or a
    `Solution`. `tolerance`: bounds ||A(W) - y|| / ||y|| when interpolating, and the gradient otherwise
    (default: 1e-9 in float64, 1e-4 in float32). `max_seconds`: gives up after so many seconds; it and
    Ctrl-C return the best matrix so far, and `result` says so (`Path` on a CPU; what XLA has compiled
    cannot be stopped). `on_step`: called with what is done ("step 12, residual 3.1e-05") and the
    fraction of the step limit, each outer step.

    *Returns* a `Solution`: `matrix`, `successful`, `rank`, `message` and more. A matrix of low rank is
    successful where the measurements determine it, locally, and more of them agree than it takes;
    `solution.determined` says which entries are determined, and `solution.standard_errors()` how
    well where there is noise.

    Works under `jit` and `vmap`, where values cannot be looked at and only shapes are checked (`noise`
    "auto" does not). An error of 1e-8 needs float64: `jax.config.update("jax_enable_x64", True)`.

    *Raises* TypeError or ValueError for arguments that do not fit each other or `method`, ValueError for
    an entry ensemble with an empty row or column, about which nothing is known, and MemoryError before
    an allocation that would not fit.

    >>> import jax
    >>> import flatrank as fr
    >>> truth = jax.numpy.outer(jax.numpy.arange(1.0, 9.0), jax.numpy.arange(8.0))
    >>> A = fr.gaussian_measurements(jax.random.key(0), 45, (8, 8))
    >>> solution = fr.recover(A, A.apply(truth))
    >>> bool(solution.successful), int(solution.rank)
    (True, 1)
    >>> bool(jax.numpy.allclose(solution.matrix, truth, rtol=1e-3))
    True
    """
    outer = taken_over(
        renamed, "max_outer_steps", "method=Lagrangian(max_outer_steps=...)", None, None
    )
    inner = taken_over(
        renamed, "max_inner_steps", "method=Lagrangian(max_inner_steps=...)", None, None
    )
    if "callback" in renamed:
        callback = taken_over(renamed, "callback", "on_step", on_step, None)
        on_step = None if callback is None else OldCallback(callback)
    nothing_left(renamed, "recover")
    if on_step is not None:
        as_function(on_step, "on_step", "of (what, fraction)")
    chosen = as_method(method, Auto())
    if outer is not None or inner is not None:
        chosen = _with_old_limits(chosen, outer, inner)
    A = as_measurements(A)
    y = check_values(y, A)
    penalty = as_penalty(PENALTY if penalty is None else penalty)
    if positive_integer(depth, "depth") < 2:
        raise ValueError(f"`depth` must be at least 2, found {depth}: one layer has no bias.")
    if width is not None:
        width = positive_integer(width, "width")
    key = None if key is None else as_key(key)
    noise, strength = _checked_noise(noise, strength, y)
    remedy = "leave it out for no limit"
    stop = Stop(
        None if max_seconds is None else float(as_positive(max_seconds, "max_seconds", remedy))
    )
    if isinstance(A, EntryMeasurements):
        _check_every_line_seen(A)
    start = None if start is None else _checked_start(start, A.shape, depth)
    if tolerance is None:
        tolerance = 1e-9 if jnp.finfo(y.dtype).bits == 64 else 1e-4
    else:
        tolerance = as_positive(tolerance, "tolerance", "leave it out for the default")
    if isinstance(noise, str):
        random = jax.random.key(0) if key is None else key
        noise = Path().noise_level(A, y, max(depth, 3), width, random, stop)
        noise = None if float(noise) == 0 else noise
    noise, strength = (None if v is None else jnp.asarray(v, y.dtype) for v in (noise, strength))
    problem = Problem(
        A, y, depth, penalty, noise, strength, width, key, start, tolerance, on_step, stop
    )
    reason = chosen.unfit(problem)
    if reason is not None:
        raise ValueError(reason)
    return chosen.solve(problem)


def _with_old_limits(method: AbstractMethod, outer: Any, inner: Any) -> Auto:
    """`Auto` with limits that were given by their names of the release before."""
    if method != Auto():
        raise TypeError(
            "`max_outer_steps` and `max_inner_steps` are settings of `method` now and both were given: "
            "pass method=Lagrangian(max_outer_steps=..., max_inner_steps=...) alone."
        )
    given = {"max_outer_steps": outer, "max_inner_steps": inner}
    return Auto(lagrangian=Lagrangian(**{k: v for k, v in given.items() if v is not None}))


def _checked_start(start: Any, shape: tuple[int, int], depth: int) -> DeepLinear:
    """The network to start from, or TypeError or ValueError for one that cannot be."""
    network = as_network(start, "start")
    if network.shape != shape:
        raise ValueError(
            f"`start` has an end-to-end matrix of shape {network.shape} and `A` measures matrices of "
            f"shape {shape}: build it with shape={shape}."
        )
    if network.depth != depth:
        raise ValueError(
            f"`start` has depth {network.depth} and `depth` is {depth}: pass depth={network.depth}."
        )
    return network


def _checked_noise(noise: Any, strength: Any, y: Array) -> tuple[Any, Any]:
    """The noise and the strength, or TypeError or ValueError for what cannot be."""
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
        return noise, None
    remedy = "leave it out to interpolate"
    noise, strength = (
        None if value is None else as_positive(value, name, remedy)
        for name, value in (("noise", noise), ("strength", strength))
    )
    if noise is not None and not is_traced(noise, y):
        size = float(np.sqrt(np.mean(np.asarray(y, np.float64) ** 2)))
        if float(noise) >= size:
            raise ValueError(
                f"`noise` is {float(noise):.3g} and the root mean square of `y` is {size:.3g}: noise "
                "alone would explain the measurements; check the units of both."
            )
    return noise, strength


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
