"""Missing entries under XLA: padded lines.

They are laid out line by line, once by rows and once by columns, so that products with the derivative
and its transpose gather and multiply, and never scatter.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._checks import require_memory
from ...measurements import EntryMeasurements
from ._base import AbstractFactored, Derivative


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


class PaddedEntries(eqx.Module, AbstractFactored):
    """Missing entries under XLA, padded to the fullest line; residuals are laid out by rows, (m, d)."""

    rows: _Lines
    columns: _Lines
    source: Int[Array, "m d"]
    power: Any
    shape: tuple[int, int] = eqx.field(static=True)

    def arranged(self, y: Float[Array, " N"]) -> Array:
        """The values by rows, zero in empty slots."""
        return jnp.pad(y, (0, 1))[self.source]

    def apply(self, Z: Array) -> Array:
        """The entries of P Q^T by rows."""
        m, _ = self.shape
        return _inner(Z[:m], self.rows.gather(Z[m:]))

    def linearized(self, Z: Array) -> Derivative:
        """The derivative at Z; the rows of P and Q are gathered once."""
        m, _ = self.shape
        by_rows, by_columns = self.rows.gather(Z[m:]), self.columns.gather(Z[:m])

        def product(step: Array) -> Array:
            return _inner(step[:m], by_rows) + self.rows.here(_inner(step[m:], by_columns))

        def transpose(residual: Array) -> Array:
            return jnp.concatenate(
                [_outer(residual, by_rows), _outer(self.columns.here(residual), by_columns)]
            )

        return Derivative(product, transpose)

    def adjoint(self, residual: Array) -> Derivative:
        """The sparse matrix of the residual, and its transpose."""
        return Derivative(
            lambda V: _outer(residual, self.rows.gather(V)),
            lambda U: _outer(self.columns.here(residual), self.columns.gather(U)),
        )

    def square_norms(self, U: Float[Array, "m k"], V: Float[Array, "n k"]) -> Float[Array, " k"]:
        """The sum of squares of u_i v_i^T over the observed entries."""
        return jnp.einsum("mk,mdk->k", U**2, self.rows.gather(V) ** 2)

    def inverse_blocks(self, Z: Array, ridge: Float[Array, " k"]) -> Float[Array, "mn k k"]:
        """From the Gram matrix of the other side's rows that each line meets."""
        m, _ = self.shape
        by_rows, by_columns = self.rows.gather(Z[m:]), self.columns.gather(Z[:m])
        # One batch, not two at the same time (decision 3).
        blocks = [jnp.einsum("mdi,mdj->mij", seen, seen) for seen in (by_rows, by_columns)]
        return _inverses(jnp.concatenate(blocks), ridge)


def _inner(factor: Float[Array, "lines k"], seen: Float[Array, "lines d k"]) -> Array:
    return jnp.einsum("mk,mdk->md", factor, seen)


def _outer(values: Float[Array, "lines d"], seen: Float[Array, "lines d k"]) -> Array:
    return jnp.einsum("md,mdk->mk", values, seen)


def _inverses(blocks: Float[Array, "m k k"], ridge: Float[Array, " k"]) -> Float[Array, "m k k"]:
    """Inverses of blocks + diag(ridge), scaled to a unit diagonal first."""
    k = blocks.shape[-1]
    eye = jnp.eye(k, dtype=blocks.dtype)
    slack = 4e3 * float(jnp.finfo(blocks.dtype).eps)
    diagonal = jnp.diagonal(blocks, axis1=1, axis2=2) + ridge[None]
    scale = jnp.where(diagonal > 0, diagonal, 1.0) ** -0.5
    outer = scale[:, :, None] * scale[:, None, :]
    scaled = blocks * outer * (1 - eye)[None] + (1 + slack) * eye[None]
    factor = jnp.linalg.cholesky(scaled)
    inverse = jax.scipy.linalg.cho_solve((factor, True), jnp.broadcast_to(eye, blocks.shape))
    return inverse * outer


def padded_entries(A: EntryMeasurements, width: int, power: Any) -> PaddedEntries:
    """The layout of entries for factors of a given width.

    Raises MemoryError where it would not fit.
    """
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
    return PaddedEntries(
        rows=_Lines(
            table(m, row_degree, by_rows, columns, n),
            table(m, row_degree, by_rows, columns * column_degree + column_slot, n * column_degree),
        ),
        columns=_Lines(
            table(n, column_degree, by_columns, rows, m),
            table(n, column_degree, by_columns, rows * row_degree + row_slot, m * row_degree),
        ),
        source=table(m, row_degree, by_rows, np.arange(A.count), A.count),
        power=power,
        shape=A.shape,
    )


def _slots(lines: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """A place within its line for each entry, and the largest number of places, a multiple of 8."""
    degrees = np.bincount(lines, minlength=count)
    order = np.argsort(lines, kind="stable")
    slots = np.empty(len(lines), np.int64)
    slots[order] = np.arange(len(lines)) - np.repeat(np.cumsum(degrees) - degrees, degrees)
    # Few sizes, so that few shapes are compiled.
    return slots, int(-(-degrees.max() // 8) * 8)
