"""The loss and the trace of its Hessian, exact at every point (docs/mathematics.md)."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import as_real
from ..measurements import AbstractMeasurements, as_measurements
from ..network import DeepLinear, as_network


def fitting(network: Any, A: Any) -> tuple[DeepLinear, AbstractMeasurements]:
    """A network and measurements of its matrix, from all that may stand for them.

    `network` is a DeepLinear or what holds one (a `Solution`), `A` measurements or an array of shape
    (N, m, n). Raises TypeError for anything else, ValueError unless the network's matrix has the shape
    that A measures.
    """
    network, A = as_network(network), as_measurements(A)
    if network.shape != A.shape:
        raise ValueError(
            f"`network` has an end-to-end matrix of shape {network.shape} and `A` measures "
            f"matrices of shape {A.shape}: build the network with shape={A.shape}."
        )
    return network, A


def check_values(y: Any, A: AbstractMeasurements, name: str = "y") -> Float[Array, " N"]:
    """The measured values as a finite real array of shape (N,), or an error naming `y`."""
    y = as_real(y, name, 1)
    if y.shape[0] != A.count:
        raise ValueError(
            f"`{name}` has {y.shape[0]} values and `A` has {A.count} measurements: pass one value each."
        )
    return y


def loss(network: Any, A: Any, y: Any) -> Float[Array, ""]:
    """The mean square (1/N) sum_i (<A_i, W> - y_i)^2, without a factor 1/2.

    `network` may be a `Solution`, and `A` an array of shape (N, m, n), here and wherever a network and
    measurements are asked for. Raises TypeError or ValueError if they do not fit.
    """
    network, A = fitting(network, A)
    y = check_values(y, A)
    return A.mean_square_residual(network, y)


def layer_traces(network: Any, A: Any) -> Float[Array, " L"]:
    """The trace of each layer's diagonal block of the Hessian of `loss`, shape (L,), W_1 first.

    2 <P_j P_j^T, K(Q_j^T Q_j)>, P_j the product of the layers above and Q_j of those below. The
    residual is linear in each layer, so that this holds at every point, and y does not enter.

    Raises ValueError if the shapes do not fit.
    """
    network, A = fitting(network, A)
    return 2 * A.second_moment_forms(network.uppers(), network.lowers())


def trace_of_hessian(network: Any, A: Any) -> Float[Array, ""]:
    """The trace of the Hessian of `loss` with respect to all layers, exact at every point.

    Differentiable; the sum of `layer_traces`. Raises ValueError if the shapes do not fit.

    >>> import jax
    >>> import flatrank as fr
    >>> A = fr.IsotropicMeasurements((4, 3))
    >>> network = fr.DeepLinear.balanced(2 * jax.numpy.eye(4, 3), depth=2)
    >>> round(float(fr.trace_of_hessian(network, A)), 3)
    84.0
    >>> round(float(fr.trace_of_hessian(fr.flatten(network, A), A)), 3)  # 4 sqrt(m n) ||W||_*
    83.138
    """
    return jnp.sum(layer_traces(network, A))
