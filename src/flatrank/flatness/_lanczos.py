"""Lanczos on a symmetric product: its largest eigenpairs, and its eigenvalue density."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import as_floating, as_function, as_positive

Product = Callable[[Array], Array]

_RESTARTS = 50


class SpectralDensity(eqx.Module):
    """Gauss quadratures of the eigenvalue density, one for each random probe (Lanczos).

    `nodes` and `weights` have shape (probes, points); each probe's weights add up to 1. Estimates
    from them are unbiased for polynomials of degree below 2 * points; their error is the scatter
    between probes, which every method returns beside its mean.
    """

    nodes: Float[Array, "probes points"]
    weights: Float[Array, "probes points"]

    def mean_of(self, function: Any) -> tuple[Array, Array]:
        """The mean of function(eigenvalue) over all eigenvalues, and its standard error."""
        as_function(function, "function", "of an array of eigenvalues")
        return mean_and_error(jnp.sum(self.weights * function(self.nodes), axis=1))

    def smoothed(self, grid: Any, width: Any) -> tuple[Array, Array]:
        """The density convolved with a Gaussian of the given width, and its standard error, (g,).

        `grid` (g,) are eigenvalues at which it is wanted.
        """
        grid = as_floating(grid, "grid", 1)
        width = as_positive(width, "width", "pass the standard deviation of the Gaussian")
        distance = (grid[None, None] - self.nodes[..., None]) / width
        kernel = jnp.exp(-0.5 * distance**2) / (width * (2 * jnp.pi) ** 0.5)
        return mean_and_error(jnp.sum(self.weights[..., None] * kernel, axis=1))


def mean_and_error(values: Float[Array, "probes ..."]) -> tuple[Array, Array]:
    """The mean over the leading axis and its standard error."""
    return jnp.mean(values, axis=0), jnp.std(values, axis=0, ddof=1) / len(values) ** 0.5


def _tridiagonal(points: int) -> Callable[..., Any]:
    """Lanczos with full reorthogonalisation: product, start -> an object with `J_small`, `Q_tall`."""
    from matfree.decomp import tridiag_sym

    return tridiag_sym(points, reortho="full", materialize=True)


def quadratures(
    product: Product, like: Float[Array, " p"], key: PRNGKeyArray, probes: int, points: int
) -> SpectralDensity:
    """Stochastic Lanczos quadrature: one probe after the other, points vectors of memory."""
    tridiagonal = _tridiagonal(points)

    def quadrature(key: Array) -> tuple[Array, Array]:
        probe = jax.random.rademacher(key, like.shape, like.dtype)
        # matfree mixes ranks and integer types, which callers may have forbidden.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            T = tridiagonal(product, probe / like.size**0.5).J_small
        nodes, vectors = jnp.linalg.eigh(T)
        return nodes, vectors[0] ** 2

    return SpectralDensity(*jax.lax.map(quadrature, jax.random.split(key, probes)))


def largest_pairs(
    product: Product, like: Float[Array, " p"], key: PRNGKeyArray, count: int, tolerance: float
) -> tuple[Float[Array, " k"], Float[Array, "k p"], Float[Array, " k"]]:
    """The largest eigenvalues, their unit eigenvectors and their residuals ||H v - value v||.

    Restarted from the sum of the vectors found until all residuals are at most `tolerance` times the
    largest value in modulus, 50 times at most. Eigenvalues that coincide exactly are found once.
    """
    points = min(like.size, 4 * count + 30)
    tridiagonal = _tridiagonal(points)
    eps = jnp.finfo(like.dtype).eps

    def lanczos(carry: tuple) -> tuple:
        best, start, runs = carry
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
        # A little noise keeps the next Krylov space from ending early where this one did. It is not
        # drawn anew: XLA on a CPU may hang on loops that do not depend on each other (decision 3).
        start = jnp.sum(best[1], axis=0) + 0.1 * jnp.roll(noise, runs)
        return best, start / jnp.linalg.norm(start), runs + 1

    def unfinished(carry: tuple) -> Array:
        (values, _, residuals), _, runs = carry
        return (runs < _RESTARTS) & ~(jnp.max(residuals) <= tolerance * jnp.max(jnp.abs(values)))

    noise = jax.random.normal(key, like.shape, like.dtype)
    noise = noise / jnp.linalg.norm(noise)
    nothing = (
        jnp.zeros(count, like.dtype),
        jnp.zeros((count, like.size), like.dtype),
        jnp.full(count, jnp.inf, like.dtype),
    )
    carry = (nothing, noise, jnp.asarray(0))
    return jax.lax.while_loop(unfinished, lanczos, carry)[0]
