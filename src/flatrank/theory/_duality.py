"""A certificate from any multipliers: no interpolator has a smaller trace."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import as_number, positive_integer
from ..flatness import check_values
from ..measurements import DenseMeasurements, as_measurements
from ..recovery import dual_norm
from ._instances import from_quadratic_form, instance
from ._reference import smallest_trace
from ._theorem import Relation, Sides, Theorem, as_sides

Formula = Callable[..., Any]


def trace_lower_bound(
    A: Any,
    y: Any,
    multipliers: Any,
    depth: int = 2,
    delta: Any = None,
) -> Float[Array, ""]:
    """A number that no interpolator's trace of the Hessian is below, from any multipliers v (N,).

    Depth 2: 4 <y, v> / ||R^{-1/2} A*(v) C^{-1/2}||, R = K(I), C = K*(I), by duality. Other depths: the
    same bound on the nuclear norm, <y, v> / ||A*(v)||, through the RIP sandwich; `delta` is a proved
    isometry constant of rank one (`rip_constant(A, 1).upper`). Sharp at the multipliers of the
    flattest interpolator (depth 2). Derived in docs/theory/duality.md.

    Raises ValueError if the shapes do not fit, or for a depth above 2 without a delta in [0, 1).

    >>> import jax
    >>> import flatrank as fr
    >>> A = fr.IsotropicMeasurements((3, 3))
    >>> y = A.apply(jax.numpy.eye(3))
    >>> round(float(trace_lower_bound(A, y, y)), 3)  # 4 sqrt(m n) ||I||_*
    36.0
    """
    A = as_measurements(A)
    y, v = check_values(y, A), check_values(multipliers, A, "multipliers")
    if delta is not None:
        delta = as_number(delta, "delta", "pass `rip_constant(A, 1).upper`")
    m, n = A.shape
    if positive_integer(depth, "depth") == 2:
        return _ratio(y, v, dual_norm(A, v, weighted=True))
    if depth == 1 or delta is None or not 0 <= delta < 1:
        raise ValueError(
            f"A bound at depth {depth} needs a depth of at least 2 and `delta` in [0, 1), found "
            f"{delta}: pass `rip_constant(A, 1).upper` if it is below 1."
        )
    nuclear_norm = jnp.maximum(_ratio(y, v, jnp.linalg.norm(A.adjoint(v), 2)), 0.0)
    isotropic = 2 * depth * (m * n) ** (1 / depth) * nuclear_norm ** (2 - 2 / depth)
    return (1 - delta) * isotropic


def _ratio(y: Array, v: Array, size: Array) -> Array:
    return jnp.vdot(y, v) / jnp.where(size > 0, size, 1.0)


def _root(moment: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(moment)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _bound_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    """Bounds against the traces of interpolators, each by brute force over its factorisations.

    First the rank-one matrix to which random multipliers belong: there the bound is attained. Then
    others that agree with it on all measurements.
    """
    rows = []
    shape = (4, 3)
    for kind in ("dense", "entries", "rank one"):
        for _ in range(2 if quick else 6):
            given = instance(kind, rng, shape)
            N = given.A.count
            explicit = given.matrices[:N] * (N / len(given.matrices)) ** 0.5
            R = _root(np.einsum("iab,icb->ac", explicit, explicit) / N)
            C = _root(np.einsum("iab,iac->bc", explicit, explicit) / N)
            v = rng.standard_normal(N)
            inner = np.linalg.solve(R, np.tensordot(v, explicit, 1)) @ np.linalg.inv(C)
            u, _, wt = np.linalg.svd(inner)
            flattest = np.linalg.solve(R, np.outer(u[:, 0], wt[0])) @ np.linalg.inv(C)
            y = np.tensordot(explicit, flattest, 2)
            kernel = np.linalg.svd(explicit.reshape(N, -1))[2][N:]
            bound = formula(given.A, jnp.asarray(y), jnp.asarray(v), 2, None)
            for size in (0.0, 0.1, 1.0):
                other = size * rng.standard_normal(len(kernel)) @ kernel
                matrix = flattest + other.reshape(shape)
                rows.append((bound, smallest_trace(given.matrices, matrix, 2)))
    # Depth 3: the lower end of the sandwich is attained by multiples of the identity.
    delta = 0.3
    for form in (1 - delta) * np.eye(12), np.diag(rng.uniform(1 - delta, 1 + delta, 12)):
        matrices = from_quadratic_form(form, shape)
        matrix = np.outer(rng.standard_normal(4), rng.standard_normal(3))
        y = np.tensordot(matrices, matrix, 2)
        v = np.linalg.solve(matrices.reshape(12, 12).T, matrix.reshape(-1))
        A = DenseMeasurements(matrices)
        bound = formula(A, jnp.asarray(y), jnp.asarray(v), 3, delta)
        rows.append((bound, smallest_trace(matrices, matrix, 3)))
    return as_sides(rows)


LOWER_BOUND = Theorem(
    name="certificate of flatness",
    statement=(
        "For all multipliers v and interpolators M, 4 <y, v> / ||R^{-1/2} A*(v) C^{-1/2}|| <= F(M) at "
        "depth 2, and (1 - delta) 2 L (m n)^{1/L} (<y, v> / ||A*(v)||)^{2 (L-1) / L} <= F(M) at others."
    ),
    latex=r"\frac{4 \langle y, v \rangle}{\lVert R^{-1/2} A^*(v) C^{-1/2} \rVert} \le F(M)"
    r" \quad \text{for all } v, \; A(M) = y",
    hypotheses="Depth 2: none. Other depths: (1, delta)-RIP with delta < 1.",
    source="duality of the (weighted) nuclear norm; derived here (docs/theory/duality.md)",
    relation=Relation.at_most,
    tolerance=1e-8,
    formula=trace_lower_bound,
    sides=_bound_sides,
)

THEOREMS = (LOWER_BOUND,)
