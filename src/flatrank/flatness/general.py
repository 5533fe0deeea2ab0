"""Curvature of any JAX loss at any pytree: exact where it can be, otherwise estimated with its error.

Every function takes `loss, model, *data` with loss(model, *data) a real scalar. The parameters are the
floating-point arrays of the model, whatever holds them (equinox, flax, a plain dict). Functions are
compiled once for each loss: pass the same function object again, not a new lambda, to compile once.

The memory that a compiled function will need is known before it runs; when it exceeds `memory` (bytes,
by default half of what is free) MemoryError is raised instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._checks import (
    as_function,
    as_key,
    as_positive,
    is_traced,
    memory_budget,
    positive_integer,
    require_memory,
)
from ..network import DeepLinear
from . import _trace as trace
from ._lanczos import SpectralDensity, largest_pairs, mean_and_error, quadratures

Loss = Callable[..., Any]

# Up to this many parameters the whole Hessian is decomposed: exact, and no slower.
_DENSE_SIZE = 400


class Estimate(NamedTuple):
    """A value (or a pytree of values) and its standard error, which is zero where it is exact."""

    value: PyTree
    standard_error: PyTree


class Eigenpairs(NamedTuple):
    """The largest eigenvalues (k,), their unit eigenvectors as models with a leading axis k, and the
    residuals ||H v - value v|| (k,), which bound each value's distance from the spectrum."""

    values: Array
    vectors: Any
    residuals: Array


def hessian_operator(loss: Any, model: PyTree, *data: Any) -> lx.FunctionLinearOperator:
    """The Hessian of the loss as a lineax operator on the model's parameters: products, no matrix.

    One product costs about two gradients (forward over reverse). Raises TypeError or ValueError for
    a model without real parameters or a loss that is not a real scalar.
    """
    parameters, rest = _split(loss, model, *data)
    at = lambda parameters: loss(eqx.combine(parameters, rest), *data)  # noqa: E731
    _, product = jax.linearize(jax.grad(at), parameters)
    return lx.FunctionLinearOperator(
        product, jax.eval_shape(lambda: parameters), tags=lx.symmetric_tag
    )


def dense_hessian(loss: Any, model: PyTree, *data: Any) -> Float[Array, "p p"]:
    """The whole Hessian, parameters flattened in the order of the leaves, shape (p, p).

    Raises MemoryError before allocating what would not fit.
    """
    parameters, _ = _split(loss, model, *data)
    flat, _ = ravel_pytree(parameters)
    require_memory(
        3 * flat.size**2 * flat.dtype.itemsize,
        f"The Hessian of {flat.size} parameters",
        "use `hessian_operator`, `largest_eigenvalues` or `spectral_density`",
    )
    return _dense_hessian(loss, model, data)


@eqx.filter_jit
def _dense_hessian(loss: Any, model: PyTree, data: tuple) -> Array:
    product, flat, _ = _flat_product(loss, model, data)
    return jax.vmap(product)(jnp.eye(flat.size, dtype=flat.dtype))


def trace_of_hessian(
    loss: Any,
    model: PyTree,
    *data: Any,
    key: Any,
    probes: int = 32,
    memory: int | None = None,
) -> Estimate:
    """The trace of the Hessian, with its standard error; the sum of `leaf_traces`.

    >>> import jax
    >>> from flatrank.flatness import general
    >>> def loss(model, x):
    ...     return jax.numpy.sum(jax.numpy.tanh(model["weight"] @ x + model["bias"]) ** 2)
    >>> model = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
    >>> estimate = general.trace_of_hessian(loss, model, jax.numpy.ones(3), key=jax.random.key(0))
    >>> bool(estimate.standard_error == 0)  # no more parameters than probes: exact
    True
    """
    return _traces(loss, model, data, key, probes, memory)[1]


def leaf_traces(
    loss: Any,
    model: PyTree,
    *data: Any,
    key: Any,
    probes: int = 32,
    memory: int | None = None,
) -> Estimate:
    """The trace of each parameter array's diagonal block of the Hessian, as a pytree like the model.

    Exact (standard error zero) for `flatrank.loss` at a `DeepLinear`, and for models with no more
    parameters than `probes`. Otherwise Hutchinson's estimate from random signs, one probe after the
    other, so that memory stays that of a single product. Raises ValueError for fewer than two probes
    and MemoryError where one product would not fit.
    """
    return _traces(loss, model, data, key, probes, memory)[0]


def _traces(
    loss: Any, model: PyTree, data: tuple, key: PRNGKeyArray, probes: int, memory: int | None
) -> tuple[Estimate, Estimate]:
    _check_probes(probes)
    key = as_key(key)
    parameters, _ = _split(loss, model, *data)
    if loss is trace.loss and isinstance(model, DeepLinear):
        exact = trace.layer_traces(model, data[0])
        blocks = jax.tree.unflatten(jax.tree.structure(parameters), list(exact))
        return _exact(blocks), _exact(jnp.sum(exact))
    if sum(leaf.size for leaf in jax.tree.leaves(parameters)) <= probes:
        blocks = _run(_diagonal_blocks, memory, loss, model, data)
        return _exact(blocks), _exact(jnp.sum(jnp.stack(jax.tree.leaves(blocks))))
    (mean, error), total = _run(_hutchinson, memory, loss, model, data, key, probes)
    return Estimate(mean, error), Estimate(*total)


def _exact(value: PyTree) -> Estimate:
    return Estimate(value, jax.tree.map(jnp.zeros_like, value))


@eqx.filter_jit
def _diagonal_blocks(loss: Any, model: PyTree, data: tuple) -> PyTree:
    product, flat, restore = _flat_product(loss, model, data)
    diagonal = jax.lax.map(
        lambda unit: jnp.vdot(unit, product(unit)), jnp.eye(flat.size, dtype=flat.dtype)
    )
    return jax.tree.map(jnp.sum, restore(diagonal))


@eqx.filter_jit
def _hutchinson(
    loss: Any, model: PyTree, data: tuple, key: PRNGKeyArray, probes: int
) -> tuple[tuple[PyTree, PyTree], tuple[Array, Array]]:
    product, flat, restore = _flat_product(loss, model, data)

    def sample(key: Array) -> PyTree:
        probe = jax.random.rademacher(key, flat.shape, flat.dtype)
        return jax.tree.map(jnp.sum, restore(probe * product(probe)))

    samples = jax.lax.map(sample, jax.random.split(key, probes))
    blocks = jax.tree.map(mean_and_error, samples)
    mean, error = jax.tree.transpose(jax.tree.structure(samples), None, blocks)
    total = jnp.sum(jnp.stack(jax.tree.leaves(samples)), axis=0)
    return (mean, error), mean_and_error(total)


def largest_eigenvalues(
    loss: Any,
    model: PyTree,
    *data: Any,
    count: int = 1,
    key: Any = None,
    tolerance: Any = None,
    memory: int | None = None,
) -> Eigenpairs:
    """The largest (most positive) eigenvalues of the Hessian, largest first.

    Exact up to 400 parameters. Beyond, Lanczos with full reorthogonalisation, restarted until the
    residuals of all of them are at most `tolerance` times the largest value (default: the square
    root of machine epsilon), 50 times at most; `residuals` tells what was reached. It finds
    eigenvalues that coincide exactly once. Raises ValueError for a count above the parameters.
    """
    parameters, _ = _split(loss, model, *data)
    size = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    if positive_integer(count, "count") > size:
        raise ValueError(f"`count` is {count} and the model has {size} parameters.")
    key = jax.random.key(0) if key is None else as_key(key)
    if tolerance is not None:
        remedy = "leave it out for the square root of machine epsilon"
        tolerance = as_positive(tolerance, "tolerance", remedy)
    return _run(_largest, memory, loss, model, data, count, key, tolerance)


@eqx.filter_jit
def _largest(
    loss: Any,
    model: PyTree,
    data: tuple,
    count: int,
    key: PRNGKeyArray,
    tolerance: float | None,
) -> Eigenpairs:
    product, flat, restore = _flat_product(loss, model, data)
    eps = float(jnp.finfo(flat.dtype).eps)
    if flat.size <= _DENSE_SIZE:
        hessian = jax.vmap(product)(jnp.eye(flat.size, dtype=flat.dtype))
        values, columns = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
        error = flat.size * eps * jnp.max(jnp.abs(values))
        largest = jax.vmap(restore)(columns[:, ::-1][:, :count].T)
        return Eigenpairs(values[::-1][:count], largest, jnp.full(count, error))
    tolerance = eps**0.5 if tolerance is None else tolerance
    values, vectors, residuals = largest_pairs(product, flat, key, count, tolerance)
    return Eigenpairs(values, jax.vmap(restore)(vectors), residuals)


def largest_eigenvalue(loss: Any, model: PyTree, *data: Any) -> Float[Array, ""]:
    """The largest eigenvalue of the Hessian; see `largest_eigenvalues` for its error."""
    return largest_eigenvalues(loss, model, *data).values[0]


def spectral_density(
    loss: Any,
    model: PyTree,
    *data: Any,
    key: Any,
    probes: int = 16,
    points: int = 40,
    memory: int | None = None,
) -> SpectralDensity:
    """The eigenvalue density of the Hessian, by stochastic Lanczos quadrature.

    `probes` random sign vectors, `points` Lanczos steps each. An estimate, which carries its standard
    error; what is exact should not be read from it. Raises ValueError for fewer than two probes,
    which have no scatter.
    """
    _check_probes(probes)
    key = as_key(key)
    _split(loss, model, *data)
    positive_integer(points, "points")
    return _run(_density, memory, loss, model, data, key, probes, points)


@eqx.filter_jit
def _density(
    loss: Any, model: PyTree, data: tuple, key: PRNGKeyArray, probes: int, points: int
) -> SpectralDensity:
    product, flat, _ = _flat_product(loss, model, data)
    return quadratures(product, flat, key, probes, min(points, flat.size))


def _flat_product(
    loss: Any, model: PyTree, data: tuple
) -> tuple[Callable[[Array], Array], Array, Callable[[Array], PyTree]]:
    """The product with the Hessian on flat vectors, the flat parameters, and the way back."""
    operator = hessian_operator(loss, model, *data)
    flat, restore = ravel_pytree(eqx.filter(model, eqx.is_inexact_array))
    return lambda x: ravel_pytree(operator.mv(restore(x)))[0], flat, restore


def _run(compiled: Any, memory: int | None, *arguments: Any) -> Any:
    """Call a compiled function unless the memory that it says it needs exceeds the budget."""
    if not is_traced(arguments):
        needed = compiled.lower(*arguments).compile().compiled.memory_analysis()
        bytes_needed = needed.temp_size_in_bytes + needed.output_size_in_bytes
        budget = memory_budget(memory)
        if bytes_needed > budget:
            raise MemoryError(
                f"Products with this Hessian need {bytes_needed / 2**20:.1f} MiB and `memory` allows "
                f"{budget / 2**20:.1f} MiB: pass less data at a time, fewer `points` or a smaller "
                "`count`, or a larger `memory`."
            )
    return compiled(*arguments)


def _split(loss: Any, model: PyTree, *data: Any) -> tuple[PyTree, PyTree]:
    """The parameters of the model and the rest, checked."""
    as_function(loss, "loss", "of (model, *data)")
    leaves = jax.tree.leaves(model)
    if any(isinstance(leaf, np.ma.MaskedArray) for leaf in leaves):
        raise TypeError("`model` has masked arrays: fill them by `.filled(...)`.")
    arrays = [leaf for leaf in leaves if eqx.is_inexact_array(leaf)]
    if not any(leaf.size for leaf in arrays):
        raise ValueError(
            "`model` has no floating-point arrays: pass the pytree of parameters, as JAX arrays."
        )
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in arrays):
        raise TypeError(
            "`model` has complex parameters, whose Hessian is not one symmetric matrix: pass real and "
            "imaginary parts as separate arrays."
        )
    value = eqx.filter_eval_shape(loss, model, *data)
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape != () or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        found = f"{dtype} of shape {shape}" if dtype is not None else type(value).__name__
        raise ValueError(
            f"`loss` must return a real scalar, found {found}: return its mean or sum."
        )
    return eqx.partition(model, eqx.is_inexact_array)


def _check_probes(probes: int) -> None:
    if positive_integer(probes, "probes") < 2:
        raise ValueError("`probes` is 1: at least two are needed for a standard error.")
