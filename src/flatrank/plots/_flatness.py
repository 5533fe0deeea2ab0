"""Pictures of curvature: the spectrum of the Hessian, its density, and the trace layer by layer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from .. import flatness
from .._checks import as_instance, as_numbers, as_positive
from ..flatness import SpectralDensity
from ..flatness.general import Estimate
from ._canvas import ACCENT, COLOUR, canvas, numbers


def spectrum(eigenvalues: Any, title: str = "Spectrum of the Hessian") -> Figure:
    """The moduli of eigenvalues, largest first, on a logarithmic axis; negative ones in red.

    `eigenvalues` is an array, for example `jax.numpy.linalg.eigvalsh(dense_hessian(...))` or
    `largest_eigenvalues(...).values`. Those below round-off are not shown; the legend counts them.
    """
    as_numbers(eigenvalues, "eigenvalues")
    values = np.sort(np.asarray(eigenvalues, np.float64).ravel())[::-1]
    eps = np.finfo(np.result_type(np.asarray(eigenvalues), np.float32)).eps
    floor = len(values) * eps * np.abs(values).max(initial=0)
    figure, axis = canvas()
    for kept, colour, name in (
        (values[values > floor], COLOUR, "positive"),
        (-values[values < -floor][::-1], ACCENT, "negative"),
    ):
        if len(kept):
            index = np.arange(1, len(kept) + 1)
            axis.semilogy(index, kept, ".", color=colour, label=f"{len(kept)} {name}")
    zeros = int((np.abs(values) <= floor).sum())
    if zeros:
        axis.plot([], [], " ", label=f"{zeros} below round-off")
    axis.set(xlabel="index within its sign", ylabel="|eigenvalue|", title=title)
    axis.legend(frameon=False)
    return figure


def density(density: Any, width: Any = None, title: str = "Eigenvalue density") -> Figure:
    """The smoothed eigenvalue density with a band of two standard errors, on a logarithmic axis.

    `width` is that of the Gaussian which smooths it, by default a hundredth of the range.
    """
    as_instance(density, SpectralDensity, "density", "pass what `spectral_density` returns")
    low, high = float(jnp.min(density.nodes)), float(jnp.max(density.nodes))
    span = max(high - low, 1e-6 * max(abs(high), abs(low)), 1e-30)
    if width is None:
        width = span / 100
    width = float(as_positive(width, "width", "leave it out for a hundredth of the range"))
    grid = jnp.linspace(low - 5 * width, high + 5 * width, 1000, dtype=density.nodes.dtype)
    curve, error = (np.asarray(values) for values in density.smoothed(grid, width))
    figure, axis = canvas()
    axis.semilogy(grid, np.maximum(curve, 1e-300), color=COLOUR, lw=1.2)
    below = np.maximum(curve - 2 * error, 1e-300)
    axis.fill_between(grid, below, curve + 2 * error, color=COLOUR, alpha=0.25, lw=0)
    axis.set(
        xlabel="eigenvalue",
        ylabel="density",
        title=f"{title} ({len(density.nodes)} probes, ± 2 standard errors)",
        ylim=(1e-3 * curve.max() / density.nodes.shape[1], 2 * (curve + 2 * error).max()),
    )
    return figure


def layer_traces(traces: Any, title: str = "Trace of the Hessian, layer by layer") -> Figure:
    """Bars of the trace of each layer's block.

    `traces` is `flatness.layer_traces(...)`, or what `flatness.general.leaf_traces` estimates,
    whose standard errors are drawn.
    """
    if isinstance(traces, Estimate):
        leaves = jax.tree_util.tree_leaves_with_path(traces.value)
        names = [jax.tree_util.keystr(path) for path, _ in leaves]
        heights = np.asarray([float(value) for _, value in leaves])
        errors = np.asarray([float(error) for error in jax.tree.leaves(traces.standard_error)])
    else:
        heights = numbers(traces, "traces", 1)
        names = [f"$W_{{{j}}}$" for j in range(1, len(heights) + 1)]
        errors = np.zeros(len(heights))
    figure, axis = canvas()
    axis.bar(names, heights, yerr=errors if errors.any() else None, color=COLOUR, capsize=3)
    axis.axhline(0, color="black", lw=0.8)
    axis.set(ylabel="trace of the block", title=f"{title}: {heights.sum():.4g} in all")
    return figure


def flattening(network: Any, A: Any) -> Figure:
    """The trace of each layer's block before and after `flatrank.flatten`, and the totals."""
    before = np.asarray(flatness.layer_traces(network, A))
    after = np.asarray(flatness.layer_traces(flatness.flatten(network, A), A))
    place = np.arange(1, len(before) + 1)
    figure, axis = canvas()
    axis.bar(place - 0.2, before, 0.4, color="#b8b8b8", label=f"before: {before.sum():.4g}")
    axis.bar(place + 0.2, after, 0.4, color=COLOUR, label=f"after: {after.sum():.4g}")
    axis.set_xticks(place, [f"$W_{{{j}}}$" for j in place])
    axis.set(ylabel="trace of the block", title="Flattening: same matrix, smaller trace")
    axis.legend(frameon=False)
    return figure
