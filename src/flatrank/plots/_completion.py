"""Pictures of recoveries."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .._checks import as_instance
from ..completion import Completion, SingleCompletion
from ..entries import Entries
from ._canvas import ACCENT, COLOUR, canvas, heat_map, named, numbers

_SIDE = 150
_FITTED = "pass `completer.completion_` of a MatrixCompleter that was fitted"


def singular_values(values: Any, title: str = "Singular values of W") -> Figure:
    """Singular values, largest first, on a logarithmic axis."""
    values = numbers(values, "values", 1)
    figure, axis = canvas()
    axis.semilogy(
        np.arange(1, len(values) + 1), np.maximum(values, 1e-300), "o-", color=COLOUR, ms=4
    )
    positive = values[values > 0]
    if len(positive):
        axis.set_ylim(bottom=max(positive.min(), 1e-18 * positive.max()) / 2)
    axis.set(xlabel="index", ylabel="singular value", title=title)
    axis.xaxis.get_major_locator().set_params(integer=True)
    return figure


def convergence(history: Any) -> Figure:
    """The last fit's objective after each sweep; with draws the mean square residual of all sweeps."""
    history = numbers(history, "history", 1)
    figure, axis = canvas()
    axis.plot(np.arange(1, len(history) + 1), history, "o-", color=COLOUR, ms=4)
    axis.set(
        xlabel="sweep over the layers",
        ylabel="objective or residual / variance of the data",
        title="Convergence",
    )
    axis.ticklabel_format(useOffset=False)
    return figure


def residuals(history: Any) -> Figure:
    """The relative residual of the measurements after each outer step, on a logarithmic axis."""
    history = numbers(history, "history", 1)
    figure, axis = canvas()
    axis.semilogy(np.arange(1, len(history) + 1), history, "o-", color=COLOUR, ms=4)
    axis.set(xlabel="outer step", ylabel="||A(W) - y|| / ||y||", title="Convergence")
    return figure


def path(completion: Any) -> Figure:
    """Held-out error and effective rank along the path of penalty strengths."""
    as_instance(completion, SingleCompletion, "completion", f"{_FITTED} with draws=0")
    if not completion.path:
        raise ValueError("`completion` has no path: fit with strength='auto'.")
    figure, axis = canvas()
    strengths = [step.strength for step in completion.path]
    axis.semilogx(
        strengths, [step.held_out_error for step in completion.path], "o-", color=COLOUR, ms=4
    )
    chosen = min(completion.path, key=lambda step: abs(step.strength - completion.strength))
    axis.plot(chosen.strength, chosen.held_out_error, "o", color=ACCENT, ms=9, label="chosen")
    axis.set(
        xlabel="penalty strength",
        ylabel="root mean square error",
        title="Held-out error along the path",
    )
    axis.legend(frameon=False)
    twin = axis.twinx()
    twin.semilogx(strengths, [step.effective_rank for step in completion.path], ":", color="grey")
    twin.set_ylabel("effective rank (dotted)", color="grey")
    return figure


def residual_histogram(completion: Any) -> Figure:
    """The distribution of the residuals of the entries held out."""
    as_instance(completion, Completion, "completion", _FITTED)
    residuals = completion.held_out.residuals
    if not len(residuals):
        raise ValueError("`completion` held out no entries: fit with strength='auto'.")
    figure, axis = canvas()
    low, high = np.quantile(residuals, [0.002, 0.998])
    axis.hist(residuals, bins=60, range=(low, max(high, low + 1e-12)), color=COLOUR)
    axis.axvline(0, color="black", lw=0.8)
    axis.set(
        xlabel="value - prediction",
        ylabel="held-out entries",
        title=f"Residuals of {len(residuals):,} entries hidden from the fit",
    )
    return figure


def _block_means(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Means over blocks of a table of at most _SIDE x _SIDE blocks; NaN where there is nothing."""
    m, n = (min(size, _SIDE) for size in shape)
    block = (rows * m // shape[0]) * n + columns * n // shape[1]
    count = np.bincount(block, minlength=m * n)
    total = np.bincount(block, values, minlength=m * n)
    means = np.divide(total, count, out=np.full(m * n, np.nan), where=count > 0)
    return means.reshape(m, n)


def table(entries: Any, completion: Any) -> Figure:
    """Observed, recovered, and the residual of hidden entries; block means if it is large."""
    as_instance(entries, Entries, "entries", "pass `completer.entries_`")
    as_instance(completion, Completion, "completion", _FITTED)
    if entries.shape != completion.shape:
        raise ValueError(
            f"`entries` are of a table {entries.shape} and `completion` is of one {completion.shape}: "
            "pass those that it was fitted to."
        )
    rows, columns, values, shape = entries.rows, entries.columns, entries.values, entries.shape
    m, n = (min(size, _SIDE) for size in shape)
    # The middle line of each block stands for it.
    i = (np.arange(m) * 2 + 1) * shape[0] // (2 * m)
    j = (np.arange(n) * 2 + 1) * shape[1] // (2 * n)
    observed = _block_means(rows, columns, values, shape)
    recovered = completion.predict(np.repeat(i, n), np.tile(j, m)).reshape(m, n)
    held = completion.held_out
    residual = _block_means(held.rows, held.columns, held.residuals, shape)
    figure, axes = canvas(11.0, 4.2, 3)
    low, high = np.quantile(values, [0.01, 0.99])
    extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    spread = float(np.nanquantile(np.abs(residual), 0.99)) if np.isfinite(residual).any() else 1.0
    heat_map(axes[0], observed, "observed", (low, high), "viridis", extent=extent)
    heat_map(axes[1], recovered, "recovered", (low, high), "viridis", extent=extent)
    title = "residual of hidden entries"
    heat_map(axes[2], residual, title, (-spread, spread), "RdBu", extent=extent)
    return figure


def false_colour(images: Any, title: str) -> Figure:
    """Three-band images (height, width, 3) side by side, stretched alike; NaN is grey."""
    images = {
        name: numbers(image, f"images[{name!r}]", 3)
        for name, image in named(images, "images", "array (height, width, 3)").items()
    }
    for name, image in images.items():
        if image.shape[2] != 3:
            raise ValueError(
                f"`images[{name!r}]` has shape {image.shape}: pass three bands, (height, width, 3)."
            )
    figure, axes = canvas(11.0, 4.0, len(images))
    first = next(iter(images.values()))
    low, high = np.nanquantile(first, [0.02, 0.98], axis=(0, 1))
    for axis, (name, image) in zip(np.atleast_1d(axes), images.items(), strict=True):
        stretched = np.clip((image - low) / (high - low), 0, 1)
        axis.imshow(np.where(np.isnan(stretched), 0.85, stretched), interpolation="nearest")
        axis.set(title=name, xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.suptitle(title)
    return figure


def recovered_spectra(spectra: Any, truth: Any, title: str) -> Figure:
    """Singular values of several recoveries against those of the true matrix."""
    truth = numbers(truth, "truth", 1)
    spectra = {
        name: numbers(values, f"spectra[{name!r}]", 1)
        for name, values in named(spectra, "spectra", "singular values").items()
    }
    figure, axis = canvas()
    for marker, (name, values) in zip("os^Dv", spectra.items(), strict=False):
        axis.semilogy(
            np.arange(1, len(values) + 1),
            np.maximum(values / truth[0], 1e-18),
            marker,
            mfc="none",
            ms=5,
            label=name,
        )
    index = np.flatnonzero(truth > 1e-12 * truth[0])
    axis.semilogy(index + 1, truth[index] / truth[0], "k_", ms=16, label="true matrix")
    axis.set(xlabel="index", ylabel="singular value / largest", title=title)
    axis.legend(frameon=False)
    return figure
