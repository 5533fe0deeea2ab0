"""Where a solver gives up."""

from typing import NamedTuple


class StepLimits(NamedTuple):
    """The most outer steps, and the most inner steps in each of them; Python integers."""

    outer: int
    inner: int
