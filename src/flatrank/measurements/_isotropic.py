"""The population limit of Gaussian sensing: every entry is seen, all directions count alike."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._checks import as_shape
from ._base import AbstractMeasurements
from ._rank_one import RankOneMeasurements


class IsotropicMeasurements(AbstractMeasurements):
    """All m n entries, scaled by sqrt(m n), so that (1/N) ||A(X)||^2 = ||X||_F^2."""

    _shape: tuple[int, int] = eqx.field(static=True)

    def __init__(self, shape: Any):
        self._shape = as_shape(shape)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the measured matrix."""
        return self._shape

    @property
    def count(self) -> int:
        """The number N = m n of measurements."""
        return self.shape[0] * self.shape[1]

    def _apply(self, matrix: Float[Array, "m n"]) -> Float[Array, " N"]:
        """The entries of the matrix, row by row, times sqrt(m n)."""
        return self.count**0.5 * matrix.reshape(-1)

    def _adjoint(self, values: Float[Array, " N"]) -> Float[Array, "m n"]:
        """The values laid out as a matrix, times sqrt(m n)."""
        return self.count**0.5 * values.reshape(self.shape)

    def _second_moment(self, S: Float[Array, "n n"]) -> Float[Array, "m m"]:
        """K(S) = tr(S) I."""
        return jnp.trace(S) * jnp.eye(self.shape[0], dtype=S.dtype)

    def _second_moment_adjoint(self, T: Float[Array, "m m"]) -> Float[Array, "n n"]:
        """K*(T) = tr(T) I."""
        return jnp.trace(T) * jnp.eye(self.shape[1], dtype=T.dtype)

    def second_moment_forms(
        self, lefts: tuple[Array | None, ...], rights: tuple[Array | None, ...]
    ) -> Float[Array, " L"]:
        """||P||_F^2 ||Q||_F^2, one per pair."""
        m, n = (float(size) for size in self.shape)
        left = jnp.stack([jnp.asarray(m if P is None else jnp.sum(P**2)) for P in lefts])
        right = jnp.stack([jnp.asarray(n if Q is None else jnp.sum(Q**2)) for Q in rights])
        return left * right

    def second_moment_gram(
        self, P: Float[Array, "m p"], Q: Float[Array, "q n"] | None
    ) -> Float[Array, "p p"]:
        """||Q||_F^2 P^T P."""
        return (self.shape[1] if Q is None else jnp.sum(Q**2)) * (P.T @ P)

    def second_moment_adjoint_gram(
        self, Q: Float[Array, "q n"], P: Float[Array, "m p"] | None
    ) -> Float[Array, "q q"]:
        """||P||_F^2 Q Q^T."""
        return (self.shape[0] if P is None else jnp.sum(P**2)) * (Q @ Q.T)

    def mean_square_norm(self) -> Float[Array, ""]:
        """m n: each of the m n matrices has squared norm m n."""
        return jnp.asarray(float(self.count))

    def _part(self, chosen: Int[Array, " K"]) -> RankOneMeasurements:
        """The measurements with the given indices, as outer products of scaled unit vectors."""
        m, n = self.shape
        scale = self.count**0.25
        rows, columns = jnp.divmod(chosen, n)
        return RankOneMeasurements(
            scale * jax.nn.one_hot(rows, m, dtype=float),
            scale * jax.nn.one_hot(columns, n, dtype=float),
        )
