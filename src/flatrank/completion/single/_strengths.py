"""Which strengths of a penalty are worth trying, and what a strength means at another depth."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Array, Bool, Float

from ...entries import Entries
from ...measurements import IsotropicMeasurements
from ...network import DeepLinear
from ...penalties import AbstractPenalty, Flatness
from .._biased import BiasedNetwork


def largest_strength(
    entries: Entries,
    used: Bool[np.ndarray, " N"],
    penalty: AbstractPenalty,
    smoothing: float,
) -> float:
    """The strength above which depth 2 gives W = 0 (without biases): a dual norm of the data."""
    rows, columns, shape = entries.rows, entries.columns, entries.shape
    data = entries.unit[used].astype(np.float64)
    if not data.any():
        return 1.0
    if isinstance(penalty, Flatness):
        row_counts, column_counts = (
            (1 - smoothing) * np.bincount(lines[used], minlength=size)
            + smoothing * len(data) / size
            for lines, size in zip((rows, columns), shape, strict=True)
        )
        data = data / np.sqrt(row_counts[rows[used]] * column_counts[columns[used]]) / 2
    else:
        data = data / len(data)
    sparse = scipy.sparse.csr_array((data, (rows[used], columns[used])), shape=shape)
    if min(shape) < 3:
        largest = np.linalg.norm(sparse.toarray(), 2)
    else:
        start = np.ones(min(shape))
        largest = scipy.sparse.linalg.svds(
            sparse, k=1, v0=start, tol=1e-3, return_singular_vectors=False
        )[0]
    return float(largest) or 1.0


def rekindled(model: BiasedNetwork, penalty: AbstractPenalty, strength: float) -> BiasedNetwork:
    """Directions that a larger strength put out, back at a tenth of the present threshold.

    Alternating minimisation leaves zero only exponentially slowly. The dying directions are the
    right ones: they decay more slowly the more the data wants them.
    """
    network = model.network
    if network.depth > 2:
        return model
    u, s, vt = network.svd()
    floor = 0.1 * _threshold(penalty, strength, network.shape)
    network = DeepLinear.from_svd(u, jnp.maximum(s, jnp.float32(floor)), vt, 2)
    return BiasedNetwork(network, model.row_bias, model.column_bias)


def evenly_measured(penalty: AbstractPenalty, network: DeepLinear) -> Float[Array, ""]:
    """The penalty of a network, the trace of the Hessian for evenly spread entries."""
    m, n = network.shape
    return penalty(network, IsotropicMeasurements(network.shape)) / (
        m * n if isinstance(penalty, Flatness) else 1
    )


def matching_strength(
    shape: tuple[int, int], penalty: AbstractPenalty, strength: float, depth: int
) -> float:
    """A depth-2 strength that weighs a matrix of unit entries as `strength` does at this depth."""
    m, n = shape
    u, s, vt = (
        jnp.full(size, value, jnp.float32)
        for size, value in (((m, 1), m**-0.5), (1, (m * n) ** 0.5), ((1, n), n**-0.5))
    )
    deep = evenly_measured(penalty, DeepLinear.from_svd(u, s, vt, depth))
    shallow = evenly_measured(penalty, DeepLinear.from_svd(u, s, vt, 2))
    return strength * float(deep / shallow)


def random_start(key: jax.Array, shape: tuple[int, int], width: int) -> BiasedNetwork:
    """A small network of depth 2 in float32, without biases."""
    network = DeepLinear.gaussian(key, shape, 2, width, scale=1e-2)
    network = DeepLinear(tuple(layer.astype(jnp.float32) for layer in network.layers))
    m, n = shape
    return BiasedNetwork(network, jnp.zeros(m, jnp.float32), jnp.zeros(n, jnp.float32))


def _threshold(penalty: AbstractPenalty, strength: float, shape: tuple[int, int]) -> float:
    """Where depth 2 soft-thresholds the singular values when the entries are spread evenly."""
    m, n = shape
    return 2 * strength * (m * n) ** 0.5 if isinstance(penalty, Flatness) else strength * m * n
