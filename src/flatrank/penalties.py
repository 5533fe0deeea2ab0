"""The inductive biases that a solve can ask for."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._checks import positive_integer
from ._words import PenaltyWord
from .flatness import fitting, flatten, trace_of_hessian
from .network import DeepLinear


class AbstractPenalty(eqx.Module):
    """A function of the layers, least over all networks of a matrix at its induced regulariser."""

    @abstractmethod
    def __call__(self, network: Any, A: Any) -> Float[Array, ""]:
        """The penalty of the layers, a scalar."""

    @abstractmethod
    def settle(self, network: Any, A: Any) -> DeepLinear:
        """The network of the same matrix with the smallest penalty."""

    @abstractmethod
    def degree(self, depth: int) -> float:
        """The d for which scaling the matrix by t scales the penalty by t^d."""


class Flatness(AbstractPenalty):
    """The trace of the Hessian of the loss: near 2 L (m n)^{1/L} ||M||_*^{2(L-1)/L} under RIP."""

    def __call__(self, network: Any, A: Any) -> Float[Array, ""]:
        """tr H, see `flatrank.trace_of_hessian`."""
        return trace_of_hessian(network, A)

    def settle(self, network: Any, A: Any) -> DeepLinear:
        """The flattest layers, see `flatrank.flatten`."""
        return flatten(network, A)

    def degree(self, depth: int) -> float:
        """2 (L - 1) / L: each term of the trace leaves one layer out."""
        depth = positive_integer(depth, "depth")
        return 2 * (depth - 1) / depth


class WeightDecay(AbstractPenalty):
    """sum_j ||W_j||_F^2, which induces L ||M||_{S_{2/L}}^{2/L}, the Schatten-2/L quasi-norm."""

    def __call__(self, network: Any, A: Any) -> Float[Array, ""]:
        """The sum of squares of all layers."""
        network, _ = fitting(network, A)
        return jnp.sum(jnp.stack([jnp.sum(layer**2) for layer in network.layers]))

    def settle(self, network: Any, A: Any) -> DeepLinear:
        """The balanced layers."""
        network, _ = fitting(network, A)
        u, s, vt = network.svd()
        return DeepLinear.from_svd(u, s, vt, network.depth, network.width)

    def degree(self, depth: int) -> float:
        """2 / L."""
        return 2 / positive_integer(depth, "depth")


PENALTIES: dict[str, type[AbstractPenalty]] = {
    PenaltyWord.flatness.value: Flatness,
    PenaltyWord.weight_decay.value: WeightDecay,
}


def as_penalty(value: Any, name: str = "penalty") -> AbstractPenalty:
    """A penalty, given as such, by its word or by its class; or TypeError / ValueError in a sentence."""
    if isinstance(value, AbstractPenalty):
        return value
    if isinstance(value, str):
        if value in PENALTIES:
            return PENALTIES[value]()
        raise ValueError(f"`{name}` is {value!r}; known are {', '.join(map(repr, PENALTIES))}.")
    if isinstance(value, type) and value in PENALTIES.values():
        return value()
    raise TypeError(
        f"`{name}` is {value!r}: pass Flatness() or WeightDecay(), or their words, "
        f"{' or '.join(map(repr, PENALTIES))}."
    )
