"""The spectrum of the Hessian of the loss, from exact products with it."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import matfree.decomp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import positive_integer, require_memory
from ..measurements import AbstractMeasurements
from ..network import DeepLinear
from .trace import check_fit, check_values, loss

_RESTARTS = 50
# Up to this many parameters the whole Hessian is decomposed: exact, and no slower.
_DENSE_SIZE = 400


class Eigenpairs(NamedTuple):
    """The largest eigenvalues (k,), their unit eigenvectors as networks with a leading axis k, and
    the residuals ||H v - value v|| (k,), which bound each value's distance from the spectrum."""

    values: Array
    vectors: DeepLinear
    residuals: Array


class SpectralDensity(eqx.Module):
    """Gauss quadratures of the eigenvalue density, one for each random probe (Lanczos).

    `nodes` and `weights` have shape (probes, points); each probe's weights add up to 1. Estimates
    from them are unbiased for polynomials of degree below 2 * points; their error is the scatter
    between probes, which every method returns beside its mean.
    """

    nodes: Float[Array, "probes points"]
    weights: Float[Array, "probes points"]

    def mean_of(self, function: Callable[[Array], Array]) -> tuple[Array, Array]:
        """The mean of function(eigenvalue) over all eigenvalues, and its standard error."""
        values = jnp.sum(self.weights * function(self.nodes), axis=1)
        return _mean_and_error(values)

    def smoothed(self, grid: Float[Array, " g"], width: float) -> tuple[Array, Array]:
        """The density convolved with a Gaussian of the given width, and its standard error, (g,)."""
        distance = (grid[None, None] - self.nodes[..., None]) / width
        kernel = jnp.exp(-0.5 * distance**2) / (width * (2 * jnp.pi) ** 0.5)
        return _mean_and_error(jnp.sum(self.weights[..., None] * kernel, axis=1))


def hessian_operator(
    network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
) -> lx.FunctionLinearOperator:
    """The Hessian of `loss` as a lineax operator on networks: products, no matrix.

    One product costs about two gradients (forward over reverse). Raises ValueError if the shapes
    do not fit.
    """
    check_fit(network, A)
    y = check_values(y, A)
    _, product = jax.linearize(jax.grad(lambda network: loss(network, A, y)), network)
    return lx.FunctionLinearOperator(
        product, jax.eval_shape(lambda: network), tags=lx.symmetric_tag
    )


def dense_hessian(
    network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
) -> Float[Array, "p p"]:
    """The whole Hessian of `loss`, layers flattened W_1 first, shape (p, p).

    Raises MemoryError before allocating what would not fit.
    """
    check_fit(network, A)
    flat, restore = ravel_pytree(network)
    require_memory(
        3 * flat.size**2 * flat.dtype.itemsize,
        f"The Hessian of {flat.size} parameters",
        "use `hessian_operator`, `largest_eigenvalues` or `spectral_density`",
    )
    y = check_values(y, A)
    return jax.hessian(lambda x: loss(restore(x), A, y))(flat)


def largest_eigenvalues(
    network: DeepLinear,
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    count: int = 1,
    *,
    key: PRNGKeyArray | None = None,
    tolerance: float | None = None,
) -> Eigenpairs:
    """The largest (most positive) eigenvalues of the Hessian of `loss`, largest first.

    Exact up to 400 parameters. Beyond, Lanczos with full reorthogonalisation, restarted until the
    residuals of all of them are at most `tolerance` times the largest value (default: the square
    root of machine epsilon), 50 times at most; `residuals` tells what was reached. It finds
    eigenvalues that coincide exactly once. Raises ValueError for a count above the parameters.
    """
    operator = hessian_operator(network, A, y)
    flat, restore = ravel_pytree(network)
    if positive_integer(count, "count") > flat.size:
        raise ValueError(f"`count` is {count} and the network has {flat.size} parameters.")
    if flat.size <= _DENSE_SIZE:
        values, vectors = jnp.linalg.eigh(dense_hessian(network, A, y))
        largest = jax.vmap(restore)(vectors[:, ::-1][:, :count].T)
        error = flat.size * jnp.finfo(flat.dtype).eps * jnp.max(jnp.abs(values))
        return Eigenpairs(values[::-1][:count], largest, jnp.full(count, error))
    points = min(flat.size, 4 * count + 30)
    if tolerance is None:
        tolerance = float(jnp.finfo(flat.dtype).eps) ** 0.5
    tridiagonal = matfree.decomp.tridiag_sym(points, reortho="full", materialize=True)
    eps = jnp.finfo(flat.dtype).eps

    def product(x: Array) -> Array:
        return ravel_pytree(operator.mv(restore(x)))[0]

    def lanczos(carry: tuple) -> tuple:
        best, start, key, runs = carry
        # matfree mixes ranks and integer types, which callers may have forbidden.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            decomposition = tridiagonal(product, start)
        nodes, ritz = jnp.linalg.eigh(decomposition.J_small)
        # When the Krylov space ends early, what follows is decoupled from the start and means nothing.
        nodes = jnp.where(ritz[0] ** 2 > eps, nodes, -jnp.inf)
        order = jnp.argsort(-nodes)[:count]
        vectors = ritz[:, order].T @ decomposition.Q_tall
        vectors = vectors / jnp.linalg.norm(vectors, axis=1)[:, None]
        values = jnp.where(jnp.isfinite(nodes[order]), nodes[order], 0.0)
        residuals = jnp.linalg.norm(jax.vmap(product)(vectors) - values[:, None] * vectors, axis=1)
        residuals = jnp.where(jnp.isfinite(nodes[order]), residuals, jnp.inf)
        found = (values, vectors, residuals)
        better = jnp.max(residuals) < jnp.max(best[2])
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, best)
        # A little noise keeps the next Krylov space from ending early where this one did.
        key, noise_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, flat.shape, flat.dtype)
        start = jnp.sum(best[1], axis=0) + 0.1 * noise / jnp.linalg.norm(noise)
        return best, start / jnp.linalg.norm(start), key, runs + 1

    def unfinished(carry: tuple) -> Array:
        (values, _, residuals), _, _, runs = carry
        return (runs < _RESTARTS) & ~(jnp.max(residuals) <= tolerance * jnp.max(jnp.abs(values)))

    key, start_key = jax.random.split(jax.random.key(0) if key is None else key)
    start = jax.random.normal(start_key, flat.shape, flat.dtype)
    nothing = (
        jnp.zeros(count, flat.dtype),
        jnp.zeros((count, flat.size), flat.dtype),
        jnp.full(count, jnp.inf, flat.dtype),
    )
    carry = (nothing, start / jnp.linalg.norm(start), key, jnp.asarray(0))
    (values, vectors, residuals), *_ = jax.lax.while_loop(unfinished, lanczos, carry)
    return Eigenpairs(values, jax.vmap(restore)(vectors), residuals)


def largest_eigenvalue(
    network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
) -> Float[Array, ""]:
    """The largest eigenvalue of the Hessian of `loss`; see `largest_eigenvalues` for its error."""
    return largest_eigenvalues(network, A, y).values[0]


def spectral_density(
    network: DeepLinear,
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    *,
    key: PRNGKeyArray,
    probes: int = 16,
    points: int = 40,
) -> SpectralDensity:
    """The eigenvalue density of the Hessian of `loss`, by stochastic Lanczos quadrature.

    `probes` random sign vectors, `points` Lanczos steps each. An estimate, which carries its standard
    error; what is exact (`trace_of_hessian`) should not be read from it. Raises ValueError for fewer
    than two probes, which have no scatter.
    """
    if positive_integer(probes, "probes") < 2:
        raise ValueError("`probes` is 1: at least two are needed for a standard error.")
    operator = hessian_operator(network, A, y)
    flat, restore = ravel_pytree(network)
    points = min(positive_integer(points, "points"), flat.size)
    tridiagonal = matfree.decomp.tridiag_sym(points, reortho="full", materialize=True)

    def product(x: Array) -> Array:
        return ravel_pytree(operator.mv(restore(x)))[0]

    def quadrature(key: Array) -> tuple[Array, Array]:
        probe = jax.random.rademacher(key, flat.shape, flat.dtype)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            T = tridiagonal(product, probe / flat.size**0.5).J_small
        nodes, vectors = jnp.linalg.eigh(T)
        return nodes, vectors[0] ** 2

    return SpectralDensity(*jax.lax.map(quadrature, jax.random.split(key, probes)))


def _mean_and_error(values: Float[Array, "probes ..."]) -> tuple[Array, Array]:
    return jnp.mean(values, axis=0), jnp.std(values, axis=0, ddof=1) / len(values) ** 0.5
