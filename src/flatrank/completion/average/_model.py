"""A table by averaging over the factorisations that could have made it.

The number of directions grows while the weakest of them is more than noise; nothing is chosen on
held-out entries. A first chain, without them, says how large the error is; it goes on with them, and
its draws are the model.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ..._checks import require_memory
from ..._progress import OnStep, silent
from ..._threads import one_blas_thread
from ...entries import Entries
from ...penalties import WeightDecay
from .._completion import HeldOut
from .._width import default_width
from ._chain import SETTLING, Chain, continued
from ._completion import AverageCompletion
from ._draws import Draws, moments, predicted_deviations
from ._gibbs import both_sides, first_state
from ._middle import mean_strength, middle

# The number of directions that is tried first; it doubles. With bias and label they are 16 numbers, a
# whole number of vector registers.
_FIRST_WIDTH = 14
# A direction this much stronger than the strongest that noise alone would show is one of the table's.
_MORE_THAN_NOISE = 2.0
# Draws when none are asked for: as many as this number of entries is visited, within bounds.
_VISITS, _MOST_DRAWS, _LEAST_DRAWS = 1.3e7, 40, 8


@dataclass(frozen=True)
class Sample:
    """Draws in units of the data's standard deviation, and what they say of the held-out entries.

    `history` is the mean square residual after each sweep; `held_mean` and `held_variance` (N,) are the
    moments of the first chain's draws.
    """

    draws: Draws
    history: Float[np.ndarray, " sweeps"]
    held_mean: Float[np.ndarray, " N"]
    held_variance: Float[np.ndarray, " N"]


@dataclass(frozen=True)
class FactorisationAverage:
    """The mean over factorisations of depth 2, drawn by label noise (Gibbs sampling).

    * `draws`: how many; None: by the number of entries, 8 to 40.
    * `width`: the number of directions; None: as many as stand out of noise.
    * `biases`: whether rows and columns have biases.
    * `validation_fraction`: of the entries, held out to measure the error.
    * `seed`: decides all that is random.
    * `start`: the chain goes on from the last of these draws, of a smaller table or of fewer entries.
    """

    draws: int | None = None
    width: int | None = None
    biases: bool = True
    validation_fraction: float = 0.1
    seed: int = 0
    start: Draws | None = None

    def fit(self, entries: Entries, on_step: OnStep = silent) -> AverageCompletion:
        """The completed table; `on_step` is told how far the work is.

        The entries have at least two values that differ.
        """
        random = np.random.default_rng(self.seed)
        held = entries.held_out(self.validation_fraction, random)
        on_step("arranging the entries", 0.0)
        found = self.sample(entries, held, on_step)
        nearest = middle(found.draws)
        spread = entries.spread
        residuals = entries.unit[held] - found.held_mean
        columns = entries.columns[held]
        deviations = predicted_deviations(found.draws, columns, found.held_variance)
        on_step("done", 1.0)
        # A strength is per entry of squared error; with data divided by their spread, and W with them:
        to_data = spread ** (2 - WeightDecay().degree(2))
        return AverageCompletion(
            **nearest.in_units(spread),
            mean=entries.mean,
            spread=spread,
            strength=mean_strength(found.draws, len(entries)) * to_data,
            biases=self.biases,
            held_out=HeldOut(
                entries.rows[held],
                columns,
                residuals * spread,
                deviations * spread,
                float(np.sqrt(np.mean(residuals**2))) * spread,
            ),
            history=found.history,
            sweeps=len(found.history),
            draws=found.draws,
        )

    # Between its small products OpenBLAS keeps the cores busy waiting, which the draws need: twice the
    # time.
    @one_blas_thread
    def sample(
        self, entries: Entries, held: Bool[np.ndarray, " N"], on_step: OnStep = silent
    ) -> Sample:
        """Draws of the posterior; the `held` entries are left out of the first chain."""
        (m, n), draws = entries.shape, self.draws
        draws = number_of_draws(len(entries)) if draws is None else draws
        given = None if self.width is None else min(self.width, m, n)
        # Twice as many entries as parameters, for the noise to be told from the directions.
        widest = default_width(entries.shape, len(entries) // 2) if given is None else given
        require_memory(
            8 * draws * (m + n) * (widest + 1),
            f"{draws} draws of the factors of a {m} x {n} table",
            "use fewer `draws` or a smaller `width`",
        )
        chain = Chain(both_sides(entries, ~held, widest), self.biases, self.seed)
        on_step("how many directions", 0.05)
        if self.start is not None:
            chain.state = continued(self.start, entries.shape, chain.random)
            chain.steps(SETTLING)
        else:
            now = min(_FIRST_WIDTH, widest) if given is None else given
            chain.state = first_state(entries.shape, now, chain.random)
            chain.settle()
            while given is None and now < widest and chain.weakest() > _MORE_THAN_NOISE:
                # Anew: a settled chain does not find room for new directions.
                now = min(2 * now + 2, widest)
                chain.state = first_state(entries.shape, now, chain.random)
                chain.settle()
        held_mean = held_variance = np.zeros(0)
        if held.any():
            part = chain.draws(
                max(draws // 2, 1),
                lambda k: on_step("measuring the error", 0.2 + 0.3 * k / draws),
            )
            held_mean, held_variance = moments(part, entries.rows[held], entries.columns[held])
            chain.table = both_sides(entries, np.ones(len(entries), bool), widest)
            chain.steps(SETTLING // 2)
        found = chain.draws(draws, lambda k: on_step("averaging", 0.4 + 0.5 * k / draws))
        return Sample(found, np.asarray(chain.history), held_mean, held_variance)


def number_of_draws(count: int) -> int:
    """How many draws a table of so many entries is worth: more entries leave less to average."""
    return int(np.clip(_VISITS / max(count, 1), _LEAST_DRAWS, _MOST_DRAWS))
