"""Random problems with a known answer: a truth of unit norm and measurements of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..data import low_rank_matrix
from ..measurements import (
    AbstractMeasurements,
    EntryMeasurements,
    RankOneMeasurements,
    gaussian_measurements,
)

ENSEMBLES = ("gaussian", "entries", "rank-one")
MOST_MASKS = 300


def draw_truth(
    key: PRNGKeyArray, shape: tuple[int, int], rank: int
) -> tuple[Float[Array, "m n"], PRNGKeyArray]:
    """A matrix of the given rank and of Frobenius norm one, and the key for its measurements."""
    truth_key, key = jax.random.split(key)
    truth = low_rank_matrix(truth_key, shape, rank)
    return truth / jnp.linalg.norm(truth), key


def draw_measurements(
    key: PRNGKeyArray, ensemble: str, shape: tuple[int, int], count: int
) -> AbstractMeasurements:
    """Standard Gaussian matrices, uniform entries, or products of standard Gaussian vectors."""
    m, n = shape
    if ensemble == "gaussian":
        # Who needs moments (`recover` and `train` do, for flatness) prepares them; sweeps hold many.
        return gaussian_measurements(key, count, (m, n), prepare=False)
    if ensemble == "entries":
        chosen = jnp.sort(jax.random.choice(key, m * n, (count,), replace=False))
        return EntryMeasurements(chosen // n, chosen % n, (m, n))
    left, right = jax.random.split(key)
    return RankOneMeasurements(
        jax.random.normal(left, (count, m)), jax.random.normal(right, (count, n))
    )


def draw_covering_entries(
    key: PRNGKeyArray, shape: tuple[int, int], count: int, least: int
) -> EntryMeasurements | None:
    """Uniform entries with `least` or more in every row and column; None: not in `MOST_MASKS` draws.

    A line with fewer entries than the rank is not determined by them, whatever the method.
    """
    for attempt in range(MOST_MASKS):
        drawn = key if attempt == 0 else jax.random.fold_in(key, attempt)
        A: Any = draw_measurements(drawn, "entries", shape, count)
        lines = ((A.rows, shape[0]), (A.columns, shape[1]))
        if all(np.bincount(np.asarray(at), minlength=size).min() >= least for at, size in lines):
            return A
    return None
