"""Dense, isotropic and rank-one measurements on the host, by BLAS."""

from typing import Any

import numpy as np

from ...measurements import DenseMeasurements, IsotropicMeasurements, RankOneMeasurements
from .._machine import HOST, Machine
from ._base import AbstractFactored, Derivative


class _OnHost(AbstractFactored):
    """What measurements on the host have in common: residuals are as the measurements are."""

    @property
    def machine(self) -> Machine:
        """NumPy."""
        return HOST

    def arranged(self, y: Any) -> np.ndarray:
        """The values as they are."""
        return np.asarray(y, float)


class HostMatrices(_OnHost):
    """Measurements <A_i, X> with A_i as the rows of a matrix, (N, m n)."""

    rows: np.ndarray
    power: float
    shape: tuple[int, int]

    def __init__(self, A: DenseMeasurements):
        self.shape = A.shape
        self.rows = np.asarray(A.matrices, float).reshape(A.count, -1)
        self.power = float(np.vdot(self.rows, self.rows)) / self.rows.shape[1]

    def _measured(self, matrix: np.ndarray) -> np.ndarray:
        return self.rows @ matrix.ravel()

    def _back(self, residual: np.ndarray) -> np.ndarray:
        return (residual @ self.rows).reshape(self.shape)

    def apply(self, Z: np.ndarray) -> np.ndarray:
        """A(P Q^T), which is formed."""
        m, _ = self.shape
        return self._measured(Z[:m] @ Z[m:].T)

    def linearized(self, Z: np.ndarray) -> Derivative:
        """The derivative at Z."""
        m, _ = self.shape
        P, Q = Z[:m], Z[m:]

        def transpose(residual: np.ndarray) -> np.ndarray:
            back = self._back(residual)
            return np.concatenate([back @ Q, back.T @ P])

        return Derivative(lambda step: self._measured(step[:m] @ Q.T + P @ step[m:].T), transpose)

    def adjoint(self, residual: np.ndarray) -> Derivative:
        """A*(residual), which is formed once, and its transpose."""
        back = self._back(residual)
        return Derivative(lambda V: back @ V, lambda U: back.T @ U)

    def square_norms(self, U: np.ndarray, V: np.ndarray) -> np.ndarray:
        """||A(u_i v_i^T)||^2, one after the other."""
        pairs = zip(U.T, V.T, strict=True)
        return np.array([np.sum(self._measured(np.outer(u, v)) ** 2) for u, v in pairs])


class HostIsotropic(HostMatrices):
    """All entries, times sqrt(m n)."""

    def __init__(self, A: IsotropicMeasurements):
        self.shape = A.shape
        self.rows = np.zeros((0, 0))
        self.power = float(A.count)

    def _measured(self, matrix: np.ndarray) -> np.ndarray:
        return self.power**0.5 * matrix.ravel()

    def _back(self, residual: np.ndarray) -> np.ndarray:
        return self.power**0.5 * residual.reshape(self.shape)


class HostRankOne(_OnHost):
    """Measurements x_i^T X z_i; no matrix is formed."""

    left: np.ndarray
    right: np.ndarray
    power: float
    shape: tuple[int, int]

    def __init__(self, A: RankOneMeasurements):
        self.shape = A.shape
        self.left, self.right = np.asarray(A.left, float), np.asarray(A.right, float)
        norms = np.sum(self.left**2, axis=1) * np.sum(self.right**2, axis=1)
        self.power = float(np.sum(norms)) / (A.shape[0] * A.shape[1])

    def apply(self, Z: np.ndarray) -> np.ndarray:
        """x_i^T P Q^T z_i."""
        m, _ = self.shape
        return _row_products(self.left @ Z[:m], self.right @ Z[m:])

    def linearized(self, Z: np.ndarray) -> Derivative:
        """The derivative at Z."""
        m, _ = self.shape
        left, right = self.left @ Z[:m], self.right @ Z[m:]

        def product(step: np.ndarray) -> np.ndarray:
            found = _row_products(self.left @ step[:m], right)
            return found + _row_products(left, self.right @ step[m:])

        def transpose(residual: np.ndarray) -> np.ndarray:
            weights = residual[:, None]
            return np.concatenate(
                [self.left.T @ (weights * right), self.right.T @ (weights * left)]
            )

        return Derivative(product, transpose)

    def adjoint(self, residual: np.ndarray) -> Derivative:
        """sum_i residual_i x_i z_i^T, and its transpose."""
        weights = residual[:, None]
        return Derivative(
            lambda V: self.left.T @ (weights * (self.right @ V)),
            lambda U: self.right.T @ (weights * (self.left @ U)),
        )

    def square_norms(self, U: np.ndarray, V: np.ndarray) -> np.ndarray:
        """sum_i (x_i^T u)^2 (z_i^T v)^2, for each pair of columns."""
        return np.sum((self.left @ U) ** 2 * (self.right @ V) ** 2, axis=0)


def _row_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ik,ik->i", a, b)
