"""Pictures of statements: both sides on every instance."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .._checks import as_instance
from ..theory import Check, Relation
from ._canvas import ACCENT, COLOUR, canvas


def sides(check: Any) -> Figure:
    """The right side against the left, with the line on which they are equal.

    "<=" holds on and above the line, "=" on it; instances that miss the hypotheses are hollow.
    """
    as_instance(check, Check, "check", "pass what `Theorem.check` or `verify` returns")
    figure, axis = canvas(4.6, 3.8)
    met = check.met
    axis.plot(check.left[met], check.right[met], "o", ms=4, color=COLOUR)
    if not met.all():
        axis.plot(check.left[~met], check.right[~met], "o", ms=4, mfc="none", color="grey")
    seen = np.concatenate([check.left, check.right])
    seen = seen[np.isfinite(seen)]
    if len(seen):
        if seen.min() > 0 and seen.max() > 30 * seen.min():
            axis.set(xscale="log", yscale="log")
        ends = np.asarray([seen.min(), seen.max()])
        axis.plot(ends, ends, "-", color=ACCENT, lw=1, zorder=0)
    claim = "on" if check.relation is Relation.equal else "on or above"
    axis.set(xlabel="left side", ylabel=f"right side ({claim} the line)", title=check.name)
    return figure
