"""The standard error of each entry of a matrix that was fitted to noisy measurements."""

from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ..._checks import as_index, require_memory
from ...measurements import AbstractMeasurements, EntryMeasurements
from .._low_rank_matrix import LowRankMatrix
from ..factored import factored, machine_for
from ._determined import Determinacy, Determined
from ._tangent import TangentSpace

# Up to so many numbers in the factors the normal matrix is inverted, in place: 0.75 GiB, half a minute
# on two cores. Beyond, every entry takes a solve by conjugate gradients, 0.1 s at that size; a whole
# matrix would take hours.
_DENSE = 10_000
# Moves that nothing measures have no inverse: this part of the mean diagonal is added to it. Entries
# that are determined are orthogonal to them.
_RIDGE = 1e-10
_INNER_STEPS = 2000


def standard_errors(
    determined: Determined, noise: float, rows: Any = None, columns: Any = None
) -> Float[np.ndarray, "..."]:
    """The standard errors of entries, (N,) for indices, and (m, n) without.

    noise^2 t^T (J^T J)^+ t is the variance of an entry with tangent t, where J is the derivative of the
    measurements along matrices of the rank: the estimate of least squares to first order in the noise.
    Infinite where the entry is not determined, NaN where its solve did not settle.

    Raises ValueError where the matrix is undecided, and MemoryError for a whole matrix whose factors
    have more than 10,000 numbers.
    """
    m, n = determined.shape
    A = determined.measurements
    if A is None or determined.status == Determinacy.undecided:
        raise ValueError(
            "The solution's `determined` is undecided, so that nothing is known of its errors: see "
            "`solution.message`; under `jit` and `vmap`, recover outside."
        )
    U, V, *_ = (np.asarray(part, float) for part in determined.move)
    rank = U.shape[1]
    unknowns = (m + n) * rank
    dense = unknowns <= _DENSE
    whole = rows is None and columns is None
    if whole:
        if not dense:
            raise MemoryError(
                f"Standard errors of a whole {m} x {n} matrix of rank {rank} need the inverse of a "
                f"matrix with {unknowns:,} rows, which is formed up to {_DENSE:,}: pass `rows` and "
                "`columns`, the entries that you want."
            )
        i, j = (index.ravel() for index in np.indices((m, n)))
        known = determined.table().ravel()
    else:
        i, j = np.asarray(as_index(rows, "rows", m)), np.asarray(as_index(columns, "columns", n))
        known = determined.entries(rows, columns)
    F = factored(A, rank, machine_for(A), U.dtype)
    xp = F.machine.xp
    X = LowRankMatrix(*(xp.asarray(part) for part in (U, np.ones(rank), V)))
    space = TangentSpace(F, X, _INNER_STEPS)
    errors = np.full(len(i), np.inf)
    if dense and not _few(int(known.sum()), A, unknowns, rank):
        require_memory(
            12 * unknowns**2 + 40 * len(i),
            "The inverse of the normal matrix",
            "ask for less at once",
        )
        normal = _entry_normal(A, U, V) if isinstance(A, EntryMeasurements) else _normal(space)
        _invert(normal)
        errors[known] = _by_inverse(normal, U, V, i[known], j[known])
    else:
        pairs = zip(i[known], j[known], strict=True)
        errors[known] = [_by_solve(space, U, V, int(row), int(column)) for row, column in pairs]
    return noise * (errors.reshape(m, n) if whole else errors)


def _few(count: int, A: AbstractMeasurements, unknowns: int, rank: int) -> bool:
    """Whether solves for so many entries, of about 100 steps each, are cheaper than the inverse."""
    if isinstance(A, EntryMeasurements):
        # 8 N k operations a step, which take 25 times as long as those of LAPACK.
        return 100 * 8 * 25 * count * A.count * rank < unknowns**3
    return 2 * 100 * count < unknowns  # products with A or its transpose


def _entry_normal(A: EntryMeasurements, U: np.ndarray, V: np.ndarray) -> np.ndarray:
    """J^T J of entries, unknowns line by line."""
    (m, n), k = A.shape, U.shape[1]
    seen = np.zeros((m, n))
    seen[np.asarray(A.rows), np.asarray(A.columns)] = 1.0
    normal = np.zeros((m + n, k, m + n, k))
    for start, lines, other in ((0, seen, V), (m, seen.T, U)):
        squares = (other[:, :, None] * other[:, None, :]).reshape(-1, k * k)
        at = start + np.arange(len(lines))
        normal[at, :, at, :] = (lines @ squares).reshape(-1, k, k)
    # Row i moves by v_j and column j by u_i where the entry is seen.
    for a in range(k):
        for b in range(k):
            normal[:m, a, m:, b] = seen * U[:, b, None] * V[None, :, a]
    normal[m:, :, :m, :] = normal[:m, :, m:, :].transpose(2, 3, 0, 1)
    return normal.reshape((m + n) * k, -1)


def _normal(space: TangentSpace) -> np.ndarray:
    """J^T J of any ensemble, from its products with every unknown."""
    Z = space.orthonormal
    product = space.F.linearized(Z).product
    J = np.empty((Z.size, np.asarray(product(Z)).size))
    for unknown in range(Z.size):
        unit = np.zeros(Z.size)
        unit[unknown] = 1.0
        J[unknown] = np.asarray(product(space.F.machine.xp.asarray(unit.reshape(Z.shape)))).ravel()
    return J @ J.T


def _invert(normal: np.ndarray) -> None:
    """Put the inverse into the upper triangle of a symmetric matrix; the lower one is spoilt."""
    np.einsum("ii->i", normal)[:] += _RIDGE * np.trace(normal) / len(normal)
    # LAPACK works in place on columns: the lower triangle of the transpose is the upper one.
    factor, _ = scipy.linalg.lapack.dpotrf(normal.T, lower=1, overwrite_a=1)
    scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)


def _by_inverse(
    inverse: np.ndarray, U: np.ndarray, V: np.ndarray, i: np.ndarray, j: np.ndarray
) -> np.ndarray:
    """From the upper triangle of the inverse."""
    m, k = U.shape
    blocks = inverse.reshape(m + len(V), k, m + len(V), k)
    lines = np.arange(m + len(V))
    own = blocks[lines, :, lines, :]
    own = np.triu(own) + np.triu(own, 1).transpose(0, 2, 1)
    found = np.empty(len(i))
    for start in range(0, len(i), 10_000):
        at = slice(start, start + 10_000)
        row, column, u, v = i[at], m + j[at], U[i[at]], V[j[at]]
        found[at] = np.einsum("ea,eab,eb->e", v, own[row], v)
        found[at] += np.einsum("ea,eab,eb->e", u, own[column], u)
        found[at] += 2 * np.einsum("ea,eab,eb->e", v, blocks[row, :, column, :], u)
    return np.sqrt(np.maximum(found, 0))


def _by_solve(space: TangentSpace, U: np.ndarray, V: np.ndarray, i: int, j: int) -> float:
    tangent = np.zeros((len(U) + len(V), U.shape[1]))
    tangent[i], tangent[len(U) + j] = V[j], U[i]
    found = space.F.machine.run(space.inverse, space.F.machine.xp.asarray(tangent))
    # A solve that did not settle would say less than the error is.
    return (
        float(np.sqrt(max(np.vdot(tangent, np.asarray(found.tangent)), 0)))
        if found.settled
        else np.nan
    )
