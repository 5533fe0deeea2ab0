"""A chain of draws of a table's factorisations, and how it settles."""

from collections.abc import Callable

import numpy as np

from ._draws import Draws, State
from ._gibbs import BothSides, first_state, sweep

# Sweeps after a change.
SETTLING, _MOST_SETTLING = 5, 20
# How far draws go to the other side of the mean: see `draw_lines`.
_OVERRELAXATION = 0.9


class Chain:
    """A chain of draws on a table, given by its rows and by its columns."""

    state: State

    def __init__(self, table: BothSides, biased: bool, seed: int):
        self.table = table
        self.biased = biased
        self.random = np.random.default_rng(seed)
        self.history: list[float] = []
        self.over = 0.0

    @property
    def width(self) -> int:
        """The number of directions."""
        return self.state.rows.shape[1] - 1

    def step(self) -> tuple[State, np.ndarray]:
        """The draw that a sweep begins with, and its rows' conditional means."""
        begin = self.state
        self.state, means, square = sweep(
            self.table, begin, biased=self.biased, over=self.over, random=self.random
        )
        self.history.append(square)
        return begin, means

    def steps(self, count: int) -> None:
        """So many sweeps."""
        for _ in range(count):
            self.step()

    def settle(self) -> None:
        """Sweeps until the residual (its square) no longer falls by a tenth in one."""
        self.steps(SETTLING)
        for _ in range(_MOST_SETTLING):
            if self.history[-1] > 0.9 * self.history[-2]:
                return
            self.step()

    def weakest(self) -> float:
        """The variance that the weakest direction explains, in units of the strongest of noise alone.

        That of noise in every entry of an m x n table would be its variance times (m^1/2 + n^1/2)^2 over
        the number of entries (Marchenko and Pastur).
        """
        grams = []
        for factors in (self.state.rows, self.state.columns):
            spread = factors[:, :-1].astype(float)
            spread = spread - spread.mean(0)
            grams.append(spread.T @ spread / len(spread))
        shares = np.linalg.eigvals(grams[0] @ grams[1]).real
        noise = self.table.degrees @ (1 / self.state.noise_precision.astype(float))
        m, n = (len(factors) for factors in (self.state.rows, self.state.columns))
        return float(
            shares.min() * self.table.degrees.sum() ** 2 / (noise * (m**0.5 + n**0.5) ** 2)
        )

    def draws(self, count: int, on_draw: Callable[[int], None]) -> Draws:
        """So many draws, one a sweep."""
        self.over, found = _OVERRELAXATION, []
        for k in range(count):
            begin, means = self.step()
            found.append(begin._replace(rows=means))
            on_draw(k)
        self.over = 0.0
        return Draws(*(np.stack(parts) for parts in zip(*found, strict=True)))


def continued(draws: Draws, shape: tuple[int, int], random: np.random.Generator) -> State:
    """The last draw as a state, with new lines small and random, and as noisy as the others."""
    last = State(*(part[-1] for part in draws))
    first = first_state(shape, last.rows.shape[1] - 1, random)

    def extended(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.concatenate([old, new[len(old) :]])

    even = np.full(shape[1], last.noise_level, np.float32)
    return last._replace(
        rows=extended(last.rows, first.rows),
        columns=extended(last.columns, first.columns),
        noise_precision=extended(last.noise_precision, even),
    )
