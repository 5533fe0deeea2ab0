"""Random problems with a known answer: a truth, and measurements of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._checks import as_key, as_shape, found, natural_number, positive_integer
from .measurements import (
    AbstractMeasurements,
    DenseMeasurements,
    EntryMeasurements,
    Network,
    RankOneMeasurements,
    gaussian_measurements,
)
from .network import DeepLinear

ENSEMBLES = ("gaussian", "entries", "rank-one")
MOST_MASKS = 300


def low_rank_matrix(key: Any, shape: Any, rank: int) -> Float[Array, "m n"]:
    """The product of two standard normal factors, shape (m, n), of the given rank.

    Raises ValueError for a rank above min(m, n).
    """
    key = as_key(key)
    (m, n), rank = _shape_and_rank(shape, rank)
    left, right = jax.random.split(key)
    return jax.random.normal(left, (m, rank)) @ jax.random.normal(right, (rank, n))


def _shape_and_rank(shape: Any, rank: Any) -> tuple[tuple[int, int], int]:
    m, n = as_shape(shape)
    if positive_integer(rank, "rank") > min(m, n):
        raise ValueError(f"`rank` must be at most min(m, n) = {min(m, n)}, found {rank}.")
    return (m, n), rank


def _checked_draw(
    ensemble: Any, shape: Any, count: Any, known: tuple[str, ...]
) -> tuple[tuple[int, int], int]:
    """The shape and the count, or a sentence about them or the ensemble."""
    if not isinstance(ensemble, str) or ensemble not in known:
        raise ValueError(f"`ensemble` must be one of {list(known)}, found {found(ensemble)}.")
    m, n = as_shape(shape)
    if positive_integer(count, "count") > m * n and ensemble in ("entries", "completion"):
        raise ValueError(f"`count` must be at most the {m * n} entries of `shape`, found {count}.")
    return (m, n), count


def draw_truth(key: Any, shape: Any, rank: int) -> tuple[Float[Array, "m n"], PRNGKeyArray]:
    """A matrix of the given rank and of Frobenius norm one, and the key for its measurements."""
    truth_key, key = jax.random.split(as_key(key))
    truth = low_rank_matrix(truth_key, shape, rank)
    return truth / jnp.linalg.norm(truth), key


def draw_measurements(key: Any, ensemble: Any, shape: Any, count: int) -> AbstractMeasurements:
    """Standard Gaussian matrices, uniform entries, or products of standard Gaussian vectors.

    `ensemble` is one of `ENSEMBLES`. Raises TypeError or ValueError for what cannot be drawn.
    """
    key = as_key(key)
    (m, n), count = _checked_draw(ensemble, shape, count, ENSEMBLES)
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


def draw_covering_entries(key: Any, shape: Any, count: int, least: int) -> EntryMeasurements | None:
    """Uniform entries with `least` or more in every row and column; None: not in `MOST_MASKS` draws.

    A line with fewer entries than the rank is not determined by them, whatever the method.
    """
    key = as_key(key)
    shape, count = _checked_draw("entries", shape, count, ENSEMBLES)
    least = positive_integer(least, "least")
    for attempt in range(MOST_MASKS):
        drawn = key if attempt == 0 else jax.random.fold_in(key, attempt)
        A: Any = draw_measurements(drawn, "entries", shape, count)
        lines = ((A.rows, shape[0]), (A.columns, shape[1]))
        if all(np.bincount(np.asarray(at), minlength=size).min() >= least for at, size in lines):
            return A
    return None


def draw_problem(
    key: Any,
    ensemble: Any,
    shape: Any,
    rank: int,
    count: int,
    least: int = 1,
) -> tuple[AbstractMeasurements, jax.Array]:
    """Measurements and a truth of Frobenius norm one, which depends on the key and the rank alone.

    Ensembles are those of `draw_measurements` (entries: `least` or more in each line), and "quadratic":
    A_i = x_i x_i^T and a symmetric truth, a quadratic network's with output weights 1 and -1 in turn.

    Raises RuntimeError if no mask is found.
    """
    shape, rank = _shape_and_rank(shape, rank)
    shape, count = _checked_draw(ensemble, shape, count, (*ENSEMBLES, "quadratic"))
    least = positive_integer(least, "least")
    truth_key, key = jax.random.split(as_key(key))
    key = jax.random.fold_in(key, count)
    A: AbstractMeasurements | None
    if ensemble == "quadratic":
        hidden = jax.random.normal(truth_key, (rank, shape[1]))
        truth = hidden[::2].T @ hidden[::2] - hidden[1::2].T @ hidden[1::2]
        inputs = jax.random.normal(key, (count, shape[1]))
        A = RankOneMeasurements(inputs, inputs)
    else:
        truth = low_rank_matrix(truth_key, shape, rank)
        if ensemble == "entries":
            A = draw_covering_entries(key, shape, count, least)
        else:
            A = draw_measurements(key, ensemble, shape, count)
    if A is None:
        raise RuntimeError(f"no mask of {count} entries has {least} or more in every line.")
    return A, truth / jnp.linalg.norm(truth)


def gaussian_problem(
    depth: int, shape: Any, rank: int, count: int, seed: int, scale: Any
) -> tuple[DenseMeasurements, Float[Array, "m n"], DeepLinear]:
    """Gaussian measurements of a matrix of Frobenius norm one, the matrix, and a random network."""
    keys = jax.random.split(jax.random.key(natural_number(seed, "seed")), 3)
    truth = low_rank_matrix(keys[0], shape, rank)
    A = gaussian_measurements(keys[1], count, shape)
    network = DeepLinear.gaussian(keys[2], shape, depth, scale=scale)
    return A, truth / jnp.linalg.norm(truth), network


class _EntriesOfMatrix(EntryMeasurements):
    """Entries, by way of the matrix: 3 to 5 times as fast where a fifth or more of it is observed."""

    def apply_network(self, network: Network) -> Float[Array, " N"]:
        """The observed entries of the end-to-end matrix, which is formed."""
        return self.apply(network.matrix())


def unit_entries_problem(
    ensemble: Any, side: int, rank: int, count: int, seed: int
) -> tuple[AbstractMeasurements, np.ndarray]:
    """Entries, or measurements with entries N(0, 1)/side, and a matrix of Frobenius norm `side`."""
    side = positive_integer(side, "side")
    _, count = _checked_draw(ensemble, (side, side), count, ("completion", "sensing"))
    truth_key, key = jax.random.split(jax.random.key(natural_number(seed, "seed")))
    truth = np.asarray(low_rank_matrix(truth_key, (side, side), rank), np.float64)
    truth = truth * (side / np.linalg.norm(truth))
    if ensemble == "completion":
        chosen = jnp.sort(jax.random.choice(key, side * side, (count,), replace=False))
        return _EntriesOfMatrix(chosen // side, chosen % side, (side, side)), truth
    matrices = jax.random.normal(key, (count, side, side), jnp.float32) / side
    return DenseMeasurements(matrices), truth
