"""Any ensemble under XLA, by automatic differentiation of `apply_network`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...measurements import AbstractMeasurements
from ...network import DeepLinear
from ._base import AbstractFactored, Derivative


class Factored(eqx.Module, AbstractFactored):
    """Any ensemble; residuals are as the measurements are."""

    A: AbstractMeasurements
    power: Any
    shape: tuple[int, int] = eqx.field(static=True)

    def arranged(self, y: Float[Array, " N"]) -> Array:
        """The values as they are."""
        return y

    def apply(self, Z: Array) -> Array:
        """A(P Q^T), shape (N,)."""
        return self._apply(Z[: self.shape[0]], Z[self.shape[0] :])

    def _apply(self, P: Array, Q: Array) -> Array:
        return self.A.apply_network(DeepLinear((Q.T, P)))

    def linearized(self, Z: Array) -> Derivative:
        """The derivative at Z."""
        _, product = jax.linearize(self.apply, Z)
        transpose = jax.linear_transpose(product, Z)
        return Derivative(product, lambda residual: transpose(residual)[0])

    def adjoint(self, residual: Array) -> Derivative:
        """The transposes of P -> A(P V^T) and of Q -> A(U Q^T)."""
        m, n = self.shape

        def times(V: Float[Array, "n k"]) -> Float[Array, "m k"]:
            like = jax.ShapeDtypeStruct((m, V.shape[1]), V.dtype)
            return jax.linear_transpose(lambda P: self._apply(P, V), like)(residual)[0]

        def times_transposed(U: Float[Array, "m k"]) -> Float[Array, "n k"]:
            like = jax.ShapeDtypeStruct((n, U.shape[1]), U.dtype)
            return jax.linear_transpose(lambda Q: self._apply(U, Q), like)(residual)[0]

        return Derivative(times, times_transposed)

    def square_norms(self, U: Float[Array, "m k"], V: Float[Array, "n k"]) -> Float[Array, " k"]:
        """||A(u_i v_i^T)||^2, one after the other."""
        return jax.lax.map(
            lambda uv: jnp.sum(self._apply(uv[0][:, None], uv[1][:, None]) ** 2), (U.T, V.T)
        )
