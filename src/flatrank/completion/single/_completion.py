"""A table completed by one factorisation."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...entries import Entries
from ...penalties import AbstractPenalty
from .._biased import BiasedNetwork
from .._buckets import line_buckets
from .._completion import Completion
from ._lines import last_layer_problem, solve_lines
from ._objective import Objective


@dataclass(frozen=True)
class PathStep:
    """One penalty strength on the path: its held-out error and what it cost.

    * `strength`, `held_out_error`: in the units of the data.
    * `effective_rank`: of the network.
    * `sweeps`: until it was left.
    """

    strength: float
    held_out_error: float
    effective_rank: float
    sweeps: int


@dataclass(frozen=True)
class SingleCompletion(Completion):
    """The table that one factorisation completes.

    * `penalty`, `smoothing`: what was minimised, see `SingleFactorisation`.
    * `count`: the number of entries that were fitted.
    * `path`: the strengths that were tried, the largest first; empty where one was given.
    * `within_limit`: whether the last fit ended by its tolerance.

    `history` is the last fit's objective after each sweep, per entry and in units of the variance.
    """

    penalty: AbstractPenalty
    smoothing: float
    count: int
    path: tuple[PathStep, ...]
    within_limit: bool

    @property
    def choice(self) -> str:
        """How the strength came about, in a few words."""
        return "chosen on held-out entries" if self.path else "given"

    @property
    def converged(self) -> bool:
        """Whether the last fit ended by its tolerance."""
        return self.within_limit

    def predict(self, rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, " N"]:
        """The completed entries at (rows_i, columns_i), shape (N,)."""
        model = BiasedNetwork(
            self.network, jnp.asarray(self.row_bias), jnp.asarray(self.column_bias)
        )
        return self.mean + model.at(rows, columns)

    def predict_partly(self, rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, " N"]:
        """The entries at (rows_i, columns_i), of which -1 was not fitted: no bias there, and W = 0."""
        biases = np.where(rows >= 0, self.row_bias[rows], 0.0)
        return self.mean + biases + np.where(columns >= 0, self.column_bias[columns], 0.0)

    def rows_of_matrix(self, rows: np.ndarray) -> Float[np.ndarray, "N n"]:
        """Some rows of the completed table, shape (N, n)."""
        left, right = (np.asarray(factor) for factor in self.network.factors())
        low_rank = left[rows].astype(np.float64) @ right
        return low_rank + self.mean + self.row_bias[rows, None] + self.column_bias[None]

    def fold_in(self, new: Entries) -> Float[np.ndarray, "m2 n"]:
        """Each new row by the exact minimiser of its own part of the objective."""
        # In the units of the fit, of which the penalty of the biases is part.
        scale, width = self.spread, self.network.width
        unit = new.scaled_by(self.mean, scale)
        weights = np.ones(len(unit), np.float32)
        lines = line_buckets(new, unit, weights, axis=0, width=width)
        network = self.network.scaled(1 / scale)
        model = BiasedNetwork(
            network,
            jnp.zeros(network.shape[0], jnp.float32),
            jnp.asarray(self.column_bias / scale, jnp.float32),
        )
        strength = self.strength * scale ** (self.penalty.degree(network.depth) - 2)
        objective = Objective(
            self.penalty,
            jnp.float32(strength),
            smoothing=self.smoothing,
            biased=self.biases,
        )
        problem = last_layer_problem(model, objective, jnp.float32(self.count))
        solved = np.asarray(solve_lines(lines, problem), np.float64) * scale
        below = np.asarray(problem.features[:-1, :-1], np.float64)
        bias = solved[:, -1:] if self.biases else 0.0
        return solved[:, :-1] @ below.T + bias + self.column_bias[None] + self.mean

    def deviations(
        self, rows: np.ndarray, columns: np.ndarray
    ) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, "..."]]:
        """Predictions, and the held-out error for all of them."""
        return self.predict(rows, columns), np.asarray(self.held_out_error)
