"""What a statement that can be checked is: its words, its formula, and both sides on instances."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from .._checks import as_key
from .._renamed import warn_renamed


class Outcome(StrEnum):
    """How a check ended; the members are the words that the user reads."""

    holds = "holds"
    fails = "fails"
    not_applicable = "hypotheses not met"


class Relation(StrEnum):
    """What is claimed of the two sides."""

    equal = "="
    at_most = "<="


@dataclass(frozen=True)
class Sides:
    """Both sides of a statement, one number an instance, and where its hypotheses are met.

    `scale` is what differences are measured in: by default the larger modulus of the two sides.
    """

    left: Float[np.ndarray, " k"]
    right: Float[np.ndarray, " k"]
    met: np.ndarray | None = None
    scale: np.ndarray | None = None


@dataclass(frozen=True)
class Check:
    """A verdict with its numbers.

    `slack` is (right - left) / scale for "<=" and -|right - left| / scale for "=": a statement fails
    where it is below -tolerance, or not a number. `met` tells the instances that count.
    """

    name: str
    relation: Relation
    tolerance: float
    left: Float[np.ndarray, " k"]
    right: Float[np.ndarray, " k"]
    slack: Float[np.ndarray, " k"]
    met: np.ndarray

    @property
    def instances(self) -> int:
        """How many instances met the hypotheses."""
        return int(self.met.sum())

    @property
    def worst_slack(self) -> float:
        """The least slack over the instances that met the hypotheses; NaN if none did."""
        return float(np.min(self.slack[self.met])) if self.instances else float("nan")

    @property
    def verdict(self) -> Outcome:
        """The name of `outcome` in release 0.1."""
        warn_renamed("`verdict`", "`outcome`")
        return self.outcome

    @property
    def outcome(self) -> Outcome:
        """Holds, fails, or hypotheses not met by any instance."""
        if not self.instances:
            return Outcome.not_applicable
        # Written so that a slack which is not a number fails.
        holds = bool(np.all(self.slack[self.met] >= -self.tolerance))
        return Outcome.holds if holds else Outcome.fails


@dataclass(frozen=True)
class Theorem:
    """A statement about networks or measurements that `check` tries to refute.

    `formula` is what is under test. `sides(formula, rng, quick)` draws fresh instances and computes
    both sides, all that is not `formula` by other means (automatic differentiation, brute force,
    simulation). Replace `formula` (`dataclasses.replace`) to see the check fail.
    """

    name: str
    statement: str
    latex: str
    hypotheses: str
    source: str
    relation: Relation
    tolerance: float
    formula: Callable[..., Any]
    sides: Callable[[Callable[..., Any], np.random.Generator, bool], Sides]

    def check(self, key: Any, *, quick: bool = True) -> Check:
        """The verdict on fresh random instances, with both sides of each.

        Raises ValueError in float32, in which differences of 1e-8 cannot be seen.
        """
        key = as_key(key)
        if jax.numpy.zeros(0).dtype != np.float64:
            raise ValueError(
                "Theorems are checked in float64: call "
                '`jax.config.update("jax_enable_x64", True)` first.'
            )
        # NumPy draws the instances: nothing has to be compiled for that.
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        found = self.sides(self.formula, rng, quick)
        met = np.ones(len(found.left), bool) if found.met is None else np.asarray(found.met, bool)
        if self.relation is Relation.at_most:
            # An infinite bound claims nothing, so that it confirms nothing.
            met = met & ~np.isposinf(found.right)
        size = np.maximum(np.abs(found.left), np.abs(found.right))
        scale = size if found.scale is None else found.scale
        with np.errstate(invalid="ignore"):
            difference = (found.right - found.left) / np.where(scale > 0, scale, 1.0)
        slack = difference if self.relation is Relation.at_most else -np.abs(difference)
        return Check(self.name, self.relation, self.tolerance, found.left, found.right, slack, met)


def as_sides(rows: list[tuple[Any, ...]]) -> Sides:
    """Sides from rows (left, right) or (left, right, met), one an instance."""
    left, right = (np.asarray([float(row[k]) for row in rows]) for k in (0, 1))
    met = np.asarray([bool(row[2]) if len(row) > 2 else True for row in rows])
    return Sides(left, right, met)
