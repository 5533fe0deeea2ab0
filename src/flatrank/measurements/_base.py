"""The linear map from a matrix to its measurements, and its second moment."""

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._checks import (
    as_floating,
    as_index,
    as_positive_semidefinite,
    one_network,
    positive_integer,
)


@runtime_checkable
class Network(Protocol):
    """What a measurement needs to know about a network (see `flatrank.DeepLinear`)."""

    @property
    def layers(self) -> tuple[Array, ...]: ...

    def matrix(self) -> Array: ...

    def factors(self) -> tuple[Array, Array]: ...


class AbstractMeasurements(eqx.Module):
    """N linear measurements y_i = <A_i, M> of an m x n matrix M.

    The *second-moment map* K(S) = (1/N) sum_i A_i S A_i^T is all that flatness needs to know about
    an ensemble (docs/mathematics.md); each ensemble has its own fast form of it.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the measured matrix."""

    @property
    @abstractmethod
    def count(self) -> int:
        """The number N of measurements."""

    def apply(self, matrix: Any) -> Float[Array, " N"]:
        """The measurements <A_i, matrix>, shape (N,), of an array (m, n), a network or a `Solution`.

        Raises TypeError for what is no real matrix, ValueError for one of another shape.
        """
        network = getattr(matrix, "network", matrix)
        if isinstance(network, Network):
            matrix = one_network(network, "matrix").matrix()
        matrix = as_floating(matrix, "matrix", 2)
        if matrix.shape != self.shape:
            raise ValueError(
                f"`matrix` has shape {matrix.shape} and the measurements are of matrices of shape "
                f"{self.shape}: pass one of that shape."
            )
        return self._apply(matrix)

    @abstractmethod
    def _apply(self, matrix: Float[Array, "m n"]) -> Float[Array, " N"]:
        """The measurements of a matrix that is not checked."""

    def apply_network(self, network: Network) -> Float[Array, " N"]:
        """The measurements of the network's end-to-end matrix, shape (N,)."""
        return self.apply(network.matrix())

    def mean_square_residual(self, network: Network, y: Float[Array, " N"]) -> Float[Array, ""]:
        """(1/N) sum_i (<A_i, W> - y_i)^2 for the network's end-to-end matrix W."""
        return jnp.mean((self.apply_network(network) - y) ** 2)

    def adjoint(self, values: Any) -> Float[Array, "m n"]:
        """The matrix sum_i values_i A_i, shape (m, n), of `values` (N,).

        Raises TypeError for what are no real numbers, ValueError for another number of them.
        """
        values = as_floating(values, "values", 1)
        if len(values) != self.count:
            raise ValueError(
                f"`values` has {len(values)} numbers and there are {self.count} measurements: pass one "
                "each."
            )
        return self._adjoint(values)

    @abstractmethod
    def _adjoint(self, values: Float[Array, " N"]) -> Float[Array, "m n"]:
        """The adjoint of values that are not checked."""

    def second_moment(self, S: Any) -> Float[Array, "m m"]:
        """K(S) = (1/N) sum_i A_i S A_i^T, S positive semidefinite (n, n); shape (m, m).

        Raises ValueError for an S of another shape, not symmetric or with a negative eigenvalue.
        """
        return self._second_moment(as_positive_semidefinite(S, "S", self.shape[1]))

    def second_moment_adjoint(self, T: Any) -> Float[Array, "n n"]:
        """K*(T) = (1/N) sum_i A_i^T T A_i, T positive semidefinite (m, m); shape (n, n).

        Raises ValueError for a T of another shape, not symmetric or with a negative eigenvalue.
        """
        return self._second_moment_adjoint(as_positive_semidefinite(T, "T", self.shape[0]))

    @abstractmethod
    def _second_moment(self, S: Float[Array, "n n"]) -> Float[Array, "m m"]:
        """K(S) for a symmetric S that is not checked."""

    @abstractmethod
    def _second_moment_adjoint(self, T: Float[Array, "m m"]) -> Float[Array, "n n"]:
        """K*(T) for a symmetric T that is not checked."""

    @abstractmethod
    def second_moment_forms(
        self, lefts: tuple[Array | None, ...], rights: tuple[Array | None, ...]
    ) -> Float[Array, " L"]:
        """The numbers <P P^T, K(Q^T Q)> = (1/N) sum_i ||P^T A_i Q^T||_F^2, one per pair, shape (L,).

        `lefts` holds the P (m, p), `rights` the Q (q, n); None stands for the identity, which no
        ensemble has to form.
        """

    def second_moment_gram(
        self, P: Float[Array, "m p"], Q: Float[Array, "q n"] | None
    ) -> Float[Array, "p p"]:
        """P^T K(Q^T Q) P, shape (p, p); Q None stands for the identity."""
        S = jnp.eye(self.shape[1], dtype=P.dtype) if Q is None else Q.T @ Q
        return P.T @ self._second_moment(S) @ P

    def second_moment_adjoint_gram(
        self, Q: Float[Array, "q n"], P: Float[Array, "m p"] | None
    ) -> Float[Array, "q q"]:
        """Q K*(P P^T) Q^T, shape (q, q); P None stands for the identity."""
        T = jnp.eye(self.shape[0], dtype=Q.dtype) if P is None else P @ P.T
        return Q @ self._second_moment_adjoint(T) @ Q.T

    @abstractmethod
    def mean_square_norm(self) -> Float[Array, ""]:
        """(1/N) sum_i ||A_i||_F^2, a scalar: m n times the ensemble's mean squared entry."""

    def prepared(
        self, depth: int | None = None, width: int | None = None, memory: int | None = None
    ) -> "AbstractMeasurements":
        """The same measurements with whatever makes repeated second moments fast computed once.

        `depth` and `width` of the networks to come tell what will be needed; None: any. No more than
        `memory` bytes are used for it, by default half of what is free.
        """
        for name, value in (("depth", depth), ("width", width), ("memory", memory)):
            if value is not None:
                positive_integer(value, name)
        return self._prepared(depth, width, memory)

    def _prepared(
        self, depth: int | None, width: int | None, memory: int | None
    ) -> "AbstractMeasurements":
        """The same measurements, prepared; nothing to prepare is the default."""
        return self

    def part(self, chosen: Any) -> "AbstractMeasurements":
        """The measurements with the given indices (K,), in that order.

        Raises TypeError for what are no integers, ValueError for none and for those out of range.
        """
        chosen = as_index(chosen, "chosen", self.count)
        if not len(chosen):
            raise ValueError("`chosen` is empty: pass at least one index.")
        return self._part(chosen)

    @abstractmethod
    def _part(self, chosen: Int[Array, " K"]) -> "AbstractMeasurements":
        """The measurements with indices that are not checked."""
