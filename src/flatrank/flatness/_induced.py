"""The regulariser that flatness induces on the end-to-end matrix."""

from enum import StrEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import is_traced, positive_integer
from .._order import after
from ..measurements import (
    AbstractMeasurements,
    DenseMeasurements,
    IsotropicMeasurements,
    as_measurements,
)
from ..network import DeepLinear, as_matrix
from ..norms import nuclear_norm, singular_values
from ._flatten import flatten
from ._trace import trace_of_hessian


class Formula(StrEnum):
    """How F(M) is computed; the members are the sentences that the user reads."""

    constant = "Depth 1: the trace does not depend on the matrix."
    isotropic = "Closed form: 2 L (m n)^{1/L} ||M||_*^{2 (L-1) / L} (isotropic measurements)."
    depth_two = "Closed form: 4 ||K(I)^{1/2} M K*(I)^{1/2}||_* (depth 2)."
    single = "Closed form: 2 L ||(A^T M)^{L-1} A^T||_{S_{2/L}}^{2/L} (one measurement)."
    flattening = "Flattening: matrix geometric means to convergence."
    infimum = (
        "Flattening with a singular second moment: the infimum, which no network attains for every "
        "matrix, to a relative 1e-5 in float64."
    )


def regularizer_path(A: Any, depth: int) -> Formula:
    """Which formula `induced_regularizer` uses; the closed forms wherever they hold."""
    A = as_measurements(A)
    if positive_integer(depth, "depth") == 1:
        return Formula.constant
    if isinstance(A, IsotropicMeasurements):
        return Formula.isotropic
    if depth == 2:
        return Formula.depth_two
    if isinstance(A, DenseMeasurements) and A.count == 1:
        return Formula.single
    m, n = A.shape
    moments = (A.second_moment(jnp.eye(n)), A.second_moment_adjoint(jnp.eye(m)))
    if is_traced(moments):
        return Formula.flattening
    for moment in moments:
        values = np.linalg.eigvalsh(np.asarray(moment))
        if values[0] <= len(values) * np.finfo(values.dtype).eps * values[-1]:
            return Formula.infimum
    return Formula.flattening


def induced_regularizer(matrix: Any, A: Any, depth: int) -> Float[Array, ""]:
    """F(M) = min of the trace of the Hessian over all networks of the matrix and the depth.

    Widths do not bind. `regularizer_path(A, depth)` says which formula is used (docs/mathematics.md,
    "Induced regulariser"). Differentiable in the matrix wherever F is. Where it is flattened the
    derivative is that of the flattest network (the envelope theorem), which needs a matrix of full
    rank: F has kinks elsewhere.

    `matrix` may be a network or a `Solution`, whose matrix is taken. Raises TypeError for what is no
    matrix, ValueError for a depth below 1 or a matrix of another shape than A measures.

    >>> import jax
    >>> import flatrank as fr
    >>> A = fr.IsotropicMeasurements((4, 3))
    >>> round(float(fr.induced_regularizer(2 * jax.numpy.eye(4, 3), A, depth=2)), 3)
    83.138
    """
    matrix, A = as_matrix(matrix), as_measurements(A)
    if matrix.shape != A.shape:
        raise ValueError(
            f"`matrix` has shape {matrix.shape} and `A` measures matrices of shape {A.shape}: "
            "pass a matrix of that shape."
        )
    m, n = A.shape
    formula = regularizer_path(A, depth)
    if formula == Formula.constant:
        return 2 * A.second_moment_forms((None,), (None,))[0]
    if formula == Formula.isotropic:
        return 2 * depth * (m * n) ** (1 / depth) * nuclear_norm(matrix) ** (2 - 2 / depth)
    if formula == Formula.depth_two:
        row_root = _root(A.second_moment(jnp.eye(n, dtype=matrix.dtype)))
        right = A.second_moment_adjoint(jnp.eye(m, dtype=matrix.dtype))
        column_root = _root(after(row_root, right))
        return 4 * nuclear_norm(row_root @ matrix @ column_root)
    if formula == Formula.single:
        assert isinstance(A, DenseMeasurements)
        transposed = A.matrices[0].T
        chain = jnp.linalg.matrix_power(transposed @ matrix, depth - 1) @ transposed
        s = singular_values(chain)
        # Zero singular values have no derivative of s^{2/L}; they are left out.
        alive = s > max(chain.shape) * jnp.finfo(s.dtype).eps * s[0]
        return 2 * depth * jnp.sum(jnp.where(alive, jnp.where(alive, s, 1.0) ** (2 / depth), 0.0))
    return _flattened(matrix, A, depth)


def _root(matrix: Array) -> Array:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = jnp.linalg.eigh(0.5 * (matrix + matrix.T))
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None]) @ vectors.T


def _flattened(matrix: Array, A: AbstractMeasurements, depth: int) -> Array:
    """F by flattening; its derivative is the multiplier of the constraint W_L ... W_1 = M."""

    @jax.custom_jvp
    def value(matrix: Array) -> Array:
        return trace_of_hessian(flatten(DeepLinear.balanced(matrix, depth), A), A)

    @value.defjvp
    def derivative(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
        flat = flatten(DeepLinear.balanced(primals[0], depth), A)
        trace, gradient = jax.value_and_grad(lambda network: trace_of_hessian(network, A))(flat)
        # Stationarity: the gradient in layer j is P_j^T G Q_j^T. The longer side determines G.
        if A.shape[0] >= A.shape[1]:
            lower = flat.lowers()[-1]
            assert lower is not None
            multiplier = gradient.layers[-1] @ jnp.linalg.pinv(lower.T)
        else:
            upper = flat.uppers()[0]
            assert upper is not None
            multiplier = jnp.linalg.pinv(upper.T) @ gradient.layers[0]
        return trace, jnp.vdot(multiplier, tangents[0])

    return value(matrix)
