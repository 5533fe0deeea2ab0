"""The answer: which entries of a matrix of its rank the measurements determine."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool

from ..._checks import as_index, require_memory
from ...measurements import AbstractMeasurements
from ._tangent import negligible

# A line of the matrix is zero up to this part of the largest. An observed zero is the product of two
# lines of which either may be zero, so that no entry of such a line is called determined.
_ZERO = 1e-9

# Larger tables are not counted for a message, and so many lines are named in it.
_COUNTED, _NAMED = 10_000_000, 5


class Determinacy(eqx.Enumeration):
    """Whether the measurements determine a matrix of its rank; the members are sentences."""

    yes = (
        "The measurements determine the matrix: locally it is the only one of its rank that meets "
        "them, and they confirm it: it does not hang on any single one of them."
    )
    partly = (
        "A part of the matrix is not determined: it can move without a change of the rank or of "
        "anything that was measured."
    )
    one_of_several = (
        "Locally the matrix is the only one of its rank that meets the measurements, but nothing "
        "confirms a part of it: another matrix of the rank may meet them as well."
    )
    undecided = "Whether the measurements determine the matrix was not decided."


def _named(name: str, lines: np.ndarray) -> str:
    if len(lines) > _NAMED:
        return f"{len(lines)} {name}s ({', '.join(map(str, lines[:_NAMED]))}, ...)"
    return f"{name}{'s' * (len(lines) > 1)} {', '.join(map(str, lines))}"


class Move(NamedTuple):
    """Moves U B^T + A V^T: `U` (m, k) and `V` (n, k) orthonormal, `A` (d, m, k), `B` (d, n, k)."""

    U: Any
    V: Any
    A: Any
    B: Any


class Determined(eqx.Module):
    """Which entries of a matrix of its rank the measurements determine.

    An entry is determined if no move of the matrix that keeps its rank and its measurements moves it.
    That is tested at the matrix found, with random moves: it decides with probability one, says that
    the matrix is locally the only one, and is no proof. An entry that a measurement supports that
    nothing else confirms is not called determined.

    * `status`: a member of `Determinacy`: `yes`, `partly`, `one_of_several` or `undecided`.
    * `move`: random moves that no measurement sees, zero where everything is determined. One of them
      leaves an entry that is free nearly where it is by chance, in one of 1e6 cases; two do not.
    * `measurements`: those that were asked; None where nothing is known, and under `jit` and `vmap`.
    """

    status: Determinacy
    move: Move
    measurements: AbstractMeasurements | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the matrix."""
        return self.move.A.shape[1], self.move.B.shape[1]

    def entries(self, rows: Any, columns: Any) -> Bool[np.ndarray, " N"]:
        """Whether each of N entries is determined, by its row and column; all False if undecided.

        Raises TypeError or ValueError for what are no indices of this matrix. Not for use under `jit`.
        """
        m, n = self.shape
        i, j = np.asarray(as_index(rows, "rows", m)), np.asarray(as_index(columns, "columns", n))
        if len(i) != len(j):
            raise ValueError(
                f"`rows` and `columns` have lengths {len(i)} and {len(j)}: pass a pair for each entry."
            )
        return self._still(i, j, lambda a, b: np.einsum("ek,ek->e", a[i], b[j]))

    def table(self) -> Bool[np.ndarray, "m n"]:
        """Whether each entry is determined, as a matrix; all False if undecided.

        Raises MemoryError where it would not fit. Not for use under `jit`.
        """
        m, n = self.shape
        require_memory(
            20 * m * n, f"a table of {m} x {n} entries", "ask `entries` for some of them"
        )
        return self._still(np.arange(m)[:, None], np.arange(n)[None], lambda a, b: a @ b.T)

    def _still(self, i: np.ndarray, j: np.ndarray, product: Callable) -> np.ndarray:
        """Whether entries stay where they are; `product` gives those of a matrix in two factors."""
        if self.status in (Determinacy.yes, Determinacy.undecided):
            return np.full(np.broadcast_shapes(i.shape, j.shape), self.status == Determinacy.yes)
        U, V, A, B = (np.asarray(part, float) for part in self.move)
        # Moves of entries that are free are of the order of what a random move does.
        still = negligible(self.move.A.dtype)
        own, other = np.linalg.norm(U, axis=1), np.linalg.norm(V, axis=1)
        moves = (np.abs(product(U, b) + product(a, V)) for a, b in zip(A, B, strict=True))
        zero = (own <= _ZERO * own.max())[i] | (other <= _ZERO * other.max())[j]
        return (np.max(list(moves), axis=0) <= still * np.hypot(own[i], other[j])) & ~zero

    @property
    def rows(self) -> Bool[np.ndarray, " m"]:
        """Whether each row is in the block of rows and columns that is determined throughout.

        The block is what is left when the line with the largest part of free entries is taken away,
        again and again: an invented row costs that row, and no column.
        """
        return self._block(~self.table())[0]

    @property
    def columns(self) -> Bool[np.ndarray, " n"]:
        """Whether each column is in the block of rows and columns that is determined throughout."""
        return self._block(~self.table())[1]

    def summary(self) -> str:
        """How many entries are free, and which lines they are in, in a sentence; empty if none is."""
        m, n = self.shape
        if self.status in (Determinacy.yes, Determinacy.undecided) or m * n > _COUNTED:
            return ""
        free = ~self.table()
        kept = self._block(free)
        lines = [
            _named(name, np.flatnonzero(~line))
            for name, line in zip(("row", "column"), kept, strict=True)
            if not line.all()
        ]
        if not all(line.any() for line in kept):
            lines = []  # no block is determined throughout
        where = f", in {' and '.join(lines)}" if lines else ""
        return f"Not determined: {free.sum():,} of {m * n:,} entries{where}."

    def _block(self, free: Bool[np.ndarray, "m n"]) -> tuple[np.ndarray, np.ndarray]:
        if self.status == Determinacy.undecided:
            return np.zeros(len(free), bool), np.zeros(free.shape[1], bool)
        kept = np.ones(len(free), bool), np.ones(free.shape[1], bool)
        counts = free.sum(1), free.sum(0)
        while counts[0].any():
            parts = [counts[0] / max(kept[1].sum(), 1), counts[1] / max(kept[0].sum(), 1)]
            axis = int(parts[1].max() > parts[0].max())
            line = int(parts[axis].argmax())
            kept[axis][line] = False
            counts[axis][line] = 0
            gone = free[line] if axis == 0 else free[:, line]
            counts[1 - axis][kept[1 - axis] & gone] -= 1
        return kept


def nothing_known(m: int, n: int) -> Determined:
    """That it was not decided."""
    lines = [jax.device_put(np.zeros(shape)) for shape in ((m, 0), (n, 0), (0, m, 0), (0, n, 0))]
    status: Any = Determinacy.undecided
    return Determined(status, Move(*lines))
