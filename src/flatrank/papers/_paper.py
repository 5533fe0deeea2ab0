"""What a paper is to `flatrank reproduce`: figures, each with the claims that it tests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..measurements import DenseMeasurements
from ..reports import Claim, Picture


@dataclass(frozen=True)
class Finding:
    """What a figure's experiment found: the picture, claims, numbers as columns, and further facts."""

    picture: Picture
    claims: tuple[Claim, ...]
    columns: dict[str, np.ndarray]
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PaperFigure:
    """One figure: what it shows, the experiment, and its settings at both scales.

    `make(seed=..., on_step=..., **settings)` runs it. `quick` is what differs from `full`.
    """

    title: str
    text: str
    make: Callable[..., Finding]
    full: Mapping[str, Any]
    quick: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, scale: str) -> dict[str, Any]:
        """The arguments of the experiment at a scale, "quick" or "full"."""
        return {**self.full, **(self.quick if scale == "quick" else {})}


@dataclass(frozen=True)
class Paper:
    """A paper, where it is found, what to know about its settings, and its figures from 1."""

    name: str
    reference: str
    note: str
    figures: tuple[PaperFigure, ...]


class Rows:
    """Rows of long form, collected as they are found."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def add(self, **cells: Any) -> None:
        """Rows: arrays of one length, and numbers or words that all of them share."""
        size = max((len(np.atleast_1d(cell)) for cell in cells.values()), default=0)
        each = {name: np.broadcast_to(np.asarray(cell), size) for name, cell in cells.items()}
        self._rows.append(each)

    def columns(self) -> dict[str, np.ndarray]:
        """All rows as columns; cells that were not given are NaN, or empty words."""
        names = list(dict.fromkeys(name for rows in self._rows for name in rows))
        found = {}
        for name in names:
            kind = next(rows[name].dtype.kind for rows in self._rows if name in rows)
            nothing: Any = "" if kind == "U" else np.nan
            parts = [
                rows[name] if name in rows else np.full(len(next(iter(rows.values()))), nothing)
                for rows in self._rows
            ]
            found[name] = np.concatenate(parts)
        return found


def padded(A: DenseMeasurements, count: int) -> DenseMeasurements:
    """The measurements and zero matrices up to a count, scaled to the same mean squares."""
    missing = jnp.zeros((count - A.count, *A.shape))
    return DenseMeasurements((count / A.count) ** 0.5 * jnp.concatenate([A.matrices, missing]))
