"""Two products with one large matrix, and their derivatives, that read it once instead of twice.

||A w - y||^2 with its gradient, and l^T T r with both of its. On a CPU machine code does it
(`_foreign`) where the matrix is large; XLA does it everywhere else: on accelerators, for small
matrices, under `vmap`, and for derivatives beyond the first.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from . import _foreign
from ._packing import pack, unpack

# A matrix of fewer bytes stays in the second cache between two reads of it, and there is nothing to
# gain: see decision 15.
_LEAST_BYTES = 2**22


def sum_of_squares(
    A: Float[Array, "N k"], w: Float[Array, " k"], y: Float[Array, " N"]
) -> Float[Array, ""]:
    """||A w - y||^2; the gradient in w reads A once where that pays."""
    form = _sum_of_squares if _of_one_type(A, w, y) else _plain_sum_of_squares
    return form(A, w, y)


def tensor_forms(
    T: Float[Array, "mm nn"], lefts: tuple[Array, ...], rights: tuple[Array, ...]
) -> Float[Array, " K"]:
    """<P P^T, K(Q^T Q)> for pairs P (m, p), Q (q, n), K by its packed tensor T.

    The gradient reads T once where that pays.
    """
    form = _tensor_forms if _of_one_type(T, *lefts, *rights) else _plain_tensor_forms
    return form(T, lefts, rights)


def _of_one_type(*arrays: Array) -> bool:
    return all(x.dtype == arrays[0].dtype for x in arrays)


def _pays(kind: str, matrix: Array) -> bool:
    """Whether machine code reads a matrix: a large one, where it works."""
    large = matrix.size * matrix.dtype.itemsize >= _LEAST_BYTES
    return large and _foreign.works(kind, matrix.dtype)


def _plain_sum_of_squares(A: Array, w: Array, y: Array) -> Array:
    return jnp.sum((A @ w - y) ** 2)


@jax.custom_jvp
def _sum_of_squares(A: Array, w: Array, y: Array) -> Array:
    return _plain_sum_of_squares(A, w, y)


@partial(_sum_of_squares.defjvp, symbolic_zeros=True)
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    dA, dw, dy = tangents
    if _moves(dA) or _moves(dy):
        return _plain_sum_of_squares(*primals), _tangent(_plain_sum_of_squares, primals, tangents)
    total, gradient = _squares(*primals)
    return total, 2 * jnp.vdot(gradient, dw)


def _plain_squares(A: Array, w: Array, y: Array) -> tuple[Array, Array]:
    residual = A @ w - y
    return jnp.sum(residual**2), residual @ A


@jax.custom_jvp
def _squares(A: Array, w: Array, y: Array) -> tuple[Array, Array]:
    """||A w - y||^2 and half of its gradient, (A w - y) A."""
    if not _pays("squares", A):
        return _plain_squares(A, w, y)
    return _either(_foreign.squares, _plain_squares)(A, w, y)


@partial(_squares.defjvp, symbolic_zeros=True)
def _(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    A, _, _ = primals
    dA, dw, dy = tangents
    total, gradient = _squares(*primals)
    if _moves(dA) or _moves(dy):
        return (total, gradient), _tangent(_plain_squares, primals, tangents)
    return (total, gradient), (2 * jnp.vdot(gradient, dw), (A @ dw) @ A)


def _plain_tensor_forms(T: Array, lefts: tuple[Array, ...], rights: tuple[Array, ...]) -> Array:
    left, right = _packed_grams(lefts, rights)
    # In this order XLA reads the tensor by rows in both products of the gradient.
    return jnp.sum((left @ T) * right, axis=1)


@jax.custom_jvp
def _tensor_forms(T: Array, lefts: tuple[Array, ...], rights: tuple[Array, ...]) -> Array:
    return _plain_tensor_forms(T, lefts, rights)


@partial(_tensor_forms.defjvp, symbolic_zeros=True)
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    T, lefts, rights = primals
    dT, dlefts, drights = tangents
    if _moves(dT):
        return _plain_tensor_forms(*primals), _tangent(_plain_tensor_forms, primals, tangents)
    left, right = _packed_grams(lefts, rights)
    by_row, by_column = _both_sides(T, left, right)
    slopes = []
    for k, (P, Q, dP, dQ) in enumerate(zip(lefts, rights, dlefts, drights, strict=True)):
        # The derivatives in P P^T and in Q^T Q are symmetric: one product each instead of two.
        slope = jnp.zeros((), T.dtype)
        if _moves(dP):
            slope += 2 * jnp.vdot(unpack(by_row[k], P.shape[0]) @ P, dP)
        if _moves(dQ):
            slope += 2 * jnp.vdot(Q @ unpack(by_column[k], Q.shape[1]), dQ)
        slopes.append(slope)
    return jnp.sum(left * by_row, axis=1), jnp.stack(slopes)


def _plain_both_sides(T: Array, left: Array, right: Array) -> tuple[Array, Array]:
    return right @ T.T, left @ T


@jax.custom_jvp
def _both_sides(T: Array, left: Array, right: Array) -> tuple[Array, Array]:
    """right T^T and left T."""
    if not _pays("both_sides", T):
        return _plain_both_sides(T, left, right)
    return _either(_foreign.both_sides, _plain_both_sides)(T, left, right)


@partial(_both_sides.defjvp, symbolic_zeros=True)
def _(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    return _both_sides(*primals), _tangent(_plain_both_sides, primals, tangents)


def _packed_grams(lefts: tuple[Array, ...], rights: tuple[Array, ...]) -> tuple[Array, Array]:
    """P P^T and Q^T Q of all pairs, packed, off-diagonal entries twice."""
    left = jnp.stack([pack(P @ P.T, doubled=True) for P in lefts])
    right = jnp.stack([pack(Q.T @ Q, doubled=True) for Q in rights])
    return left, right


def _either(foreign: Callable, plain: Callable) -> Callable:
    """One call by machine code on CPUs; batches, and other platforms, by XLA."""

    @custom_vmap
    def call(*arguments: Array) -> tuple[Array, Array]:
        return jax.lax.platform_dependent(*arguments, cpu=foreign, default=plain)

    @call.def_vmap
    def _(size: int, batched: list[bool], *arguments: Array) -> tuple[Any, Any]:
        # XLA makes one matrix product of a batch, which reads the matrix once.
        found = jax.vmap(plain, [0 if one else None for one in batched])(*arguments)
        return found, (True, True)

    return call


def _moves(tangent: Any) -> bool:
    return not isinstance(tangent, SymbolicZero)


def _tangent(function: Callable, primals: tuple, tangents: tuple) -> Any:
    """The derivative of a function of pytrees along tangents of which some are symbolic zeros."""
    at, structure = jax.tree.flatten(primals)
    along = jax.tree.leaves(tangents)
    moving = [k for k, tangent in enumerate(along) if _moves(tangent)]

    def of_moving(*leaves: Array) -> Any:
        every = list(at)
        for k, leaf in zip(moving, leaves, strict=True):
            every[k] = leaf
        return function(*jax.tree.unflatten(structure, every))

    _, found = jax.jvp(of_moving, [at[k] for k in moving], [along[k] for k in moving])
    return found
