"""The interpolator of least nuclear norm, with a lower bound that proves how close it is."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from .._checks import as_positive, positive_integer
from ..flatness import check_values
from ..measurements import AbstractMeasurements, EntryMeasurements, as_measurements


@dataclass(frozen=True)
class NuclearMinimum:
    """An interpolator (m, n), its nuclear norm, and a number that no interpolator's norm is below."""

    matrix: np.ndarray
    nuclear_norm: float
    lower_bound: float

    @property
    def gap(self) -> float:
        """How far above the bound, relative to the norm."""
        return 1 - self.lower_bound / self.nuclear_norm


def nuclear_minimum(
    A: Any,
    y: Any,
    *,
    tolerance: Any = 1e-4,
    max_steps: int = 3000,
) -> NuclearMinimum:
    """min ||M||_* subject to A(M) = y, by alternating directions on the matrix itself, in float64.

    Independent of networks, and convex. X <- the singular values of Z - U reduced by t, Z <- the
    interpolator nearest to X + U, U <- U + X - Z. U stays in the range of A*, so that G = -U / t gives
    the bound <G, Z> / ||G||_2 by duality in every step (Z interpolates). Ends at a relative gap of
    `tolerance`, or after `max_steps`: the gap says which.
    """
    A = as_measurements(A)
    check_values(y, A)
    tolerance = as_positive(tolerance, "tolerance", "pass for example 1e-4", zero=True)
    max_steps = positive_integer(max_steps, "max_steps")
    y = np.asarray(y)
    project = _projection(A, y if y.dtype.kind == "f" else y.astype(float))
    Z = project(np.zeros(A.shape))
    U = np.zeros(A.shape)
    if not Z.any():
        return NuclearMinimum(Z, 0.0, 0.0)
    t = 0.1 * float(np.linalg.norm(Z, 2))
    best = NuclearMinimum(Z, float(np.linalg.norm(Z, "nuc")), 0.0)
    for step in range(max_steps):
        u, s, vt = np.linalg.svd(Z - U, full_matrices=False)
        X = (u * np.maximum(s - t, 0.0)) @ vt
        Z = project(X + U)
        U = U + X - Z
        if step % 20 == 19:
            norm = float(np.linalg.norm(Z, "nuc"))
            size = float(np.linalg.norm(U, 2))
            bound = max(best.lower_bound, float(-np.vdot(U, Z)) / size if size else 0.0)
            kept = best.nuclear_norm <= norm
            best = NuclearMinimum(best.matrix if kept else Z, min(norm, best.nuclear_norm), bound)
            if best.gap <= tolerance:
                break
    return best


def _projection(A: AbstractMeasurements, y: np.ndarray):  # type: ignore[no-untyped-def]
    """M -> the interpolator nearest to M."""
    if isinstance(A, EntryMeasurements):
        rows, columns = np.asarray(A.rows), np.asarray(A.columns)

        def kept(M: np.ndarray) -> np.ndarray:
            M = M.copy()
            M[rows, columns] = y
            return M

        return kept
    units = jnp.eye(A.count, dtype=y.dtype)
    explicit = np.asarray(jax.vmap(A.adjoint)(units), np.float64)
    explicit = explicit.reshape(A.count, -1)
    try:
        factor = scipy.linalg.cho_factor(explicit @ explicit.T)
    except scipy.linalg.LinAlgError:
        raise ValueError(
            "`A` has linearly dependent measurements, which values may contradict: remove those that "
            "follow from others."
        ) from None

    def nearest(M: np.ndarray) -> np.ndarray:
        left = scipy.linalg.cho_solve(factor, y - explicit @ M.ravel())
        return M + (explicit.T @ left).reshape(A.shape)

    return nearest
