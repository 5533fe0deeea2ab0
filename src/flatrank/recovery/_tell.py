"""Telling how far a solver is, from within compiled code."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
from jaxtyping import Array

from .._progress import OnStep


@dataclass(frozen=True)
class OldCallback:
    """A `callback(step, residual)` of the release before, which counts steps from zero."""

    callback: Callable[[int, float], None]

    def __call__(self, what: str, fraction: float) -> None:
        """What is said in words is nothing that the old signature has room for."""


def tell(on_step: OnStep | None, step: Array, residual: Array, limit: int) -> None:
    """Tell of outer step number `step` (the first is 0) of at most `limit`, and its residual."""
    if on_step is not None:
        heard = lambda step, residual: told(on_step, int(step), float(residual), limit)  # noqa: E731
        jax.debug.callback(heard, step, residual)


def told(on_step: OnStep, step: int, residual: float, limit: int) -> None:
    """Tell of a step that is not in compiled code."""
    if isinstance(on_step, OldCallback):
        on_step.callback(step, residual)
    else:
        on_step(f"step {step + 1}, residual {residual:.1e}", (step + 1) / limit)
