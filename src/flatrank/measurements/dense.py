"""Dense measurement matrices, and the compressed moment tensor that makes their flatness cheap."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import as_real, as_shape, free_memory, positive_integer, require_memory
from .base import AbstractMeasurements

# Intermediates of one streamed chunk of measurements stay below this many numbers.
_CHUNK_LIMIT = 2**24


class DenseMeasurements(AbstractMeasurements):
    """Measurements y_i = <A_i, M> with dense A_i; `matrices` has shape (N, m, n).

    `prepared()` adds the compressed moment tensor when the cost model of `tensor_pays` says so.

    Raises TypeError or ValueError for an array that is not real, finite and three-dimensional.
    """

    matrices: Float[Array, "N m n"]
    moment_tensor: Float[Array, "mm nn"] | None

    def __init__(self, matrices: Any, moment_tensor: Any = None):
        self.matrices = as_real(matrices, "matrices", 3)
        self.moment_tensor = moment_tensor
        if 0 in self.matrices.shape:
            raise ValueError(
                f"`matrices` has shape {self.matrices.shape}: pass at least one measurement matrix "
                "with at least one row and one column."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the measured matrix."""
        return self.matrices.shape[1], self.matrices.shape[2]

    @property
    def count(self) -> int:
        """The number N of measurements."""
        return self.matrices.shape[0]

    def apply(self, matrix: Float[Array, "m n"]) -> Float[Array, " N"]:
        """<A_i, M>, shape (N,)."""
        return self.matrices.reshape(self.count, -1) @ matrix.reshape(-1)

    def adjoint(self, values: Float[Array, " N"]) -> Float[Array, "m n"]:
        """sum_i values_i A_i, shape (m, n)."""
        return (values @ self.matrices.reshape(self.count, -1)).reshape(self.shape)

    def second_moment(self, S: Float[Array, "n n"]) -> Float[Array, "m m"]:
        """(1/N) sum_i A_i S A_i^T, streamed over chunks of measurements."""
        if self.moment_tensor is not None:
            return _unpack(self.moment_tensor @ _pack(S, doubled=True), self.shape[0])
        return self._stream(lambda A: jnp.einsum("iab,bc,idc->ad", A, S, A, optimize="optimal"))

    def second_moment_adjoint(self, T: Float[Array, "m m"]) -> Float[Array, "n n"]:
        """(1/N) sum_i A_i^T T A_i, streamed over chunks of measurements."""
        if self.moment_tensor is not None:
            return _unpack(_pack(T, doubled=True) @ self.moment_tensor, self.shape[1])
        return self._stream(lambda A: jnp.einsum("iba,bc,icd->ad", A, T, A, optimize="optimal"))

    def second_moment_forms(
        self, lefts: tuple[Array | None, ...], rights: tuple[Array | None, ...]
    ) -> Float[Array, " L"]:
        """(1/N) sum_i ||P^T A_i Q^T||_F^2, one per pair: one matrix product when prepared."""
        if self.moment_tensor is not None:
            m, n = self.shape
            dtype = self.moment_tensor.dtype
            left = jnp.stack([_pack(_gram(P, m, dtype), doubled=True) for P in lefts])
            right = jnp.stack(
                [_pack(_gram(None if Q is None else Q.T, n, dtype), doubled=True) for Q in rights]
            )
            return jnp.sum(left * (right @ self.moment_tensor.T), axis=1)

        def forms(A: Array) -> Array:
            values = []
            for P, Q in zip(lefts, rights, strict=True):
                seen = A if P is None else jnp.einsum("ap,iab->ipb", P, A)
                seen = seen if Q is None else jnp.einsum("ipb,qb->ipq", seen, Q)
                values.append(jnp.sum(seen**2))
            return jnp.stack(values)

        return self._stream(forms)

    def mean_square_norm(self) -> Float[Array, ""]:
        """(1/N) sum_i ||A_i||_F^2."""
        return jnp.sum(self.matrices**2) / self.count

    def prepared(self) -> "DenseMeasurements":
        """The same measurements with the moment tensor T[ab, cd] = (1/N) sum_i A_i[a,c] A_i[b,d].

        Only a <= b and c <= d are stored, m^2 n^2 / 4 numbers, symmetrised in (c, d): it is only
        ever contracted with symmetric matrices.
        """
        if self.moment_tensor is not None or not self.tensor_pays():
            return self
        return eqx.tree_at(
            lambda A: A.moment_tensor,
            self,
            _moment_tensor(self.matrices),
            is_leaf=lambda x: x is None,
        )

    def tensor_pays(self) -> bool:
        """Whether the moment tensor fits in half of the free memory and is cheaper than a stream.

        Both forms are bound by the numbers that they touch for each layer of each evaluation: m^2
        n^2 / 4 for the tensor; about N m n min(m, n) multiplications for the stream, which runs at
        the speed of a matrix product, some eight times that of the tensor's matrix-vector product.
        """
        m, n = self.shape
        numbers = (m * (m + 1) // 2) * (n * (n + 1) // 2)
        fits = numbers * self.matrices.dtype.itemsize <= free_memory() // 2
        return fits and 8 * numbers < self.count * m * n * min(m, n)

    def _stream(self, term: Any) -> Array:
        """The mean over measurements of term(chunk), chunk by chunk, in bounded memory.

        Chunks are recomputed rather than kept for the gradient.
        """
        m, n = self.shape
        size = max(1, min(self.count, _CHUNK_LIMIT // (m * n)))
        whole = self.count - self.count % size
        chunks = self.matrices[:whole].reshape(-1, size, m, n)
        term = jax.checkpoint(term)
        total = term(chunks[0])
        if len(chunks) > 1:
            total, _ = jax.lax.scan(lambda sum_, A: (sum_ + term(A), None), total, chunks[1:])
        if whole < self.count:
            total = total + term(self.matrices[whole:])
        return total / self.count


def gaussian_measurements(
    key: PRNGKeyArray, count: int, shape: tuple[int, int]
) -> DenseMeasurements:
    """Dense measurements with independent standard normal entries, shape (count, m, n).

    Raises MemoryError before allocating what would not fit.
    """
    m, n = as_shape(shape)
    count = positive_integer(count, "count")
    require_memory(
        2 * count * m * n * np.dtype(jnp.zeros(0).dtype).itemsize,
        f"{count} Gaussian measurements of a {m} x {n} matrix",
        "take fewer measurements, or RankOneMeasurements, which store (m + n) numbers each",
    )
    return DenseMeasurements(jax.random.normal(key, (count, m, n)))


@jax.jit
def _moment_tensor(matrices: Float[Array, "N m n"]) -> Float[Array, "mm nn"]:
    count, m, _ = matrices.shape
    by_row = jnp.swapaxes(matrices, 0, 1)
    first, second = jnp.triu_indices(m)

    def pair(index: tuple[Array, Array]) -> Array:
        product = by_row[index[0]].T @ by_row[index[1]] / count
        return _pack(0.5 * (product + product.T))

    return jax.lax.map(pair, (first, second))


def _gram(factor: Array | None, size: int, dtype: Any) -> Array:
    return jnp.eye(size, dtype=dtype) if factor is None else factor @ factor.T


def _pack(symmetric: Array, doubled: bool = False) -> Array:
    """The upper triangle as a vector; `doubled` counts each off-diagonal entry twice."""
    first, second = np.triu_indices(symmetric.shape[0])
    packed = symmetric[first, second]
    if doubled:
        packed = packed * jnp.asarray(np.where(first == second, 1.0, 2.0), packed.dtype)
    return packed


def _unpack(packed: Array, size: int) -> Array:
    """The symmetric matrix with a given upper triangle."""
    first, second = np.triu_indices(size)
    place = np.zeros((size, size), np.int32)
    place[first, second] = place[second, first] = np.arange(len(first))
    return packed[place]
