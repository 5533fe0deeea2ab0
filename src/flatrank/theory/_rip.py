"""The restricted isometry constant: searched from below with a witness, bounded from above."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import as_key, between_0_and_1, positive_integer
from .._order import after
from ..measurements import AbstractMeasurements, as_measurements

# Upper bounds decompose a matrix of m n rows, up to this many.
_DENSE_SIZE = 1024


class RIPConstant(NamedTuple):
    """What is known of the least delta with (1 - delta) <= (1/N) ||A(X)||^2 <= (1 + delta).

    X runs over all matrices of the given rank and unit Frobenius norm. `lower` is what `witness`
    (m, n) attains; `upper` is proved (NaN where it is not computed); `largest` and `smallest` are the
    extremes of (1/N) ||A(X)||^2 that were found.
    """

    lower: Array
    witness: Array
    upper: Array
    largest: Array
    smallest: Array


def rip_constant(
    A: Any,
    rank: int,
    *,
    key: Any = None,
    starts: int = 32,
    steps: int = 300,
) -> RIPConstant:
    """The restricted isometry constant of (1/N) ||A(X)||^2 at a rank: a lower and an upper bound.

    *Below*: power steps X <- the best unit matrix of the rank for (1/N) A*A X (largest), and for
    c X - (1/N) A*A X (smallest, c the largest eigenvalue of (1/N) A*A), from `starts` random matrices
    on the device. Each step is the maximum of a linear minorant: values never fall.

    *Above*, up to m n = 1024: the spectrum of (1/N) A*A, which is exact at rank min(m, n); at rank one
    also the spectrum of its average with its partial transpose, and the largest singular value of
    the moment tensor minus that of isotropic measurements (docs/theory/isometry.md; derived here).

    Raises ValueError for a rank above min(m, n), or counts below one.

    >>> import jax
    >>> import flatrank as fr
    >>> A = fr.gaussian_measurements(jax.random.key(0), 200, (5, 4))
    >>> found = fr.theory.rip_constant(A, 1)
    >>> bool(found.lower <= found.upper)
    True
    """
    A = as_measurements(A)
    m, n = A.shape
    if positive_integer(rank, "rank") > min(m, n):
        raise ValueError(f"`rank` must be at most min(m, n) = {min(m, n)}, found {rank}.")
    starts, steps = positive_integer(starts, "starts"), positive_integer(steps, "steps")
    key = jax.random.key(0) if key is None else as_key(key)
    if m * n > _DENSE_SIZE:
        top, bottom = _search(A, rank, key, starts, steps)
        nothing = jnp.full_like(top[0], jnp.nan)
        return _assemble(top, bottom, nothing)
    if rank == min(m, n):
        return _exact(A)
    top, bottom = _search(A, rank, key, starts, steps)
    return _assemble(top, bottom, _upper_bound(A, rank))


def _assemble(top: tuple[Array, Array], bottom: tuple[Array, Array], upper: Array) -> RIPConstant:
    largest, smallest = top[0], bottom[0]
    witness = jnp.where(largest - 1 >= 1 - smallest, top[1], bottom[1])
    return RIPConstant(jnp.maximum(largest - 1, 1 - smallest), witness, upper, largest, smallest)


def _normal_map(A: AbstractMeasurements, X: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """(1/N) A*A X."""
    return A.adjoint(A.apply(X)) / A.count


@eqx.filter_jit
def _search(
    A: AbstractMeasurements, rank: int, key: PRNGKeyArray, starts: int, steps: int
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The largest and the smallest value found, each with its matrix."""
    at_start = jax.random.normal(key, (starts, *A.shape))

    def unit(X: Array) -> Array:
        return X / jnp.linalg.norm(X)

    def best_of_rank(X: Array) -> Array:
        u, s, vt = jnp.linalg.svd(X, full_matrices=False)
        return unit((u[:, :rank] * s[None, :rank]) @ vt[:rank])

    def value(X: Array) -> Array:
        return jnp.mean(A.apply(X) ** 2)

    def repeat(step, X: Array) -> Array:  # type: ignore[no-untyped-def]
        return jax.lax.scan(lambda X, _: (step(X), None), X, length=steps)[0]

    def power(X: Array) -> Array:
        return unit(_normal_map(A, X))

    shift = value(repeat(power, unit(at_start[0])))

    def up(X: Array) -> Array:
        return best_of_rank(_normal_map(A, X))

    def down(X: Array) -> Array:
        return best_of_rank(shift * X - _normal_map(A, X))

    begin = jax.vmap(best_of_rank)(at_start)
    high = jax.vmap(lambda X: repeat(up, X))(begin)
    low = jax.vmap(lambda X: repeat(down, X))(after(high, begin))
    highs, lows = jax.vmap(value)(high), jax.vmap(value)(low)
    i, j = jnp.argmax(highs), jnp.argmin(lows)
    return (highs[i], high[i]), (lows[j], low[j])


def _normal_matrix(A: AbstractMeasurements) -> Float[Array, "mn mn"]:
    m, n = A.shape
    units = jnp.eye(m * n).reshape(-1, m, n)
    matrix = jax.vmap(lambda X: _normal_map(A, X).reshape(-1))(units)
    return 0.5 * (matrix + matrix.T)


@eqx.filter_jit
def _exact(A: AbstractMeasurements) -> RIPConstant:
    """Rank min(m, n): the spectrum of (1/N) A*A."""
    values, vectors = jnp.linalg.eigh(_normal_matrix(A))
    top = (values[-1], vectors[:, -1].reshape(A.shape))
    bottom = (values[0], vectors[:, 0].reshape(A.shape))
    found = _assemble(top, bottom, values[0])
    return found._replace(upper=found.lower)


@eqx.filter_jit
def _upper_bound(A: AbstractMeasurements, rank: int) -> Float[Array, ""]:
    m, n = A.shape
    form = _normal_matrix(A)
    values = jnp.linalg.eigvalsh(form)
    largest, smallest = values[-1], values[0]
    if rank > 1:
        return jnp.maximum(largest - 1, 1 - smallest)
    # On X = x z^T the form depends on its part that is symmetric in x x^T alone, which is the mean
    # with the partial transpose.
    tensor = form.reshape(m, n, m, n)
    symmetric = 0.5 * (tensor + jnp.transpose(tensor, (2, 1, 0, 3)))
    values = jnp.linalg.eigvalsh(symmetric.reshape(m * n, m * n))
    largest, smallest = jnp.minimum(largest, values[-1]), jnp.maximum(smallest, values[0])
    by_spectrum = jnp.maximum(largest - 1, 1 - smallest)
    moments = jnp.transpose(symmetric, (0, 2, 1, 3)).reshape(m * m, n * n)
    isotropic = jnp.outer(jnp.eye(m).reshape(-1), jnp.eye(n).reshape(-1))
    return jnp.minimum(by_spectrum, jnp.linalg.norm(moments - isotropic, 2))


def gaussian_rip_prediction(m: int, n: int, N: int, r: int, confidence: Any = 0.95) -> float:
    """A delta that N Gaussian measurements of m x n matrices meet at rank r, with this confidence.

    With w = min(sqrt(r) (sqrt(m) + sqrt(n)), sqrt(m n)), which bounds the Gaussian width of the unit
    matrices of rank r, and t = sqrt(2 log(2 / (1 - confidence))), Gordon's comparison (1988) gives
    N / sqrt(N + 1) - w - t <= ||A(X)|| <= sqrt(N) + w + t for all of them. Constants derived here
    (docs/theory/isometry.md).

    Raises ValueError for counts below one, a rank above min(m, n), a confidence outside (0, 1).
    """
    m, n, N = (positive_integer(v, name) for v, name in ((m, "m"), (n, "n"), (N, "N")))
    if positive_integer(r, "r") > min(m, n):
        raise ValueError(f"`r` must be at most min(m, n) = {min(m, n)}, found {r}.")
    confidence = between_0_and_1(confidence, "confidence")
    width = min(math.sqrt(r) * (math.sqrt(m) + math.sqrt(n)), math.sqrt(m * n))
    away = width + math.sqrt(2 * math.log(2 / (1 - confidence)))
    above = (1 + away / math.sqrt(N)) ** 2 - 1
    below = 1 - max(0.0, math.sqrt(N / (N + 1)) - away / math.sqrt(N)) ** 2
    return max(above, below)
