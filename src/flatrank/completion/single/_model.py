"""One factorisation of a table: the path of penalty strengths, the choice on held-out entries."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ..._progress import OnStep, silent
from ...entries import Entries
from ...network import DeepLinear
from ...norms import effective_rank
from ...penalties import AbstractPenalty
from .._biased import BiasedNetwork
from .._completion import HeldOut
from .._width import default_width
from ._alternating import Fit, alternate
from ._bucketed import BucketedEntries, bucketed, with_all_entries
from ._completion import PathStep, SingleCompletion
from ._objective import Objective
from ._strengths import (
    evenly_measured,
    largest_strength,
    matching_strength,
    random_start,
    rekindled,
)

# Strengths on the path fall by this factor; it ends this many steps after the best.
_PATH_RATIO = 0.5
_PATH_LENGTH = 24
_PATIENCE = 2
_PATH_SWEEPS = 6
_PATH_TOLERANCE = 1e-3


@dataclass(frozen=True)
class SingleFactorisation:
    """The factorisation of the smallest loss + strength * penalty, float32.

    * `penalty`, `depth`: what is minimised.
    * `strength`: in the units of the data; "auto" walks along a warm-started path of falling strengths
      without a fraction `validation_fraction` of the entries, takes the one with the smallest error on
      those, and fits again to all.
    * `width`: bounds the rank; None: at most 32, and what the number of entries can determine.
    * `biases`: whether rows and columns have biases.
    * `smoothing`: the share of the flatness that is measured as if the entries were spread evenly.
    * `tolerance`, `max_sweeps`: the last fit ends when a sweep gains less, or after so many.
    * `seed`: decides the held-out entries and the random start.
    """

    penalty: AbstractPenalty
    depth: int = 2
    strength: float | Literal["auto"] = "auto"
    width: int | None = None
    biases: bool = True
    smoothing: float = 0.0
    validation_fraction: float = 0.1
    tolerance: float = 3e-4
    max_sweeps: int = 30
    seed: int = 0

    def fit(self, entries: Entries, on_step: OnStep = silent) -> SingleCompletion:
        """The completed table; `on_step` is told how far the work is."""
        given = None if self.width is None else min(self.width, *entries.shape)
        width = default_width(entries.shape, len(entries)) if given is None else given
        # A strength is per entry of squared error; with data divided by their spread, and W with them:
        to_data = entries.spread ** (2 - self.penalty.degree(self.depth))
        random = np.random.default_rng(self.seed)
        # Nothing can be held out of a single entry; any strength completes the table by its value.
        chosen = self.strength == "auto" and len(entries) > 1
        held = np.zeros(len(entries), bool)
        if chosen:
            held = entries.held_out(self.validation_fraction, random)
        on_step("arranging the entries", 0.0)
        table = bucketed(entries, ~held, width)
        model = random_start(jax.random.key(int(random.integers(2**31))), entries.shape, width)
        walk = _Walk(self, entries, held, table, on_step)
        path: list[PathStep] = []
        if chosen:
            largest = largest_strength(entries, ~held, self.penalty, self.smoothing)
            strengths = [largest * _PATH_RATIO ** (i + 1) for i in range(_PATH_LENGTH)]
            path, strength, model = walk.along(model, strengths, warm=True)
        else:
            strength = 1.0 if self.strength == "auto" else float(self.strength) / to_data
        if self.depth > 2:
            # Depth 3 and more have a saddle at zero: start from the depth-2 matrix.
            if not chosen:
                flat = matching_strength(entries.shape, self.penalty, strength, self.depth)
                model = walk.fitted(model, flat).model
            shallow = model.network
            flat_penalty = float(evenly_measured(self.penalty, shallow))
            network = DeepLinear.from_svd(*shallow.svd(), self.depth, width)
            model = BiasedNetwork(network, model.row_bias, model.column_bias)
            if chosen:
                deep_penalty = float(evenly_measured(self.penalty, network))
                middle = strength * flat_penalty / max(deep_penalty, 1e-30)
                strengths = [middle * _PATH_RATIO**i for i in range(-3, 5)]
                path, strength, model = walk.along(model, strengths, warm=False)
        error, residuals = float("nan"), np.zeros(0)
        if chosen:
            residuals = walk.residuals(model)
            error = float(np.sqrt(np.mean(residuals**2)))
            table = with_all_entries(table)
        on_step("fitting all entries", 0.9)
        done = self._alternated(
            model, table, strength, max_sweeps=self.max_sweeps, tolerance=self.tolerance
        )
        model, sweeps = done.model, int(done.sweeps)
        on_step("done", 1.0)
        spread = entries.spread
        return SingleCompletion(
            **model.in_units(spread),
            mean=entries.mean,
            spread=spread,
            strength=strength * to_data,
            biases=self.biases,
            held_out=HeldOut(
                entries.rows[held],
                entries.columns[held],
                residuals * spread,
                np.full(len(residuals), error * spread),
                error * spread,
            ),
            history=np.asarray(done.history)[:sweeps],
            sweeps=sweeps,
            penalty=self.penalty,
            smoothing=self.smoothing,
            count=len(entries),
            path=tuple(
                PathStep(
                    s.strength * to_data, s.held_out_error * spread, s.effective_rank, s.sweeps
                )
                for s in path
            ),
            within_limit=sweeps < self.max_sweeps,
        )

    def _alternated(
        self,
        model: BiasedNetwork,
        table: BucketedEntries,
        strength: float,
        *,
        max_sweeps: int,
        tolerance: float,
    ) -> Fit:
        objective = Objective(
            self.penalty,
            jnp.float32(strength),
            smoothing=jnp.float32(self.smoothing),
            biased=self.biases,
        )
        return alternate(
            rekindled(model, self.penalty, strength),
            table,
            objective,
            tolerance=jnp.float32(tolerance),
            max_sweeps=jnp.asarray(max_sweeps),
        )


@dataclass(frozen=True)
class _Walk:
    """Fits of all but the held-out entries, one strength after the other."""

    settings: SingleFactorisation
    entries: Entries
    held: np.ndarray
    table: BucketedEntries
    on_step: OnStep

    def fitted(self, model: BiasedNetwork, strength: float) -> Fit:
        """A short fit of one strength from a model."""
        return self.settings._alternated(
            model, self.table, strength, max_sweeps=_PATH_SWEEPS, tolerance=_PATH_TOLERANCE
        )

    def residuals(self, model: BiasedNetwork) -> np.ndarray:
        """What the held-out entries differ by, in units of the spread."""
        entries, held = self.entries, self.held
        return entries.unit[held] - model.at(entries.rows[held], entries.columns[held])

    def along(
        self, start: BiasedNetwork, strengths: list[float], warm: bool
    ) -> tuple[list[PathStep], float, BiasedNetwork]:
        """Falling strengths until the error rises, then one on either side of the best.

        Each fit begins where the last one ended (`warm`), or all of them at the start. Returns the
        steps, the largest strength first, and the best strength and model.
        """
        steps: list[PathStep] = []
        models: list[BiasedNetwork] = []

        def visit(model: BiasedNetwork, strength: float) -> None:
            told = len(steps) / (len(strengths) + 2)
            self.on_step("choosing the penalty strength", told)
            done = self.fitted(model if warm else start, strength)
            error = float(np.sqrt(np.mean(self.residuals(done.model) ** 2)))
            rank = float(effective_rank(done.model.network))
            steps.append(PathStep(strength, error, rank, int(done.sweeps)))
            models.append(done.model)

        def best() -> int:
            return int(np.argmin([step.held_out_error for step in steps]))

        for strength in strengths:
            visit(models[-1] if models else start, strength)
            if len(steps) - 1 - best() >= _PATIENCE:
                break
        centre = best()
        for factor in (_PATH_RATIO**-0.5, _PATH_RATIO**0.5):
            visit(models[centre], steps[centre].strength * factor)
        chosen = best()
        in_order = sorted(steps, key=lambda step: -step.strength)
        return in_order, steps[chosen].strength, models[chosen]
