"""The flattest layers of a given end-to-end matrix, by matrix geometric means."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import as_floating, found, natural_number
from ..measurements import IsotropicMeasurements
from ..network import DeepLinear, as_network
from ._trace import fitting, trace_of_hessian


def flatten(network: Any, A: Any, max_sweeps: int = 100) -> DeepLinear:
    """The network of the same matrix and the same widths with the smallest trace of the Hessian.

    Replacing W_j by S W_j and W_{j+1} by W_{j+1} S^{-1} changes two terms of the trace, to
    tr(S^{-T} X S^{-1}) + tr(S Y S^T), whose minimum is 2 ||X^{1/2} Y^{1/2}||_*. Sweeps over j
    never raise the trace and end at its infimum (docs/mathematics.md, "Flattening"). They start
    from the balanced network, in which hidden directions that carry no signal are zero. Where the
    second moment is singular (rows without entries, one measurement) the infimum may not be attained;
    then the network returned comes close to it (a relative 1e-5 in float64).

    `network` may be a `Solution`, whose network is flattened. Raises TypeError or ValueError for
    arguments that do not fit.

    >>> import jax
    >>> import flatrank as fr
    >>> A = fr.IsotropicMeasurements((4, 3))
    >>> network = fr.DeepLinear.gaussian(jax.random.key(0), (4, 3), depth=3)
    >>> flat = fr.flatten(network, A)
    >>> bool(jax.numpy.allclose(flat.matrix(), network.matrix(), atol=1e-5))
    True
    >>> bool(fr.trace_of_hessian(flat, A) < fr.trace_of_hessian(network, A))
    True
    """
    network, A = fitting(network, A)
    max_sweeps = natural_number(max_sweeps, "max_sweeps")
    eps = float(jnp.finfo(network.layers[0].dtype).eps)
    isotropic = IsotropicMeasurements(A.shape)
    # A trace of isotropic measurements keeps every direction's weight positive. It moves a regular
    # minimiser by its size and the minimum by its square only.
    share = eps**0.75 * (A.mean_square_norm() / isotropic.mean_square_norm())
    share = share.astype(network.layers[0].dtype)

    def objective(network: DeepLinear) -> Array:
        return trace_of_hessian(network, A) + share * trace_of_hessian(network, isotropic)

    def in_best_basis(network: DeepLinear, j: int) -> DeepLinear:
        uppers, lowers = network.uppers(), network.lowers()
        P, Q = uppers[j], lowers[j + 1]
        assert P is not None
        assert Q is not None
        below, above = lowers[j], uppers[j + 1]
        X = A.second_moment_gram(P, below) + share * isotropic.second_moment_gram(P, below)
        Y = A.second_moment_adjoint_gram(Q, above)
        Y = Y + share * isotropic.second_moment_adjoint_gram(Q, above)
        return change_basis(network, j, X, Y)

    def sweep(state: tuple) -> tuple:
        network, now, _, sweeps = state
        for j in range(network.depth - 1):
            network = in_best_basis(network, j)
        return network, objective(network), now, sweeps + 1

    def falling(state: tuple) -> Array:
        _, now, before, sweeps = state
        return (sweeps < max_sweeps) & (now < before * (1 - 4 * eps))

    balanced = _balanced_like(network)
    start = objective(balanced)
    initial = (balanced, start, jnp.full_like(start, jnp.inf), 0)
    return jax.lax.while_loop(falling, sweep, initial)[0]


def _balanced_like(network: DeepLinear) -> DeepLinear:
    """The balanced network of the same matrix, padded with zeros to the same widths."""
    u, s, vt = network.svd()
    s = jnp.where(s > max(network.shape) * jnp.finfo(s.dtype).eps * s[0], s, 0.0)
    layers = DeepLinear.from_svd(u, s, vt, network.depth).layers
    return DeepLinear(
        tuple(
            jnp.pad(
                layer,
                [(0, want - have) for want, have in zip(like.shape, layer.shape, strict=True)],
            )
            for layer, like in zip(layers, network.layers, strict=True)
        )
    )


def change_basis(network: Any, j: int, X: Any, Y: Any) -> DeepLinear:
    """Layers j and j + 1 as S W_j and W_{j+1} S^{-1}, least in tr(S^{-T} X S^{-1}) + tr(S Y S^T).

    j counts from 0; X and Y are positive semidefinite, as large as the hidden layer between the two.
    """
    network = as_network(network)
    if isinstance(j, bool) or not isinstance(j, int) or not 0 <= j < network.depth - 1:
        raise ValueError(
            f"`j` must be an integer from 0 to {network.depth - 2}, the lower one of two layers of "
            f"`network`, found {found(j)}."
        )
    X, Y = as_floating(X, "X", 2), as_floating(Y, "Y", 2)
    width = network.layers[j].shape[0]
    if X.shape != (width, width) or Y.shape != (width, width):
        raise ValueError(
            f"`X` and `Y` have shapes {X.shape} and {Y.shape}: pass matrices ({width}, {width}), as "
            f"wide as layer {j} is."
        )
    change, inverse = _square_root_balancing(X, Y)
    lower, upper = network.layers[j], network.layers[j + 1]
    # Where X or Y gives no weight to a direction that carries signal, nothing is changed.
    dropped = jnp.eye(len(X), dtype=X.dtype) - inverse @ change
    lost = jnp.linalg.norm(upper @ dropped) * jnp.linalg.norm(dropped @ lower)
    all_of_it = jnp.linalg.norm(upper) * jnp.linalg.norm(lower)
    kept = lost <= 1e3 * jnp.finfo(X.dtype).eps * all_of_it
    layers = list(network.layers)
    layers[j] = jnp.where(kept, change @ lower, lower)
    layers[j + 1] = jnp.where(kept, upper @ inverse, upper)
    return DeepLinear(tuple(layers))


def _square_root_balancing(
    X: Float[Array, "k k"], Y: Float[Array, "k k"]
) -> tuple[Float[Array, "k k"], Float[Array, "k k"]]:
    """S and S^{-1} with S^{-T} X S^{-1} = S Y S^T, both diagonal.

    S^T S is the geometric mean of X and Y^{-1}, found as in balanced truncation (Laub et al. 1987)
    from the singular values of X^{1/2} Y^{1/2}: no product is squared and nothing is inverted.
    Directions without weight in X or in Y are set to zero in both.
    """
    root_x, root_y = _roots(jnp.stack([X, Y]))
    u, s, vt = jnp.linalg.svd(root_x.T @ root_y)
    alive = s > len(s) * jnp.finfo(s.dtype).eps * s[0]
    scale = jnp.where(alive, jnp.where(alive, s, 1.0) ** -0.5, 0.0)
    return scale[:, None] * (root_x @ u).T, (root_y @ vt.T) * scale[None]


def _roots(matrices: Float[Array, "2 k k"]) -> Float[Array, "2 k k"]:
    """R with R R^T the given positive semidefinite matrix, of two in one batch (decision 3)."""
    values, vectors = jnp.linalg.eigh(0.5 * (matrices + matrices.mT))
    return vectors * jnp.sqrt(jnp.maximum(values, 0.0))[:, None]
