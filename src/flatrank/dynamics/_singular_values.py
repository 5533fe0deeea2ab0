"""How fast the singular values of a network move under gradient flow (Arora, Cohen, Hu, Luo 2019)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..flatness import check_values, fitting
from ..network import DeepLinear
from ._optimizers import mean_square


def singular_value_speeds(network: Any, A: Any, y: Any) -> Float[Array, " k"]:
    """d s_r / dt = -L (s_r^2)^{1 - 1/L} <grad loss(W), u_r v_r^T> of a balanced network, shape (k,).

    Largest s first, k the width. Exact under gradient flow while W_{j+1}^T W_{j+1} = W_j W_j^T and the
    s_r are distinct; flow keeps the balance, and a small start is nearly balanced. `network_speeds`
    needs neither.
    """
    network, A = fitting(network, A)
    y = check_values(y, A)
    u, s, vt = network.svd()
    left, right = network.factors()
    # <grad l(W), u v^T> is the derivative of the loss along u v^T, which is never formed.
    direction = lambda u_r, v_r: DeepLinear((v_r[None], u_r[:, None]))  # noqa: E731
    residual = 2 / A.count * (A.apply_network(DeepLinear((right, left))) - y)
    along = jax.vmap(lambda u_r, v_r: residual @ A.apply_network(direction(u_r, v_r)))(u.T, vt)
    return -network.depth * (s**2) ** (1 - 1 / network.depth) * along


def network_speeds(network: Any, A: Any, y: Any) -> Float[Array, " k"]:
    """d s_r / dt under gradient flow of all layers, by differentiation, for any network."""
    network, A = fitting(network, A)
    y = check_values(y, A)
    velocity = jax.tree.map(jnp.negative, jax.grad(mean_square)(network, A, y))
    return jax.jvp(lambda net: net.svd()[1], (network,), (velocity,))[1]
