"""A table completed by the average over factorisations."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ...entries import Entries
from .._completion import Completion
from ._draws import Draws, biased_product, moments, predicted_deviations
from ._given import Given
from ._lines import arranged, draw_lines


@dataclass(frozen=True)
class AverageCompletion(Completion):
    """The mean of the tables of many factorisations.

    * `draws`: the factorisations, in units of `spread` and without `mean`.

    `network` and the biases are those of the one network that is nearest to their mean. `history` is the
    mean square residual of every sweep of every chain, in units of the variance of the data.
    """

    draws: Draws

    @property
    def choice(self) -> str:
        """How the strength came about, in a few words."""
        return f"mean of {len(self.draws.rows)} draws, width {self.network.width}"

    @property
    def converged(self) -> bool:
        """True: a chain has no limit of sweeps that it could miss."""
        return True

    def predict(self, rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, " N"]:
        """The completed entries at (rows_i, columns_i), shape (N,)."""
        return self.mean + self.spread * moments(self.draws, rows, columns)[0]

    def predict_partly(self, rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, " N"]:
        """The entries at (rows_i, columns_i), of which -1 was not fitted: it has its prior's mean."""
        factors = (
            np.concatenate([lines, mean[:, None]], axis=1)
            for lines, mean in (
                (self.draws.rows, self.draws.row_mean),
                (self.draws.columns, self.draws.column_mean),
            )
        )
        left, right = factors
        extended = self.draws._replace(rows=left, columns=right)
        i, j = (np.where(x < 0, f.shape[1] - 1, x) for x, f in ((rows, left), (columns, right)))
        return self.mean + self.spread * moments(extended, i, j)[0]

    def rows_of_matrix(self, rows: np.ndarray) -> Float[np.ndarray, "N n"]:
        """Some rows of the completed table, shape (N, n)."""
        left, right = self.draws.rows[:, rows], self.draws.columns
        values = np.zeros((len(rows), right.shape[1]))
        for a, b in zip(left, right, strict=True):
            values += biased_product(a, b)
        return self.mean + self.spread / len(left) * values

    def fold_in(self, new: Entries) -> Float[np.ndarray, "m2 n"]:
        """The new rows' conditional means given each draw's columns, averaged."""
        unit = new.scaled_by(self.mean, self.spread)
        return self.mean + self.spread * folded_in(self.draws, new, unit, biased=self.biases)

    def deviations(
        self, rows: np.ndarray, columns: np.ndarray
    ) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, "..."]]:
        """The draws' means, and their variance and the columns' noise as a standard deviation."""
        mean, variance = moments(self.draws, rows, columns)
        deviations = self.spread * predicted_deviations(self.draws, columns, variance)
        return self.mean + self.spread * mean, deviations


def folded_in(
    draws: Draws, new: Entries, unit: Float[np.ndarray, " N"], *, biased: bool
) -> Float[np.ndarray, "m2 n"]:
    """Mean values of new rows, of which the entries `unit` are known, given each draw's columns."""
    n, q = draws.columns.shape[1:]
    count = new.shape[0]
    lines = arranged(new, unit, np.ones(len(unit), bool), axis=0, width=q - 1)
    nothing, ones = np.zeros((count, q), np.float32), np.ones(count, np.float32)
    total = np.zeros((count, n))
    for V, mean, precision, noise in zip(
        draws.columns, draws.row_mean, draws.row_precision, draws.noise_precision, strict=True
    ):
        given = Given(
            other=V,
            own=nothing,
            mean=mean,
            precision=precision,
            own_noise=ones,
            other_noise=noise,
            normal=nothing,
        )
        means = draw_lines(lines, given, biased=biased, over=0.0).means
        total += biased_product(means, V)
    return total / len(draws.columns)
