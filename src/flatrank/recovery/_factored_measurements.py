"""Measurements of a matrix in two factors, X = P Q^T, and their derivatives as matrix products.

`Factored` serves every ensemble by automatic differentiation. `FactoredEntries` lays missing entries
out line by line, once by rows and once by columns, so that products with the derivative and its
transpose gather and multiply, and never scatter.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._checks import is_traced, require_memory
from ..measurements import AbstractMeasurements, EntryMeasurements
from ..network import DeepLinear

Pair = tuple[Array, Array]


class AbstractFactored(eqx.Module):
    """A(P Q^T) for P (m, k) and Q (n, k); residuals are kept in a layout of the ensemble's own."""

    @abstractmethod
    def arranged(self, y: Float[Array, " N"]) -> Array:
        """Values, one for each measurement, in the layout of residuals."""

    @abstractmethod
    def apply(self, P: Array, Q: Array) -> Array:
        """A(P Q^T)."""

    @abstractmethod
    def linearized(
        self, P: Array, Q: Array
    ) -> tuple[Callable[[Pair], Array], Callable[[Array], Pair]]:
        """The derivative at (P, Q) and its transpose."""

    @abstractmethod
    def times(self, residual: Array, V: Float[Array, "n k"]) -> Float[Array, "m k"]:
        """A*(residual) V."""

    @abstractmethod
    def times_transposed(self, residual: Array, U: Float[Array, "m k"]) -> Float[Array, "n k"]:
        """A*(residual)^T U."""

    @abstractmethod
    def square_norms(self, U: Float[Array, "m k"], V: Float[Array, "n k"]) -> Float[Array, " k"]:
        """||A(u_i v_i^T)||^2, one for each pair of columns."""

    def blocks(self, P: Array, Q: Array) -> Pair | None:
        """The k x k diagonal blocks of the Gauss-Newton matrix, one for each row of P and of Q.

        None where they are near multiples of p Q^T Q and p P^T P, which are diagonal.
        """
        return None


class Factored(AbstractFactored):
    """Any ensemble, by automatic differentiation of `apply_network`."""

    A: AbstractMeasurements

    def arranged(self, y: Float[Array, " N"]) -> Array:
        """The values as they are."""
        return y

    def apply(self, P: Array, Q: Array) -> Array:
        """A(P Q^T), shape (N,)."""
        return self.A.apply_network(DeepLinear((Q.T, P)))

    def linearized(
        self, P: Array, Q: Array
    ) -> tuple[Callable[[Pair], Array], Callable[[Array], Pair]]:
        """The derivative at (P, Q) and its transpose."""
        _, product = jax.linearize(lambda pair: self.apply(*pair), (P, Q))
        transpose = jax.linear_transpose(product, (P, Q))
        return product, lambda residual: transpose(residual)[0]

    def times(self, residual: Array, V: Float[Array, "n k"]) -> Float[Array, "m k"]:
        """A*(residual) V: the transpose of P -> A(P V^T)."""
        like = jax.ShapeDtypeStruct((self.A.shape[0], V.shape[1]), V.dtype)
        return jax.linear_transpose(lambda P: self.apply(P, V), like)(residual)[0]

    def times_transposed(self, residual: Array, U: Float[Array, "m k"]) -> Float[Array, "n k"]:
        """A*(residual)^T U: the transpose of Q -> A(U Q^T)."""
        like = jax.ShapeDtypeStruct((self.A.shape[1], U.shape[1]), U.dtype)
        return jax.linear_transpose(lambda Q: self.apply(U, Q), like)(residual)[0]

    def square_norms(self, U: Float[Array, "m k"], V: Float[Array, "n k"]) -> Float[Array, " k"]:
        """||A(u_i v_i^T)||^2, one after the other."""
        return jax.lax.map(
            lambda uv: jnp.sum(self.apply(uv[0][:, None], uv[1][:, None]) ** 2), (U.T, V.T)
        )


class _Lines(eqx.Module):
    """Entries line by line; slot (i, d) holds the d-th entry of line i."""

    other: Int[
        Array, "lines d"
    ]  # its index along the other axis, one past the end where there is none
    same: Int[
        Array, "lines d"
    ]  # its slot in the layout by the other axis, one past the end likewise

    def gather(self, factor: Float[Array, "other k"]) -> Float[Array, "lines d k"]:
        """The row of the other side's factor for each slot, zero where there is no entry."""
        return jnp.pad(factor, ((0, 1), (0, 0)))[self.other]

    def here(self, there: Float[Array, "_ _"]) -> Float[Array, "lines d"]:
        """Values in the other layout, in this one."""
        return jnp.pad(there.ravel(), (0, 1))[self.same]


class FactoredEntries(AbstractFactored):
    """Missing entries, padded to the fullest line; residuals are laid out by rows, (m, d)."""

    rows: _Lines
    columns: _Lines
    source: Int[Array, "m d"]

    def arranged(self, y: Float[Array, " N"]) -> Array:
        """The values by rows, zero in empty slots."""
        return jnp.pad(y, (0, 1))[self.source]

    def apply(self, P: Array, Q: Array) -> Array:
        """The entries of P Q^T by rows."""
        return _inner(P, self.rows.gather(Q))

    def linearized(
        self, P: Array, Q: Array
    ) -> tuple[Callable[[Pair], Array], Callable[[Array], Pair]]:
        """The derivative at (P, Q) and its transpose; the rows of P and Q are gathered once."""
        by_rows, by_columns = self.rows.gather(Q), self.columns.gather(P)

        def product(pair: Pair) -> Array:
            return _inner(pair[0], by_rows) + self.rows.here(_inner(pair[1], by_columns))

        def transpose(residual: Array) -> Pair:
            return _outer(residual, by_rows), _outer(self.columns.here(residual), by_columns)

        return product, transpose

    def times(self, residual: Array, V: Float[Array, "n k"]) -> Float[Array, "m k"]:
        """The sparse matrix of the residual times V."""
        return _outer(residual, self.rows.gather(V))

    def times_transposed(self, residual: Array, U: Float[Array, "m k"]) -> Float[Array, "n k"]:
        """The transposed sparse matrix of the residual times U."""
        return _outer(self.columns.here(residual), self.columns.gather(U))

    def square_norms(self, U: Float[Array, "m k"], V: Float[Array, "n k"]) -> Float[Array, " k"]:
        """The sum of squares of u_i v_i^T over the observed entries."""
        return jnp.einsum("mk,mdk->k", U**2, self.rows.gather(V) ** 2)

    def blocks(self, P: Array, Q: Array) -> Pair | None:
        """The Gram matrix of the other side's rows that each line meets."""
        by_rows, by_columns = self.rows.gather(Q), self.columns.gather(P)
        return tuple(jnp.einsum("mdi,mdj->mij", seen, seen) for seen in (by_rows, by_columns))  # type: ignore[return-value]


def _inner(factor: Float[Array, "lines k"], seen: Float[Array, "lines d k"]) -> Array:
    return jnp.einsum("mk,mdk->md", factor, seen)


def _outer(values: Float[Array, "lines d"], seen: Float[Array, "lines d k"]) -> Array:
    return jnp.einsum("md,mdk->mk", values, seen)


def factored(A: AbstractMeasurements, width: int) -> AbstractFactored:
    """The form of the measurements for factors of the given width that suits the ensemble.

    Raises MemoryError for entries whose padded layout would not fit.
    """
    if not isinstance(A, EntryMeasurements) or is_traced(A.rows, A.columns):
        return Factored(A)
    rows, columns = np.asarray(A.rows), np.asarray(A.columns)
    m, n = A.shape
    row_slot, row_degree = _slots(rows, m)
    column_slot, column_degree = _slots(columns, n)
    require_memory(
        4 * (m * row_degree + n * column_degree) * width * jnp.zeros(0).dtype.itemsize,
        f"{A.count} entries padded to the fullest row and column, {width} factors wide",
        "pass a smaller `width`, or complete the table with MatrixCompleter",
    )

    def table(lines: int, degree: int, at: Any, values: Any, empty: int) -> Array:
        filled = np.full((lines, degree), empty, np.int32)
        filled[at] = values
        return jnp.asarray(filled)

    by_rows, by_columns = (rows, row_slot), (columns, column_slot)
    return FactoredEntries(
        _Lines(
            table(m, row_degree, by_rows, columns, n),
            table(m, row_degree, by_rows, columns * column_degree + column_slot, n * column_degree),
        ),
        _Lines(
            table(n, column_degree, by_columns, rows, m),
            table(n, column_degree, by_columns, rows * row_degree + row_slot, m * row_degree),
        ),
        table(m, row_degree, by_rows, np.arange(A.count), A.count),
    )


def _slots(lines: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """A place within its line for each entry, and the largest number of places, a multiple of 8."""
    degrees = np.bincount(lines, minlength=count)
    order = np.argsort(lines, kind="stable")
    slots = np.empty(len(lines), np.int64)
    slots[order] = np.arange(len(lines)) - np.repeat(np.cumsum(degrees) - degrees, degrees)
    # Few sizes, so that few shapes are compiled.
    return slots, int(-(-degrees.max() // 8) * 8)
