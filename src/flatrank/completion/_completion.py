"""What a fitted table is: the protocol of the models that fit one, and what their results share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from .._checks import require_memory
from .._progress import OnStep
from ..entries import Entries
from ..network import DeepLinear


@dataclass(frozen=True)
class HeldOut:
    """The entries that were held out to measure the error; all empty if there were none.

    * `rows`, `columns` (N,): where they are.
    * `residuals` (N,): value minus prediction, in the units of the data.
    * `deviations` (N,): the standard deviations that were predicted for the residuals.
    * `error`: the root mean square of the residuals, NaN if there are none.
    """

    rows: Int[np.ndarray, " N"]
    columns: Int[np.ndarray, " N"]
    residuals: Float[np.ndarray, " N"]
    deviations: Float[np.ndarray, " N"]
    error: float

    def __len__(self) -> int:
        return len(self.residuals)

    def factor(self, coverage: float) -> float:
        """How many predicted deviations held a share `coverage` (split conformal prediction)."""
        # Where nothing varied, nothing is expected to.
        spread = np.where(self.deviations > 0, self.deviations, 1.0)
        scores = np.sort(np.abs(self.residuals) / spread)
        place = int(np.ceil(coverage * (len(scores) + 1)))
        return float(scores[place - 1]) if place <= len(scores) else np.inf


@dataclass(frozen=True)
class Completion(ABC):
    """A completed table in the units of the data: mean + W + row bias + column bias.

    * `network`: the deep linear network of W.
    * `row_bias` (m,), `column_bias` (n,), `mean`: what is added to W.
    * `spread`: the standard deviation of the data, in which the fit was made.
    * `strength`: the strength of the penalty, for data in their own units.
    * `biases`: whether rows and columns were given biases.
    * `held_out`: what was held out and how far the predictions were off.
    * `history`: a number for each sweep that fell (see the subclass), `sweeps` of them or the first 256.
    * `sweeps`: how many sweeps were made.
    """

    network: DeepLinear
    row_bias: Float[np.ndarray, " m"]
    column_bias: Float[np.ndarray, " n"]
    mean: float
    spread: float
    strength: float
    biases: bool
    held_out: HeldOut
    history: Float[np.ndarray, " sweeps"]
    sweeps: int

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the table."""
        return self.network.shape

    @property
    def held_out_error(self) -> float:
        """The root mean square error on the entries that were held out, NaN if there were none."""
        return self.held_out.error

    @property
    @abstractmethod
    def choice(self) -> str:
        """How the strength came about, in a few words."""

    @property
    @abstractmethod
    def converged(self) -> bool:
        """Whether the fit ended before its limit of sweeps."""

    @abstractmethod
    def predict(self, rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, " N"]:
        """The completed entries at (rows_i, columns_i), shape (N,)."""

    @abstractmethod
    def predict_partly(self, rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, " N"]:
        """The entries at (rows_i, columns_i), of which -1 is a row or column that was not fitted."""

    @abstractmethod
    def rows_of_matrix(self, rows: np.ndarray) -> Float[np.ndarray, "N n"]:
        """Some rows of the completed table, shape (N, n)."""

    @abstractmethod
    def fold_in(self, new: Entries) -> Float[np.ndarray, "m2 n"]:
        """All values of a table of new rows, of which some entries are known, shape (m2, n)."""

    @abstractmethod
    def deviations(
        self, rows: np.ndarray, columns: np.ndarray
    ) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, "..."]]:
        """Predictions (N,) and the standard deviations of new values there, (N,) or one for all."""

    def matrix(self) -> Float[np.ndarray, "m n"]:
        """The whole completed table, shape (m, n). Raises MemoryError before it would not fit."""
        m, n = self.shape
        require_memory(
            16 * m * n, f"The completed {m} x {n} table", "use predict(rows, columns) instead"
        )
        return self.rows_of_matrix(np.arange(m))

    def interval(
        self, rows: np.ndarray, columns: np.ndarray, coverage: float
    ) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        """Bounds that held a share `coverage` of the held-out entries (split conformal prediction)."""
        middle, deviations = self.deviations(rows, columns)
        reach = np.where(deviations > 0, self.held_out.factor(coverage), 0.0) * deviations
        return middle - reach, middle + reach


@runtime_checkable
class Model(Protocol):
    """How a table is fitted: settings, and one method."""

    def fit(self, entries: Entries, on_step: OnStep = ...) -> Completion:
        """The table completed from its entries; `on_step` is told how far the work is."""
