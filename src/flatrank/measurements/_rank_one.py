"""Rank-one measurements y_i = x_i^T M z_i."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._checks import as_real, not_empty, rows_of
from ._base import AbstractMeasurements, Network


class RankOneMeasurements(AbstractMeasurements):
    """Measurements y_i = x_i^T M z_i, that is A_i = x_i z_i^T.

    `left` holds the x_i, shape (N, m); `right` the z_i, shape (N, n). Nothing of size m n or N m n
    is formed, but by `adjoint`, whose result has that size.

    Raises TypeError or ValueError for arrays that are not real, finite, two-dimensional and of
    equal length.
    """

    left: Float[Array, "N m"]
    right: Float[Array, "N n"]

    def __init__(self, left: Any, right: Any):
        self.left = as_real(left, "left", 2)
        self.right = as_real(right, "right", 2)
        if len(self.left) != len(self.right) or len(self.left) == 0:
            raise ValueError(
                f"`left` has {len(self.left)} rows and `right` has {len(self.right)}: "
                "pass one row of each per measurement, and at least one measurement."
            )
        not_empty(self.left, "left")
        not_empty(self.right, "right")

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the measured matrix."""
        return self.left.shape[1], self.right.shape[1]

    @property
    def count(self) -> int:
        """The number N of measurements."""
        return self.left.shape[0]

    def _apply(self, matrix: Float[Array, "m n"]) -> Float[Array, " N"]:
        """x_i^T M z_i, shape (N,)."""
        return jnp.sum((self.left @ matrix) * self.right, axis=1)

    def apply_network(self, network: Network) -> Float[Array, " N"]:
        """x_i^T W z_i through the narrowest layer, shape (N,)."""
        left, right = network.factors()
        return jnp.sum((self.left @ left) * (self.right @ right.T), axis=1)

    def _adjoint(self, values: Float[Array, " N"]) -> Float[Array, "m n"]:
        """sum_i values_i x_i z_i^T, shape (m, n)."""
        return (self.left * values[:, None]).T @ self.right

    def _second_moment(self, S: Float[Array, "n n"]) -> Float[Array, "m m"]:
        """(1/N) sum_i (z_i^T S z_i) x_i x_i^T."""
        weights = jnp.sum((self.right @ S) * self.right, axis=1) / self.count
        return (self.left * weights[:, None]).T @ self.left

    def _second_moment_adjoint(self, T: Float[Array, "m m"]) -> Float[Array, "n n"]:
        """(1/N) sum_i (x_i^T T x_i) z_i z_i^T."""
        weights = jnp.sum((self.left @ T) * self.left, axis=1) / self.count
        return (self.right * weights[:, None]).T @ self.right

    def second_moment_forms(
        self, lefts: tuple[Array | None, ...], rights: tuple[Array | None, ...]
    ) -> Float[Array, " L"]:
        """(1/N) sum_i ||P^T x_i||^2 ||Q z_i||^2, one per pair."""
        return jnp.stack(
            [
                jnp.mean(_squared_rows(self.left, P) * _squared_rows(self.right, Q, transpose=True))
                for P, Q in zip(lefts, rights, strict=True)
            ]
        )

    def second_moment_gram(
        self, P: Float[Array, "m p"], Q: Float[Array, "q n"] | None
    ) -> Float[Array, "p p"]:
        """(1/N) sum_i ||Q z_i||^2 (P^T x_i) (P^T x_i)^T."""
        seen = self.left @ P
        return (seen * _squared_rows(self.right, Q, transpose=True)[:, None]).T @ seen / self.count

    def second_moment_adjoint_gram(
        self, Q: Float[Array, "q n"], P: Float[Array, "m p"] | None
    ) -> Float[Array, "q q"]:
        """(1/N) sum_i ||P^T x_i||^2 (Q z_i) (Q z_i)^T."""
        seen = self.right @ Q.T
        return (seen * _squared_rows(self.left, P)[:, None]).T @ seen / self.count

    def mean_square_norm(self) -> Float[Array, ""]:
        """(1/N) sum_i ||x_i||^2 ||z_i||^2."""
        return self.second_moment_forms((None,), (None,))[0]

    def _part(self, chosen: Int[Array, " K"]) -> "RankOneMeasurements":
        """The measurements with the given indices."""
        return RankOneMeasurements(rows_of(self.left, chosen), rows_of(self.right, chosen))


def _squared_rows(vectors: Array, factor: Array | None, transpose: bool = False) -> jax.Array:
    if factor is not None:
        vectors = vectors @ (factor.T if transpose else factor)
    return jnp.sum(vectors**2, axis=1)
