"""Random ensembles with their measurement matrices written out, for references that trust nothing."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._checks import as_positive_semidefinite, as_shape
from ..measurements import (
    AbstractMeasurements,
    DenseMeasurements,
    EntryMeasurements,
    IsotropicMeasurements,
    RankOneMeasurements,
)

KINDS = ("dense", "rank one", "entries", "isotropic")


class Instance(NamedTuple):
    """An ensemble, and matrices (m n, m, n) of the same second moment.

    All instances of a shape have as many matrices, padded with zeros and rescaled: (1/N) sum_i
    <A_i, X>^2 is the same, and references are compiled once for each shape.
    """

    A: AbstractMeasurements
    matrices: Float[np.ndarray, "mn m n"]


def instance(kind: str, rng: np.random.Generator, shape: tuple[int, int]) -> Instance:
    """A random ensemble of one of `KINDS` that determines less than the matrix (but isotropic).

    Raises ValueError for another kind.
    """
    m, n = shape
    count = m * n - 3
    if kind == "dense":
        # Unequal rows and columns, so that K(I) and K*(I) are far from multiples of the identity.
        matrices = rng.standard_normal((count, m, n))
        matrices *= rng.uniform(0.5, 1.5, (m, 1)) * rng.uniform(0.5, 1.5, (1, n))
        return Instance(DenseMeasurements(matrices), _padded(matrices))
    if kind == "rank one":
        x, z = rng.standard_normal((count, m)), rng.standard_normal((count, n))
        return Instance(RankOneMeasurements(x, z), _padded(x[:, :, None] * z[:, None]))
    if kind == "entries":
        rows, columns = _covering_entries(rng, shape, count)
        matrices = np.zeros((count, m, n))
        matrices[np.arange(count), rows, columns] = 1.0
        return Instance(EntryMeasurements(rows, columns, shape), _padded(matrices))
    if kind == "isotropic":
        units = np.eye(m * n).reshape(-1, m, n)
        return Instance(IsotropicMeasurements(shape), (m * n) ** 0.5 * units)
    raise ValueError(f"`kind` must be one of {KINDS}, found {kind!r}.")


def single(rng: np.random.Generator, shape: tuple[int, int]) -> Instance:
    """One dense measurement."""
    matrices = rng.standard_normal((1, *shape))
    return Instance(DenseMeasurements(matrices), _padded(matrices))


def from_quadratic_form(form: Any, shape: Any) -> Float[np.ndarray, "mn m n"]:
    """Matrices A_i with (1/N) sum_i <A_i, X>^2 = vec(X)^T form vec(X), N = m n.

    Raises TypeError or ValueError for a form that is not positive semidefinite or not of m n rows.
    """
    m, n = as_shape(shape)
    form = np.asarray(as_positive_semidefinite(form, "form", m * n))
    values, vectors = np.linalg.eigh(form)
    roots = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return (len(form) ** 0.5 * roots).reshape(-1, m, n)


def orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A random matrix (rows, columns) with orthonormal columns."""
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def nuclear(matrix: np.ndarray) -> float:
    """The sum of the singular values, by NumPy."""
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def as_layers(layers: list[np.ndarray]) -> tuple:
    """The layers as JAX arrays."""
    return tuple(jnp.asarray(layer) for layer in layers)


def random_layers(rng: np.random.Generator, shape: tuple[int, int], depth: int) -> list[np.ndarray]:
    """Gaussian layers W_1, ..., W_L, all hidden widths min(m, n)."""
    m, n = shape
    sizes = [n, *[min(m, n)] * (depth - 1), m]
    return [rng.standard_normal((sizes[j + 1], sizes[j])) for j in range(depth)]


def balanced_layers(matrix: np.ndarray, depth: int) -> list[np.ndarray]:
    """The balanced layers of a matrix, by NumPy."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    root = s ** (1 / depth)
    if depth == 1:
        return [matrix]
    return [root[:, None] * vt, *[np.diag(root)] * (depth - 2), u * root[None]]


def _padded(matrices: np.ndarray) -> np.ndarray:
    count, m, n = matrices.shape
    padding = np.zeros((m * n - count, m, n))
    return np.concatenate([(m * n / count) ** 0.5 * matrices, padding])


def _covering_entries(
    rng: np.random.Generator, shape: tuple[int, int], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct entries, at least one in every row and column."""
    m, n = shape
    longer = np.arange(max(m, n))
    rows, columns = rng.permutation(m)[longer % m], rng.permutation(n)[longer % n]
    needed = rows * n + columns
    others = rng.permutation(np.setdiff1d(np.arange(m * n), needed))[: count - len(needed)]
    return np.divmod(np.sort(np.concatenate([needed, others])), n)
