"""Draws of the two layers with their priors and noise, and what several of them say of an entry."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# Entries predicted at once.
_GATHERED = 2**13


class State(NamedTuple):
    """One draw: factors that end with the bias, their priors, and the noise of each column.

    `noise_level` is the precision that columns without entries would have.
    """

    rows: Float[np.ndarray, "m q"]
    columns: Float[np.ndarray, "n q"]
    row_mean: Float[np.ndarray, " q"]
    column_mean: Float[np.ndarray, " q"]
    row_precision: Float[np.ndarray, "q q"]
    column_precision: Float[np.ndarray, "q q"]
    noise_precision: Float[np.ndarray, " n"]
    noise_level: np.float32


class Draws(NamedTuple):
    """S draws. `rows` are conditional means given the columns, which average better than draws."""

    rows: Float[np.ndarray, "s m q"]
    columns: Float[np.ndarray, "s n q"]
    row_mean: Float[np.ndarray, "s q"]
    column_mean: Float[np.ndarray, "s q"]
    row_precision: Float[np.ndarray, "s q q"]
    column_precision: Float[np.ndarray, "s q q"]
    noise_precision: Float[np.ndarray, "s n"]
    noise_level: Float[np.ndarray, " s"]


def moments(
    draws: Draws, rows: np.ndarray, columns: np.ndarray
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Mean and variance over the draws of the entries at (rows_i, columns_i)."""
    mean, variance = np.empty(len(rows)), np.empty(len(rows))
    # In parts whose factors stay in the cache.
    for begin in range(0, len(rows), _GATHERED):
        part = slice(begin, begin + _GATHERED)
        i, j = rows[part], columns[part]
        values = np.empty((len(draws.rows), len(i)))
        for k, (left, right) in enumerate(zip(draws.rows, draws.columns, strict=True)):
            a, b = left.take(i, axis=0), right.take(j, axis=0)
            values[k] = np.einsum("ek,ek->e", a[:, :-1], b[:, :-1]) + a[:, -1] + b[:, -1]
        mean[part], variance[part] = values.mean(axis=0), values.var(axis=0)
    return mean, variance


def biased_product(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The values of factors that end with the bias, (m, q) and (n, q): (m, n)."""
    return rows[:, :-1] @ columns[:, :-1].T + rows[:, -1:] + columns[None, :, -1]


def predicted_deviations(draws: Draws, columns: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Standard deviations of new values in these columns that vary so much over the draws."""
    return np.sqrt(variance + np.mean(1 / draws.noise_precision, axis=0)[columns])
