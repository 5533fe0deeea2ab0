"""Values to compare with, from the definition: automatic differentiation and brute force.

Nothing here uses the closed forms, the second-moment maps or the flattening of the rest of the library.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .._checks import as_real
from ..network import DeepLinear, as_network, held_network
from ._instances import as_layers, balanced_layers


def product(layers: tuple[Array, ...]) -> Array:
    """W_L ... W_1."""
    return functools.reduce(lambda below, layer: layer @ below, layers)


def explicit_loss(
    layers: tuple[Array, ...], matrices: Float[Array, "N m n"], y: Float[Array, " N"]
) -> Float[Array, ""]:
    """(1/N) sum_i (<A_i, W> - y_i)^2 from the matrices written out."""
    return jnp.mean((jnp.tensordot(matrices, product(layers), 2) - y) ** 2)


def hessian_trace(layers: Any, matrices: Any, y: Any) -> Float[Array, ""]:
    """The trace of `jax.hessian` of the loss with respect to all parameters.

    `layers` are matrices, W_1 first, or a network; `matrices` has shape (N, m, n). Raises TypeError or
    ValueError for what does not fit.
    """
    network = DeepLinear(layers) if held_network(layers) is None else as_network(layers, "layers")
    matrices, y = as_real(matrices, "matrices", 3), as_real(y, "y", 1)
    if matrices.shape != (len(y), *network.shape):
        raise ValueError(
            f"`matrices` has shape {matrices.shape}, `y` {y.shape} and the product of `layers` "
            f"{network.shape}: pass (N, m, n), (N,) and layers of an m x n matrix."
        )
    return _hessian_trace(network.layers, matrices, y)


@jax.jit
def _hessian_trace(
    layers: tuple[Array, ...], matrices: Float[Array, "N m n"], y: Float[Array, " N"]
) -> Float[Array, ""]:
    flat, restore = ravel_pytree(layers)
    return jnp.trace(jax.hessian(lambda x: explicit_loss(restore(x), matrices, y))(flat))


def trace_by_autodiff(layers: list[np.ndarray], matrices: np.ndarray, y: np.ndarray) -> float:
    """`hessian_trace` of NumPy arrays."""
    return float(_hessian_trace(as_layers(layers), jnp.asarray(matrices), jnp.asarray(y)))


def smallest_trace(matrices: np.ndarray, matrix: np.ndarray, depth: int, seed: int = 0) -> float:
    """min { tr H : W_L ... W_1 = matrix } by brute force over the changes of basis between layers."""
    return _smallest(_squared_jacobian, jnp.asarray(matrices), matrix, depth, seed)


def smallest_weight_decay(matrix: np.ndarray, depth: int, seed: int = 0) -> float:
    """min { sum_j ||W_j||_F^2 : W_L ... W_1 = matrix } by the same brute force."""
    return _smallest(_sum_of_squares, jnp.zeros(0), matrix, depth, seed)


def _squared_jacobian(layers: tuple[Array, ...], matrices: Array) -> Array:
    """(2/N) ||J||_F^2, J the Jacobian of the measurements: tr H at an interpolator."""
    jacobian = jax.jacrev(lambda layers: jnp.tensordot(matrices, product(layers), 2))(layers)
    total = sum(jnp.sum(block**2) for block in jax.tree.leaves(jacobian))
    return jnp.asarray(2.0 * total / len(matrices))


def _sum_of_squares(layers: tuple[Array, ...], _: Array) -> Array:
    return jnp.asarray(sum(jnp.sum(layer**2) for layer in layers))


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.value_and_grad, argnums=1)
def _in_other_bases(objective: Any, bases: Array, layers: tuple[Array, ...], data: Array) -> Array:
    """The objective after W_j -> S_j W_j and W_{j+1} -> W_{j+1} S_j^{-1}."""
    changed = list(layers)
    for j, S in enumerate(bases):
        changed[j] = S @ changed[j]
        changed[j + 1] = changed[j + 1] @ jnp.linalg.inv(S)
    return objective(tuple(changed), data)


def _smallest(objective: Any, data: Array, matrix: np.ndarray, depth: int, seed: int) -> float:
    layers = as_layers(balanced_layers(matrix, depth))
    from scipy.optimize import minimize

    width = min(matrix.shape)
    size = (depth - 1, width, width)
    identity = np.broadcast_to(np.eye(width), size)
    scale = float(_in_other_bases(objective, jnp.asarray(identity), layers, data)[0])

    def relative(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _in_other_bases(objective, jnp.asarray(x.reshape(size)), layers, data)
        return float(value) / scale, np.asarray(slope).ravel() / scale

    # The minimum over the group is global (Kempf-Ness); a second start guards the optimiser only.
    rng = np.random.default_rng(seed)
    starts = [(identity + 0.2 * rng.standard_normal(size)).ravel() for _ in range(2)]
    runs = [minimize(relative, start, jac=True, options={"gtol": 1e-9}) for start in starts]
    return scale * min(float(run.fun) for run in runs)


def flow_field(
    layers: tuple[Array, ...], matrices: Float[Array, "N m n"], y: Float[Array, " N"]
) -> tuple[Array, ...]:
    """Minus the gradient of the loss: the velocity of gradient flow."""
    return jax.tree.map(jnp.negative, jax.grad(explicit_loss)(layers, matrices, y))


def flow(
    layers: tuple[Array, ...],
    matrices: Float[Array, "N m n"],
    y: Float[Array, " N"],
    step: Array,
    steps: int,
) -> tuple[Array, ...]:
    """Gradient flow for a time steps * step, by the classical Runge-Kutta method of order 4."""

    def moved(at: Any, velocity: Any, time: Array) -> Any:
        return jax.tree.map(lambda x, v: x + time * v, at, velocity)

    def one(at: Any, _: None) -> tuple[Any, None]:
        a = flow_field(at, matrices, y)
        b = flow_field(moved(at, a, step / 2), matrices, y)
        c = flow_field(moved(at, b, step / 2), matrices, y)
        d = flow_field(moved(at, c, step), matrices, y)
        mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, a, b, c, d)
        return moved(at, mean, step), None

    return jax.lax.scan(one, layers, length=steps)[0]


def gram_differences(layers: tuple[Array, ...]) -> list[Array]:
    """W_{j+1}^T W_{j+1} - W_j W_j^T, j = 1..L-1: zero for balanced layers."""
    return [upper.T @ upper - lower @ lower.T for lower, upper in itertools.pairwise(layers)]
