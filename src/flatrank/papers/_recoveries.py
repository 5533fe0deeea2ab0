"""Matrices recovered by several biases from the same measurements, all counts in one program."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..measurements import (
    AbstractMeasurements,
    DenseMeasurements,
    EntryMeasurements,
    RankOneMeasurements,
)
from ..penalties import AbstractPenalty
from ..recovery import AbstractMethod, nuclear_minimum, recover
from ._paper import padded

# A relative error below this is a recovery; the convex solver ends at a gap of 1e-6.
RECOVERED = 1e-3
NUCLEAR = "least nuclear norm"
Solve = Callable[[AbstractMeasurements, jax.Array], tuple[jax.Array, jax.Array]]


@dataclass(frozen=True)
class Recovery:
    """What a method found: the matrix, its relative Frobenius error, and if the solver converged."""

    matrix: np.ndarray
    error: float
    converged: bool


def network_method(
    penalty: AbstractPenalty, depth: int, method: AbstractMethod | None = None
) -> Solve:
    """`recover` as one program for all problems of a shape: (matrix, whether it converged).

    `method` is that of `recover`, None its default.
    """

    @jax.jit
    def solve(A: AbstractMeasurements, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        solution = recover(A, y, depth, penalty, method=method or "auto", width=min(A.shape))
        return solution.matrix, solution.successful

    return solve


def same_shape(A: AbstractMeasurements, count: int) -> AbstractMeasurements:
    """The same measurements and zero ones up to a count, so that all counts share one program.

    Zero measurements tell nothing, and the common factor that restores the mean squares changes no
    interpolator. Entries are products of unit vectors.
    """
    if isinstance(A, DenseMeasurements):
        return padded(A, count)
    if isinstance(A, EntryMeasurements):
        m, n = A.shape
        # As large as Gaussian measurements on average.
        left, right = (m * n) ** 0.5 * jnp.eye(m)[A.rows], jnp.eye(n)[A.columns]
    else:
        assert isinstance(A, RankOneMeasurements)
        left, right = A.left, A.right
    more = ((0, count - A.count), (0, 0))
    left = (count / A.count) ** 0.5 * left
    return RankOneMeasurements(jnp.pad(left, more), jnp.pad(right, more))


def recoveries(
    A: AbstractMeasurements, truth: jax.Array, most: int, methods: Mapping[str, Solve]
) -> dict[str, Recovery]:
    """What the least nuclear norm and each method find from the exact measurements of the truth.

    `most` is the largest number of measurements that the methods get to see.
    """
    needed = independent(A)
    convex = nuclear_minimum(needed, np.asarray(needed.apply(truth)), tolerance=1e-6)
    found = {NUCLEAR: _compared(convex.matrix, truth, convex.gap <= 1e-6)}
    same = same_shape(A, most)
    y = same.apply(truth)
    for name, solve in methods.items():
        matrix, converged = solve(same, y)
        found[name] = _compared(matrix, truth, converged)
    return found


def independent(A: AbstractMeasurements) -> AbstractMeasurements:
    """The first measurements, as many as can be independent: d (d + 1) / 2 if they are x x^T."""
    if isinstance(A, RankOneMeasurements) and np.array_equal(A.left, A.right):
        d = A.shape[0]
        return A.part(jnp.arange(min(A.count, d * (d + 1) // 2)))
    return A


def _compared(matrix: Any, truth: jax.Array, converged: Any) -> Recovery:
    error = np.linalg.norm(matrix - np.asarray(truth)) / np.linalg.norm(truth)
    return Recovery(np.asarray(matrix), float(error), bool(converged))
