"""The flattest layers of a given end-to-end matrix, by matrix geometric means."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..measurements import AbstractMeasurements
from ..network import DeepLinear
from .trace import check_fit, trace_of_hessian


def flatten(network: DeepLinear, A: AbstractMeasurements, max_sweeps: int = 100) -> DeepLinear:
    """The network of the same matrix and the same widths with the smallest trace of the Hessian.

    Replacing W_j by S W_j and W_{j+1} by W_{j+1} S^{-1} changes two terms of the trace, to
    tr(S^{-T} X S^{-1}) + tr(S Y S^T), whose minimum is 2 ||X^{1/2} Y^{1/2}||_*. Sweeps over j
    never raise the trace and end at its infimum (DESIGN.md, "Flattening"; Kempf-Ness). They start
    from the balanced network, in which hidden directions that carry no signal are zero.

    Raises ValueError if the shapes do not fit.

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
    check_fit(network, A)
    tolerance = 4 * float(jnp.finfo(network.layers[0].dtype).eps)

    def sweep(state: tuple) -> tuple:
        network, trace, _, sweeps = state
        for j in range(network.depth - 1):
            network = _balance(network, A, j)
        return network, trace_of_hessian(network, A), trace, sweeps + 1

    def falling(state: tuple) -> Array:
        _, trace, before, sweeps = state
        return (sweeps < max_sweeps) & (trace < before * (1 - tolerance))

    balanced = _balanced_like(network)
    start = trace_of_hessian(balanced, A)
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


def _balance(network: DeepLinear, A: AbstractMeasurements, j: int) -> DeepLinear:
    """Change the basis of the hidden layer above layer j (counted from 0) to the flattest."""
    uppers, lowers = network.uppers(), network.lowers()
    upper, lower = uppers[j], lowers[j + 1]
    assert upper is not None
    assert lower is not None
    X = A.second_moment_gram(upper, lowers[j])
    Y = A.second_moment_adjoint_gram(lower, uppers[j + 1])
    return change_basis(network, j, X, Y)


def change_basis(
    network: DeepLinear, j: int, X: Float[Array, "k k"], Y: Float[Array, "k k"]
) -> DeepLinear:
    """Layers j and j + 1 as S W_j and W_{j+1} S^{-1}, least in tr(S^{-T} X S^{-1}) + tr(S Y S^T)."""
    change, inverse = _square_root_balancing(X, Y)
    lower, upper = network.layers[j], network.layers[j + 1]
    # A singular second moment may drop a direction that carries signal: then nothing is changed.
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
    root_x, root_y = _root(X), _root(Y)
    u, s, vt = jnp.linalg.svd(root_x.T @ root_y)
    alive = s > len(s) * jnp.finfo(s.dtype).eps * s[0]
    scale = jnp.where(alive, jnp.where(alive, s, 1.0) ** -0.5, 0.0)
    return scale[:, None] * (root_x @ u).T, (root_y @ vt.T) * scale[None]


def _root(matrix: Array) -> Array:
    """R with R R^T the given positive semidefinite matrix."""
    values, vectors = jnp.linalg.eigh(0.5 * (matrix + matrix.T))
    return vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None]
