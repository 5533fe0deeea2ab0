"""The one network nearest to the mean of the draws, and the strength that they have on average."""

import jax.numpy as jnp
import numpy as np

from ...network import DeepLinear
from .._biased import BiasedNetwork
from ._draws import Draws


def middle(draws: Draws) -> BiasedNetwork:
    """The network nearest to the mean of the draws, of as many directions as they have.

    Leading singular triples by subspace iteration; the mean, of many more directions, is not formed.
    """
    count, m, q = draws.rows.shape
    width = min(q - 1, m, draws.columns.shape[1])
    left, right = (
        np.moveaxis(factors[..., :-1], 0, 1).reshape(factors.shape[1], -1)
        for factors in (draws.rows, draws.columns)
    )
    basis = draws.columns[-1][:, :width]
    for _ in range(4):
        U = np.linalg.qr(left @ (right.T @ np.linalg.qr(basis)[0]))[0]
        basis = right @ (left.T @ U) / count
    V, upper = np.linalg.qr(basis)
    u, s, vt = np.linalg.svd(upper.T)
    # Balanced, as `DeepLinear.from_svd` has it.
    layers = np.sqrt(s)[:, None] * (V @ vt.T).T, (U @ u) * np.sqrt(s)
    return BiasedNetwork(
        DeepLinear([layer.astype(np.float32) for layer in layers]),
        jnp.asarray(draws.rows[..., -1].mean(0)),
        jnp.asarray(draws.columns[..., -1].mean(0)),
    )


def mean_strength(draws: Draws, count: int) -> float:
    """The strength of weight decay that the draws have on average, as `complete` means it."""
    # Invariant under changes of basis: geometric means over directions and over both layers.
    logarithms = [
        np.linalg.slogdet(precision[:, :-1, :-1])[1] / (precision.shape[1] - 1)
        for precision in (draws.row_precision, draws.column_precision)
    ]
    noise = np.mean(1 / draws.noise_precision, axis=1)
    return float(np.mean(np.exp(0.5 * (logarithms[0] + logarithms[1])) * noise) / count)
