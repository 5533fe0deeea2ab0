"""Missing entries: each measurement is one entry of the matrix."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._checks import as_index, as_numbers, as_shape, is_traced, rows_of
from ._base import AbstractMeasurements, Network

# Rows of both factors are gathered for at most this many numbers at a time (128 MiB in float64).
_GATHER_LIMIT = 2**24


class EntryMeasurements(AbstractMeasurements):
    """The entries M[rows_i, columns_i] of an m x n matrix.

    `rows` and `columns` are integer arrays of shape (N,). Only `adjoint` and the second moments, whose
    results are matrices, form anything larger than the factors of a network.

    Raises TypeError or ValueError for indices that are not integers, are out of range, or name the
    same entry twice.

    >>> import jax
    >>> A = EntryMeasurements([0, 1], [2, 0], (2, 3))
    >>> A.apply(jax.numpy.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).tolist()
    [3.0, 4.0]
    """

    rows: Int[Array, " N"]
    columns: Int[Array, " N"]
    _shape: tuple[int, int] = eqx.field(static=True)

    def __init__(self, rows: Any, columns: Any, shape: Any):
        self._shape = as_shape(shape)
        self.rows = as_index(rows, "rows", self.shape[0])
        self.columns = as_index(columns, "columns", self.shape[1])
        if len(self.rows) != len(self.columns) or len(self.rows) == 0:
            raise ValueError(
                f"`rows` has {len(self.rows)} indices and `columns` has {len(self.columns)}: "
                "pass one of each per observed entry, and at least one entry."
            )
        if not is_traced(self.rows, self.columns):
            flat = np.asarray(self.rows, np.int64) * self.shape[1] + np.asarray(self.columns)
            order = np.sort(flat)
            twice = np.flatnonzero(order[1:] == order[:-1])
            if len(twice):
                row, column = divmod(int(order[twice[0]]), self.shape[1])
                raise ValueError(
                    f"`rows` and `columns` name entry ({row}, {column}) more than once "
                    f"({len(twice)} repeat(s) in all): average repeated measurements first."
                )

    @classmethod
    def from_mask(cls, mask: Any) -> "EntryMeasurements":
        """The entries where an (m, n) array of booleans or 0/1 is true, row by row."""
        mask = np.asarray(as_numbers(mask, "mask"))
        if mask.ndim != 2 or not (mask.dtype == bool or np.isin(mask, (0, 1)).all()):
            raise ValueError(
                f"`mask` must be a two-dimensional array of booleans or 0/1, found shape "
                f"{mask.shape} and data type {mask.dtype}: pass for example `~numpy.isnan(X)`."
            )
        rows, columns = np.nonzero(mask)
        return cls(rows, columns, mask.shape)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the measured matrix."""
        return self._shape

    @property
    def count(self) -> int:
        """The number N of observed entries."""
        return self.rows.shape[0]

    def _apply(self, matrix: Float[Array, "m n"]) -> Float[Array, " N"]:
        """The observed entries of the matrix, shape (N,)."""
        return matrix[self.rows, self.columns]

    def apply_network(self, network: Network) -> Float[Array, " N"]:
        """The observed entries of the end-to-end matrix, shape (N,); the matrix is not formed."""
        left, right = network.factors()
        right = right.T

        def entry(index: tuple[Array, Array]) -> Array:
            return jnp.sum(left[index[0]] * right[index[1]], axis=-1)

        batch = max(1, _GATHER_LIMIT // left.shape[1])
        if self.count <= batch:
            return entry((self.rows, self.columns))
        return jax.lax.map(entry, (self.rows, self.columns), batch_size=batch)

    def _adjoint(self, values: Float[Array, " N"]) -> Float[Array, "m n"]:
        """The values at their places in an (m, n) matrix of zeros."""
        return jnp.zeros(self.shape, values.dtype).at[self.rows, self.columns].add(values)

    def row_counts(self) -> Float[Array, " m"]:
        """The number of observed entries in each row, shape (m,)."""
        return jnp.zeros(self.shape[0]).at[self.rows].add(1.0)

    def column_counts(self) -> Float[Array, " n"]:
        """The number of observed entries in each column, shape (n,)."""
        return jnp.zeros(self.shape[1]).at[self.columns].add(1.0)

    def _second_moment(self, S: Float[Array, "n n"]) -> Float[Array, "m m"]:
        """(1/N) diag(Omega diag(S)), Omega the 0/1 mask."""
        weights = jnp.diagonal(S)[self.columns] / self.count
        return jnp.diag(jnp.zeros(self.shape[0], S.dtype).at[self.rows].add(weights))

    def _second_moment_adjoint(self, T: Float[Array, "m m"]) -> Float[Array, "n n"]:
        """(1/N) diag(Omega^T diag(T))."""
        weights = jnp.diagonal(T)[self.rows] / self.count
        return jnp.diag(jnp.zeros(self.shape[1], T.dtype).at[self.columns].add(weights))

    def second_moment_forms(
        self, lefts: tuple[Array | None, ...], rights: tuple[Array | None, ...]
    ) -> Float[Array, " L"]:
        """(1/N) sum over observed (a, b) of ||P[a]||^2 ||Q[:, b]||^2, one per pair."""
        m, n = self.shape
        given = [factor.dtype for factor in (*lefts, *rights) if factor is not None]
        dtype = given[0] if given else jnp.zeros(0).dtype

        def form(P: Array | None, Q: Array | None) -> Array:
            left = jnp.ones(m, dtype) if P is None else jnp.sum(P**2, axis=1)
            right = jnp.ones(n, dtype) if Q is None else jnp.sum(Q**2, axis=0)
            return jnp.sum(left[self.rows] * right[self.columns]) / self.count

        return jnp.stack([form(P, Q) for P, Q in zip(lefts, rights, strict=True)])

    def second_moment_gram(
        self, P: Float[Array, "m p"], Q: Float[Array, "q n"] | None
    ) -> Float[Array, "p p"]:
        """P^T diag(d) P, d_a = (1/N) times the sum of ||Q[:, b]||^2 over observed (a, b)."""
        n = self.shape[1]
        squares = jnp.ones(n, P.dtype) if Q is None else jnp.sum(Q**2, axis=0)
        weights = jnp.zeros(self.shape[0], P.dtype).at[self.rows].add(squares[self.columns])
        return (P * weights[:, None]).T @ P / self.count

    def second_moment_adjoint_gram(
        self, Q: Float[Array, "q n"], P: Float[Array, "m p"] | None
    ) -> Float[Array, "q q"]:
        """Q diag(d) Q^T, d_b = (1/N) times the sum of ||P[a]||^2 over observed (a, b)."""
        m = self.shape[0]
        squares = jnp.ones(m, Q.dtype) if P is None else jnp.sum(P**2, axis=1)
        weights = jnp.zeros(self.shape[1], Q.dtype).at[self.columns].add(squares[self.rows])
        return (Q * weights[None]) @ Q.T / self.count

    def mean_square_norm(self) -> Float[Array, ""]:
        """1: every measurement is a unit matrix."""
        return jnp.asarray(1.0)

    def _part(self, chosen: Int[Array, " K"]) -> "EntryMeasurements":
        """The entries with the given indices."""
        return EntryMeasurements(
            rows_of(self.rows, chosen), rows_of(self.columns, chosen), self.shape
        )
