"""Dense measurement matrices, and the compressed moment tensor that makes their flatness cheap."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._checks import (
    as_key,
    as_real,
    as_shape,
    memory_budget,
    positive_integer,
    require_memory,
    rows_of,
)
from ._base import AbstractMeasurements, Network
from ._moments import LITTLE_WORK, building_work, end_moments, moment_tensor, on_host, tensor_size
from ._one_pass import sum_of_squares, tensor_forms
from ._packing import pack, unpack

# Intermediates of one streamed chunk of measurements stay below this many numbers.
_CHUNK_LIMIT = 2**24
# How many multiplications of a matrix product take as long as one of a matrix-vector product, which
# waits for memory (measured on one CPU core, see docs/growth.md).
_MATRIX_VECTOR_PRICE = 5
# The share of what `prepared()` may use that is used unasked: an eighth of the free memory.
_UNASKED_SHARE = 4


class DenseMeasurements(AbstractMeasurements):
    """Measurements y_i = <A_i, M> with dense A_i; `matrices` has shape (N, m, n).

    What makes the trace of the Hessian cheap is computed here, once: the moments K(I) and K*(I), all
    that the two end layers need, and for the layers between them the compressed moment tensor, when
    the cost model of `tensor_pays` says so and it takes no more than a second or two. Where it takes
    longer, or under `jit`, the second moment is streamed over chunks of the A_i until `prepared()` is
    called. `prepare=False` leaves all of it to `prepared()`: weight decay needs none.

    Raises TypeError or ValueError for an array that is not real, finite and three-dimensional.
    """

    matrices: Float[Array, "N m n"]
    row_moment: Float[Array, "m m"] | None
    column_moment: Float[Array, "n n"] | None
    moment_tensor: Float[Array, "mm nn"] | None

    def __init__(self, matrices: Any, *, prepare: bool = True):
        self.matrices = as_real(matrices, "matrices", 3)
        self.row_moment = self.column_moment = self.moment_tensor = None
        if 0 in self.matrices.shape:
            raise ValueError(
                f"`matrices` has shape {self.matrices.shape}: pass at least one measurement matrix "
                "with at least one row and one column."
            )
        if prepare and self._is_cheap_to_prepare():
            self.row_moment, self.column_moment = end_moments(self.matrices)
            if self.tensor_pays(memory=max(1, memory_budget() // _UNASKED_SHARE)):
                self.moment_tensor = moment_tensor(self.matrices)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the measured matrix."""
        return self.matrices.shape[1], self.matrices.shape[2]

    @property
    def count(self) -> int:
        """The number N of measurements."""
        return self.matrices.shape[0]

    def _apply(self, matrix: Float[Array, "m n"]) -> Float[Array, " N"]:
        """<A_i, M>, shape (N,)."""
        # As one matrix product: for many matrices at once (`vmap`) XLA's contraction of two axes takes
        # four times as long.
        return self.matrices.reshape(self.count, -1) @ matrix.reshape(-1)

    def _adjoint(self, values: Float[Array, " N"]) -> Float[Array, "m n"]:
        """sum_i values_i A_i, shape (m, n)."""
        return jnp.tensordot(values, self.matrices, 1)

    def mean_square_residual(self, network: Network, y: Float[Array, " N"]) -> Float[Array, ""]:
        """(1/N) sum_i (<A_i, W> - y_i)^2; with its gradient the A_i are read once where that pays."""
        matrices = self.matrices.reshape(self.count, -1)
        return sum_of_squares(matrices, network.matrix().reshape(-1), y) / self.count

    def _second_moment(self, S: Float[Array, "n n"]) -> Float[Array, "m m"]:
        """(1/N) sum_i A_i S A_i^T, streamed over chunks of measurements."""
        if self.moment_tensor is not None:
            return unpack(self.moment_tensor @ pack(S, doubled=True), self.shape[0])
        return self._stream(lambda A: jnp.einsum("iab,bc,idc->ad", A, S, A, optimize="optimal"))

    def _second_moment_adjoint(self, T: Float[Array, "m m"]) -> Float[Array, "n n"]:
        """(1/N) sum_i A_i^T T A_i, streamed over chunks of measurements."""
        if self.moment_tensor is not None:
            return unpack(pack(T, doubled=True) @ self.moment_tensor, self.shape[1])
        return self._stream(lambda A: jnp.einsum("iba,bc,icd->ad", A, T, A, optimize="optimal"))

    def second_moment_forms(
        self, lefts: tuple[Array | None, ...], rights: tuple[Array | None, ...]
    ) -> Float[Array, " L"]:
        """(1/N) sum_i ||P^T A_i Q^T||_F^2, one per pair.

        What is prepared is used: K(I) where Q is None, K*(I) where P is, the tensor for all pairs
        that remain in one matrix product; otherwise one stream serves them all.
        """
        m, n = self.shape
        dtype = self.matrices.dtype
        known: dict[int, Array] = {}
        rest: dict[int, tuple[Array | None, Array | None]] = {}
        for j, (P, Q) in enumerate(zip(lefts, rights, strict=True)):
            if Q is None and self.row_moment is not None:
                known[j] = jnp.vdot(_gram(P, m, dtype), self.row_moment)
            elif P is None and self.column_moment is not None:
                known[j] = jnp.vdot(_gram(_transpose(Q), n, dtype), self.column_moment)
            else:
                rest[j] = (P, Q)
        if rest:
            if self.moment_tensor is not None:
                values = self._tensor_forms(list(rest.values()))
            else:
                values = self._stream(
                    lambda A: jnp.stack([_form(A, P, Q) for P, Q in rest.values()])
                )
            known.update(zip(rest, values, strict=True))
        return jnp.stack([known[j] for j in range(len(lefts))])

    def _tensor_forms(self, pairs: list[tuple[Array | None, Array | None]]) -> Float[Array, " L"]:
        """The forms by the moment tensor, all in one matrix product."""
        m, n = self.shape
        assert self.moment_tensor is not None
        dtype = self.moment_tensor.dtype
        lefts = tuple(jnp.eye(m, dtype=dtype) if P is None else P for P, _ in pairs)
        rights = tuple(jnp.eye(n, dtype=dtype) if Q is None else Q for _, Q in pairs)
        return tensor_forms(self.moment_tensor, lefts, rights)

    def second_moment_gram(
        self, P: Float[Array, "m p"], Q: Float[Array, "q n"] | None
    ) -> Float[Array, "p p"]:
        """P^T K(Q^T Q) P, shape (p, p); Q None stands for the identity, for which K is prepared."""
        if Q is None and self.row_moment is not None:
            return P.T @ self.row_moment @ P
        return super().second_moment_gram(P, Q)

    def second_moment_adjoint_gram(
        self, Q: Float[Array, "q n"], P: Float[Array, "m p"] | None
    ) -> Float[Array, "q q"]:
        """Q K*(P P^T) Q^T, shape (q, q); P None stands for the identity, for which K* is prepared."""
        if P is None and self.column_moment is not None:
            return Q @ self.column_moment @ Q.T
        return super().second_moment_adjoint_gram(Q, P)

    def mean_square_norm(self) -> Float[Array, ""]:
        """(1/N) sum_i ||A_i||_F^2."""
        if self.row_moment is not None:
            return jnp.trace(self.row_moment)
        return jnp.sum(self.matrices**2) / self.count

    def _part(self, chosen: Int[Array, " K"]) -> "DenseMeasurements":
        """The measurements with the given indices, not prepared."""
        return DenseMeasurements(rows_of(self.matrices, chosen), prepare=False)

    def _prepared(
        self, depth: int | None, width: int | None, memory: int | None
    ) -> "DenseMeasurements":
        """The same measurements with K(I), K*(I) and, where it pays, the moment tensor.

        The tensor T[ab, cd] = (1/N) sum_i A_i[a,c] A_i[b,d] is stored for a <= b and c <= d only, m^2
        n^2 / 4 numbers, symmetrised in (c, d): it is only ever contracted with symmetric matrices.
        Networks of depth 2 and less do not need it, and narrow ones are cheaper without: then it is
        left out.
        """
        prepared = self
        if self.row_moment is None:
            moments = end_moments(self.matrices)
            prepared = eqx.tree_at(
                lambda A: (A.row_moment, A.column_moment), self, moments, is_leaf=_is_none
            )
        tensor = self.moment_tensor
        # What is there needs no room, unless the caller says how much there is.
        fits = (tensor is not None and memory is None) or self._tensor_fits(memory)
        if not (fits and self._tensor_is_cheaper(depth, width)):
            tensor = None
        elif tensor is None:
            tensor = moment_tensor(self.matrices)
        return eqx.tree_at(lambda A: A.moment_tensor, prepared, tensor, is_leaf=_is_none)

    def tensor_pays(
        self, depth: int | None = None, width: int | None = None, memory: int | None = None
    ) -> bool:
        """Whether the moment tensor fits in memory and is cheaper than a stream over the A_i.

        *Bytes*: the tensor, and a copy of the A_i while it is built, have to fit in `memory`, by
        default half of what is free; a stream needs one chunk.

        *Multiplications*, for one inner layer and its gradient: the tensor, m^2 n^2 / 4 numbers, is
        read twice, in matrix-vector products; a stream takes six matrix products of N m n k, k the
        width (at most the shorter side), each multiplication `_MATRIX_VECTOR_PRICE` times as fast.
        """
        return self._tensor_is_cheaper(depth, width) and self._tensor_fits(memory)

    def _tensor_fits(self, memory: int | None) -> bool:
        """Whether the tensor, and a copy of the A_i while XLA builds it, fit."""
        numbers = tensor_size(*self.shape) + self.matrices.size
        return numbers * self.matrices.dtype.itemsize <= memory_budget(memory)

    def _tensor_is_cheaper(self, depth: int | None, width: int | None) -> bool:
        """Whether reading the tensor takes less time than a stream over the A_i."""
        if depth is not None and depth <= 2:
            return False
        m, n = self.shape
        stream = self.matrices.size * min(m, n, *([] if width is None else [width]))
        return 2 * _MATRIX_VECTOR_PRICE * tensor_size(m, n) < 6 * stream

    def _is_cheap_to_prepare(self) -> bool:
        """Whether the moments can be computed now, in a second or two."""
        if not on_host(self.matrices):
            return False
        return building_work(self.count, *self.shape) <= LITTLE_WORK

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
    key: Any, count: int, shape: Any, *, prepare: bool = True
) -> DenseMeasurements:
    """Dense measurements with independent standard normal entries, shape (count, m, n).

    `prepare` as in `DenseMeasurements`.

    Raises MemoryError before allocating what would not fit.
    """
    key = as_key(key)
    m, n = as_shape(shape)
    count = positive_integer(count, "count")
    require_memory(
        2 * count * m * n * np.dtype(jnp.zeros(0).dtype).itemsize,
        f"{count} Gaussian measurements of a {m} x {n} matrix",
        "take fewer measurements, or RankOneMeasurements, which store (m + n) numbers each",
    )
    return DenseMeasurements(jax.random.normal(key, (count, m, n)), prepare=prepare)


def _form(A: Float[Array, "i m n"], P: Array | None, Q: Array | None) -> Float[Array, ""]:
    """sum_i ||P^T A_i Q^T||_F^2 in the fewest multiplications."""
    _, m, n = A.shape
    # A factor narrower than the side that it meets makes the measurements smaller: the narrowest
    # goes first. A wider one is replaced by its Gram matrix.
    steps = []
    if P is not None and P.shape[1] < m:
        steps.append((P.shape[1] / m, "ap,iab->ipb", P))
    if Q is not None and Q.shape[0] < n:
        steps.append((Q.shape[0] / n, "qb,iab->iaq", Q))
    for _, indices, factor in sorted(steps, key=lambda step: step[0]):
        A = jnp.einsum(indices, factor, A)
    left = right = A
    if P is not None and P.shape[1] >= m:
        left = jnp.einsum("ab,ibc->iac", P @ P.T, A)
    if Q is not None and Q.shape[0] >= n:
        right = jnp.einsum("iab,bc->iac", A, Q.T @ Q)
    return jnp.sum(left * right)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _transpose(factor: Array | None) -> Array | None:
    return None if factor is None else factor.T


def _gram(factor: Array | None, size: int, dtype: Any) -> Array:
    return jnp.eye(size, dtype=dtype) if factor is None else factor @ factor.T
