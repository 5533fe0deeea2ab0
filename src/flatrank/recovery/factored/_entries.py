"""Missing entries on the host: compressed rows and columns, loops in machine code.

A line costs what it holds. Sums do not depend on the number of threads: the parts that threads take are
cut by the entries alone.
"""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from ..._threads import cores, share
from ...measurements import EntryMeasurements
from .._machine import HOST, Machine
from ._base import AbstractFactored, Derivative, NormalEquations

# A part has about this many entries: fewer are not worth waking another thread for.
_PART = 100_000
# Every part has an array for sums over the other axis; so many are cheap beside the entries.
_MOST_PARTS = 8
# What is added to the diagonal of a scaled Gram matrix: what sums of each type can tell from zero. A
# line with fewer entries than the rank has directions that none of them sees, in which an inverse
# multiplies the rounding of inner solves by 1/slack: 1e-12 spoils the matrix, 1e-6 costs no iterations.
_SLACK = {np.float64: 1e-12, np.float32: 1e-6}


class _Lines(NamedTuple):
    """Entries line by line along one axis, and the parts in which threads take them."""

    first: Int[np.ndarray, " lines1"]
    others: Int[np.ndarray, " N"]
    places: Int[np.ndarray, " N"]  # where each is among residuals, which are by rows
    parts: list[tuple[int, int]]  # lines, begin to end

    def __len__(self) -> int:
        return len(self.first) - 1


class HostEntries(AbstractFactored):
    """Missing entries; residuals are in the order of rows."""

    rows: _Lines
    columns: _Lines
    order: Int[np.ndarray, " N"]
    power: float
    shape: tuple[int, int]
    pool: Executor | None

    def __init__(self, A: EntryMeasurements):
        self.shape = A.shape
        self.power = A.count / (A.shape[0] * A.shape[1])
        by_rows = scipy.sparse.coo_array(
            (np.arange(A.count), (np.asarray(A.rows), np.asarray(A.columns))), self.shape
        ).tocsr()
        self.order = by_rows.data.copy()
        places = by_rows.data = np.arange(A.count)
        self.rows, self.columns = _lines(by_rows, places), _lines(by_rows.tocsc(), None)
        helpers = min(cores(), len(self.rows.parts)) - 1
        self.pool = ThreadPoolExecutor(helpers) if helpers > 0 else None

    @property
    def machine(self) -> Machine:
        """NumPy and machine code."""
        return HOST

    def arranged(self, y: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """The values by rows."""
        return np.asarray(y, float)[self.order]

    def apply(self, Z: np.ndarray) -> np.ndarray:
        """The entries of P Q^T by rows."""
        m, _ = self.shape
        return self._add_products(np.zeros(len(self.order)), Z[:m], Z[m:])

    def linearized(self, Z: np.ndarray) -> Derivative:
        """The derivative at Z."""
        m, _ = self.shape

        def product(step: np.ndarray) -> np.ndarray:
            found = self._add_products(np.zeros(len(self.order)), step[:m], Z[m:])
            return self._add_products(found, Z[:m], step[m:])

        def transpose(residual: np.ndarray) -> np.ndarray:
            times, times_transposed = self.adjoint(residual)
            return np.concatenate([times(Z[m:]), times_transposed(Z[:m])])

        return Derivative(product, transpose)

    def adjoint(self, residual: np.ndarray) -> Derivative:
        """The sparse matrix of the residual, and its transpose."""
        from ._entry_kernels import weighted_sums

        def sums(lines: _Lines, other: np.ndarray) -> np.ndarray:
            other = np.ascontiguousarray(other)
            found = np.empty((len(lines), other.shape[1]))
            self._share(
                lambda part: weighted_sums(part, lines[:3], residual, other, found), lines.parts
            )
            return found

        return Derivative(lambda V: sums(self.rows, V), lambda U: sums(self.columns, U))

    def square_norms(self, U: np.ndarray, V: np.ndarray) -> np.ndarray:
        """The sum of squares of u_i v_i^T over the observed entries."""
        from ._entry_kernels import sums_of_squares

        return sums_of_squares(self.rows[:2], np.ascontiguousarray(U), np.ascontiguousarray(V))

    def inverse_blocks(self, Z: np.ndarray, ridge: np.ndarray) -> np.ndarray:
        """From the Gram matrix of the other side's rows that each line meets."""
        return self._inverse_grams(Z, ridge, Z.shape[1], np.float64)

    def _inverse_grams(
        self, Z: np.ndarray, ridge: np.ndarray, width: int, dtype: Any
    ) -> np.ndarray:
        from ._entry_kernels import inverse_grams

        m, n = self.shape
        P, Q = np.ascontiguousarray(Z[:m]), np.ascontiguousarray(Z[m:])
        found = np.zeros((m + n, width, width), dtype)
        for lines, other, blocks in ((self.rows, Q, found[:m]), (self.columns, P, found[m:])):
            self._share(
                lambda part: inverse_grams(part, lines[:2], other, ridge, _SLACK[dtype], blocks),  # noqa: B023
                lines.parts,
            )
        return found

    def normal_equations(
        self, Z: np.ndarray, J: Derivative, ridge: np.ndarray, *, blocks: bool
    ) -> NormalEquations:
        """In float32, columns padded to whole registers: the inner solves ask for two digits."""
        from ._entry_kernels import LANES, add_normal, block_products

        m, n = self.shape
        k = Z.shape[1]
        width = -(-k // LANES) * LANES

        def padded(factor: np.ndarray) -> np.ndarray:
            wide = np.zeros((len(factor), width), np.float32)
            wide[:, :k] = factor
            return wide

        thin, wide_ridge = padded(Z), padded(ridge[None])[0]
        P, seen = thin[:m], np.zeros((n, 2 * width), np.float32)
        seen[:, :width] = thin[m:]
        parts = self.rows.parts
        sums = np.zeros((len(parts), n, width), np.float32)
        numbered = list(enumerate(parts))

        def normal(step: np.ndarray) -> np.ndarray:
            seen[:, width:] = step[m:]
            sums[:] = 0
            found = np.empty_like(step)
            own = found[:m]

            def work(numbered_part: tuple) -> None:
                number, part = numbered_part
                add_normal(part, self.rows[:2], (P, step[:m], seen), own, sums[number])

            self._share(work, numbered)
            found[m:] = sums[0] if len(parts) == 1 else sums.sum(axis=0)
            found += wide_ridge * step
            return found

        if blocks:
            inverses = self._inverse_grams(Z, ridge, width, np.float32)

            def precondition(residual: np.ndarray) -> np.ndarray:
                found = np.empty_like(residual)
                block_products((0, m + n), inverses, residual, found)
                return found

        else:
            columns = np.sum(Z * Z, axis=0)
            inverse = padded((1 / (self.power * columns / 2 + ridge))[None])
            precondition = lambda residual: inverse * residual  # noqa: E731

        size = 1.0

        def enter(right: np.ndarray) -> np.ndarray:
            nonlocal size
            size = float(np.linalg.norm(right)) or 1.0
            return padded(right / size)

        return NormalEquations(
            enter, normal, precondition, lambda step: step[:, :k].astype(float) * size
        )

    def _add_products(self, found: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
        from ._entry_kernels import add_inner_products

        own, other = np.ascontiguousarray(own), np.ascontiguousarray(other)
        self._share(
            lambda part: add_inner_products(part, self.rows[:2], own, other, found),
            self.rows.parts,
        )
        return found

    def _share(self, work: Callable[[Any], None], parts: list) -> None:
        if self.pool is None:
            for part in parts:
                work(part)
        else:
            share(work, parts, self.pool, min(cores(), len(parts)) - 1)


def _lines(matrix: Any, places: np.ndarray | None) -> _Lines:
    """Compressed lines; `places` are the matrix's values if not given."""
    first = matrix.indptr.astype(np.int64)
    count = max(1, min(_MOST_PARTS, int(first[-1]) // _PART))
    cuts = np.unique(np.searchsorted(first, np.linspace(0, first[-1], count + 1)))
    cuts[-1] = len(first) - 1
    return _Lines(
        first,
        matrix.indices.astype(np.int32),
        (matrix.data if places is None else places).astype(np.int32),
        list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)),
    )
