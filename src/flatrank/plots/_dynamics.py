"""Pictures of training."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .._checks import as_instance, as_numbers, found
from ..dynamics import Run
from ._canvas import canvas, named, numbers

# Distinct without colour vision, and in grey (Okabe and Ito).
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_WORDS = {
    "loss": "loss",
    "trace": "trace of the Hessian",
    "layer_traces": "trace, layer by layer",
    "largest_eigenvalue": "largest eigenvalue of the Hessian",
    "tangent_slope": "tangent part of grad tr H",
    "nuclear_norm": "nuclear norm of W",
    "effective_rank": "effective rank of W",
    "singular_values": "singular values of W",
    "singular_value_speeds": "speed of singular values",
    "weight_decay": "sum of squares of all layers",
    "test_error": "relative error against the truth",
}
_FALLING = ("loss", "test_error", "tangent_slope", "singular_values")


def training(run: Any, title: str = "Training") -> Figure:
    """What a run recorded, one panel a quantity, against the step.

    Of many runs the median, with a band from the least to the largest. Vectors are drawn as one line
    an entry.
    """
    as_instance(run, Run, "run", "pass what `flatrank.train` returns")
    names = [name for name in run.history if name not in ("step", "time")]
    step = np.asarray(run.history["step"])
    across = min(3, len(names))
    rows = -(-len(names) // across)
    figure, axes = canvas(3.4 * across, 0.4 + 2.7 * rows, panels=len(names), rows=rows)
    runs = run.diverged_at.size
    for axis, name in zip(np.atleast_1d(axes).ravel(), names, strict=False):
        # runs, records, entries
        values = np.asarray(run.history[name]).reshape(runs, len(step), -1)
        entries = values.shape[2]
        for k in range(entries):
            colour = SERIES[k % len(SERIES)]
            with np.errstate(all="ignore"):
                low, middle, high = np.nanquantile(values[:, :, k], (0, 0.5, 1), axis=0)
            axis.plot(step, middle, color=colour, lw=1.3, label=f"{k + 1}")
            if runs > 1:
                axis.fill_between(step, low, high, color=colour, alpha=0.2, lw=0)
        if 1 < entries <= len(SERIES):
            axis.legend(frameon=False, fontsize=7)
        positive = values[np.isfinite(values) & (values > 0)]
        if name in _FALLING and positive.size and positive.max() > 30 * positive.min():
            axis.set_yscale("log")
            axis.set_ylim(bottom=max(positive.min(), 1e-16 * positive.max()) / 2)
        axis.set(xlabel="step", ylabel=_WORDS.get(name, name))
        axis.locator_params(axis="x", nbins=4)
    among = "" if runs == 1 else f" (median of {runs} runs, band: all of them)"
    figure.suptitle(f"{title}{among}")
    return figure


def on_one_axis(curves: Any, title: str) -> Figure:
    """Traces of several optimisers against the flow's time, name -> (time, trace).

    A trace with an axis of runs is drawn as its mean, with a band of two standard errors.
    """
    for name, curve in named(curves, "curves", "(time, trace)").items():
        which = f"curves[{name!r}]"
        if not isinstance(curve, tuple | list) or len(curve) != 2:
            raise TypeError(f"`{which}` must be a pair (time, trace), found {found(curve)}.")
        time, trace = (np.shape(as_numbers(part, which)) for part in curve)
        if len(time) != 1 or trace[-1:] != time:
            raise ValueError(
                f"`{which}` has a time of shape {time} and a trace of shape {trace}: pass a time for "
                "each record, (records,)."
            )
    figure, axis = canvas(5.6, 3.8)
    for (name, (time, trace)), colour in zip(curves.items(), SERIES, strict=False):
        time, trace = np.asarray(time), np.atleast_2d(np.asarray(trace))
        mean = trace.mean(0)
        among = "" if len(trace) == 1 else f", mean of {len(trace)} runs"
        style = "--" if len(trace) == 1 else "-"
        axis.plot(time, mean, style, color=colour, lw=1.4, label=f"{name}{among}")
        if len(trace) > 1:
            error = 2 * trace.std(0, ddof=1) / len(trace) ** 0.5
            axis.fill_between(time, mean - error, mean + error, color=colour, alpha=0.25, lw=0)
    axis.set(
        xlabel="time of the flow dw/dt = -P grad tr H", ylabel="trace of the Hessian", title=title
    )
    axis.legend(frameon=False, fontsize=8)
    return figure


def sam(steps: Any, full_batch: Any, single: Any, title: str) -> Figure:
    """The largest eigenvalue and the trace along full-batch SAM and along 1-SAM."""
    shown = ("largest_eigenvalue", "trace")
    steps = numbers(steps, "steps", 1)
    for which, history in (("full_batch", full_batch), ("single", single)):
        for name in shown:
            if name not in named(history, which, "array, such as `run.history`"):
                raise ValueError(f"`{which}` has no {name!r}: record it.")
            if numbers(history[name], f"{which}[{name!r}]", 1).shape != steps.shape:
                raise ValueError(f"`{which}` and `steps` have different lengths: pass one run's.")
    figure, axes = canvas(8.0, 3.4, panels=2)
    for axis, name in zip(axes, shown, strict=True):
        axis.plot(steps, full_batch[name], "-", color=SERIES[0], lw=1.4, label="full batch")
        axis.plot(
            steps, single[name], "--", color=SERIES[1], lw=1.4, label="batches of one (1-SAM)"
        )
        axis.set(xlabel="step", ylabel=_WORDS[name])
        axis.set_ylim(bottom=0)
        axis.locator_params(axis="x", nbins=4)
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    return figure
