"""Noisy measurements: the rank that stands out of the noise, and least squares at that rank.

The penalty chooses the rank and is then let go: its shrinkage would only add to the error. What is left
is the estimate that an oracle would make who knew the rank.
"""

from typing import Any, NamedTuple

from jaxtyping import PRNGKeyArray

from .._low_rank_matrix import LowRankMatrix
from ..factored import AbstractFactored
from ._gauss_newton import gauss_newton
from ._homotopy import PathEnd, PathSettings, homotopy

# A singular pair stays if it is this much larger than the largest that pure noise would give: the
# optimal hard threshold, (4 / sqrt 3) / 2 (Gavish and Donoho 2014).
_STANDS_OUT = 2 / 3**0.5


class Fit(NamedTuple):
    """A least-squares fit at its rank: the matrix, ||A(X) - y||^2, its rank, and the path to it."""

    X: LowRankMatrix
    square: Any
    rank: Any
    path: PathEnd


def fit_above_noise(
    F: AbstractFactored, y: Any, key: PRNGKeyArray, noise: Any, settings: PathSettings
) -> Fit:
    """Least squares at the rank that stands out of noise of the given standard deviation."""
    machine, xp = F.machine, F.machine.xp
    (m, n), q, limits = F.shape, settings.q, settings.limits
    # The largest singular pair of pure noise, as a size of the matrix; at this t it just pays.
    loudest = _STANDS_OUT * noise * (m**0.5 + n**0.5) / xp.sqrt(F.power)
    floor = (q / 2) ** (1 / (2 - q)) * loudest
    path = homotopy(F, y, key, settings, floor=floor)
    target = F.arranged(y)
    count = len(y)

    def refit(X: LowRankMatrix) -> tuple[LowRankMatrix, Any]:
        def step(carry: tuple) -> tuple:
            X, now, _, steps = carry
            moved = gauss_newton(
                F,
                target,
                X,
                xp.zeros_like(X.s),
                0.01,
                limits.inner,
                blocks=True,
                eps=settings.eps,
                stop=settings.stop,
            )
            square = xp.vdot(moved.R, moved.R)
            better = square < now
            X = machine.chosen(better, moved.X, X)
            return X, xp.minimum(square, now), now, steps + 1

        def falling(carry: tuple) -> Any:
            _, now, before, steps = carry
            return (steps < 30) & (now < (1 - 1e-7) * before)

        R = F.apply(X.factors(machine)) - target
        first = (X, xp.vdot(R, R), xp.asarray(xp.inf, R.dtype), machine.integer(0))
        X, square, *_ = machine.loop(falling, step, first, settings.stop)
        return X, square

    def at_rank(rank: Any) -> tuple[LowRankMatrix, Any]:
        # From the penalised matrix each time: least squares at too large a rank is unstable.
        kept = xp.where(xp.arange(len(path.X.s)) < rank, path.X.s, 0.0)
        return refit(LowRankMatrix(*machine.live(kept > 0, path.X.U, kept, path.X.V)))

    def drop(carry: tuple) -> tuple:
        X, square, rank, _ = carry
        smaller, larger_square = at_rank(rank - 1)
        freedom = (count - (rank - 1) * (m + n - rank + 1)).astype(square.dtype)
        # A direction goes if pure noise could gain as much, or if noise explains what is left.
        idle = larger_square - square < F.power * loudest**2
        idle |= larger_square < noise**2 * (freedom + 2 * (2 * freedom) ** 0.5)
        X = machine.chosen(idle, smaller, X)
        square = xp.where(idle, larger_square, square)
        return X, square, xp.where(idle, rank - 1, rank), idle

    rank = xp.maximum(xp.sum(path.X.s > 0.5 * loudest), 1)
    X, square = at_rank(rank)
    X, square, rank, _ = machine.loop(
        lambda carry: carry[3] & (carry[2] > 1),
        drop,
        (X, square, rank, xp.asarray(True)),
        settings.stop,
    )
    return Fit(X, square, rank, path)
