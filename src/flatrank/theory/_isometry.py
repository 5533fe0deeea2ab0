"""Statements under the restricted isometry property: on F, on the nuclear norm, on the error."""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..flatness import induced_regularizer
from ..measurements import DenseMeasurements
from ._instances import from_quadratic_form, nuclear, orthonormal
from ._reference import smallest_trace
from ._rip import gaussian_rip_prediction, rip_constant
from ._theorem import Relation, Sides, Theorem, as_sides

Formula = Callable[..., Any]


def _depths(quick: bool) -> range:
    return range(2, 4 if quick else 5)


def _near_isometries(
    rng: np.random.Generator, shape: tuple[int, int], quick: bool
) -> Iterator[tuple[np.ndarray, float]]:
    """Measurement matrices and a proved delta of rank one; the first two attain both ends."""
    size = shape[0] * shape[1]
    forms = [1.3 * np.eye(size), 0.7 * np.eye(size)]
    for _ in range(2 if quick else 8):
        forms.append(np.diag(rng.uniform(0.6, 1.4, size)))
        G = rng.standard_normal((20 * size, size))
        forms.append(G.T @ G / len(G))
    for form in forms:
        matrices = from_quadratic_form(form, shape)
        found = rip_constant(DenseMeasurements(matrices), 1, starts=4, steps=20)
        yield matrices, float(found.upper)


def _sandwich_formula(nuclear_norm: float, delta: float, depth: int, m: int, n: int) -> tuple:
    """(1 - delta) F_iso and (1 + delta) F_iso."""
    isotropic = 2 * depth * (m * n) ** (1 / depth) * nuclear_norm ** (2 - 2 / depth)
    return (1 - delta) * isotropic, (1 + delta) * isotropic


def _sandwich_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    rows = []
    m, n = 4, 3
    for matrices, delta in _near_isometries(rng, (m, n), quick):
        for depth in _depths(quick):
            matrix = rng.standard_normal((m, n))
            F = smallest_trace(matrices, matrix, depth)
            below, above = formula(nuclear(matrix), delta, depth, m, n)
            rows += [(below, F, delta < 1), (F, above, delta < 1)]
    return as_sides(rows)


SANDWICH = Theorem(
    name="RIP sandwich on F",
    statement="Under (1, delta)-RIP, (1 - delta) F_iso <= F <= (1 + delta) F_iso at any depth.",
    latex=r"(1 - \delta) F_{\mathrm{iso}}(M) \le F(M) \le (1 + \delta) F_{\mathrm{iso}}(M)",
    hypotheses="(1/N) ||A(X)||^2 within 1 +- delta, delta < 1, on unit matrices X of rank one.",
    source="Gatmiry et al. 2023 (arXiv 2306.13239); rank one is enough: docs/mathematics.md",
    relation=Relation.at_most,
    tolerance=1e-8,
    formula=_sandwich_formula,
    sides=_sandwich_sides,
)


def blind_pair_form(side: int, delta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A quadratic form that is blind to the difference of two rank-one matrices, and these two.

    On rank-one matrices it is sum_ab w_ab X_ab^2 with w within 1 +- delta: cross terms of X_11 X_22
    and X_12 X_21 cancel there, since these are equal. Yet it vanishes at X_1 - X_2 (derived here,
    docs/theory/isometry.md). X_1 is flatter, X_2 has the smaller nuclear norm.
    """
    w = np.full((side, side), 1 + delta)
    w[0], w[:, 0] = 1 - delta, 1 - delta
    w[0, 1] = w[1, 0] = np.sqrt(1 - delta**2)
    form = np.diag(w.ravel())
    first, second, corner, other = 0, side + 1, 1, side
    coupling = np.sqrt(w[0, 0] * w[1, 1])
    form[first, second] = form[second, first] = coupling
    form[corner, other] = form[other, corner] = -coupling
    flat, small = np.zeros((side, side)), np.zeros((side, side))
    flat[0, 0], small[1, 1] = w[0, 0] ** -0.5, w[1, 1] ** -0.5
    return form, flat, small


def _consequence_factor(delta: float, depth: int) -> float:
    return ((1 + delta) / (1 - delta)) ** (depth / (2 * (depth - 1)))


def _consequence_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    """Interpolators of the blind form; and any two matrices of which one is as flat as the other."""
    rows = []
    for side, delta in ((4, 0.3), (4, 0.6)) if quick else ((4, 0.3), (4, 0.6), (6, 0.8)):
        form, flat, small = blind_pair_form(side, delta)
        matrices = from_quadratic_form(form, (side, side))
        assert np.allclose(np.tensordot(matrices, flat - small, 2), 0, atol=1e-6)
        for depth in _depths(quick):
            F_flat, F_small = (smallest_trace(matrices, M, depth) for M in (flat, small))
            bound = formula(delta, depth) * nuclear(small)
            rows.append((nuclear(flat), bound, F_flat <= F_small))
    for matrices, delta in _near_isometries(rng, (4, 3), quick):
        for depth in _depths(quick):
            one, other = rng.standard_normal((2, 4, 3))
            # F is homogeneous of degree 2 (L - 1) / L: make the first as flat as the other.
            ratio = smallest_trace(matrices, other, depth) / smallest_trace(matrices, one, depth)
            one = one * ratio ** (depth / (2 * (depth - 1)))
            rows.append((nuclear(one), formula(delta, depth) * nuclear(other), delta < 1))
    return as_sides(rows)


CONSEQUENCE = Theorem(
    name="nuclear norm of the flattest",
    statement=(
        "Under (1, delta)-RIP, F(M~) <= F(M) gives ||M~||_* <= ((1 + delta) / (1 - delta))^{L / (2 (L "
        "- 1))} ||M||_*: so for the flattest interpolator against every other."
    ),
    latex=r"\lVert \tilde M \rVert_* \le \Bigl( \frac{1+\delta}{1-\delta} \Bigr)^{L/(2(L-1))}"
    r" \min_{A(M) = y} \lVert M \rVert_*",
    hypotheses="(1, delta)-RIP with delta < 1, L >= 2, M~ at least as flat as M.",
    source="Gatmiry et al. 2023 (arXiv 2306.13239)",
    relation=Relation.at_most,
    tolerance=1e-8,
    formula=_consequence_factor,
    sides=_consequence_sides,
)


def _recovery_formula(nuclear_norm: float, delta: float, depth: int) -> float:
    """sqrt(delta) (1 + ((1 + delta) / (1 - delta))^{L / (2 (L - 1))}) ||M*||_*."""
    return delta**0.5 * (1 + _consequence_factor(delta, depth)) * nuclear_norm


@eqx.filter_jit
def _flatness(
    matrices: Float[Array, "k m n"], A: DenseMeasurements, depth: int
) -> Float[Array, " k"]:
    """F of each matrix."""
    return jax.vmap(lambda M: induced_regularizer(M, A, depth))(matrices)


def _recovery_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    """Measurements blind to one direction Z of equal singular values, of which delta is known.

    <X, Z>^2 <= 2/n on unit matrices of rank two, so that (1/N) ||A(X)||^2 = (1 - <X, Z>^2) n / (n - 1)
    is within 1 +- 1 / (n - 1).
    """
    rows = []
    for n in (6,) if quick else (4, 6, 10):
        delta = 1 / (n - 1)
        left, right = orthonormal(rng, n, n), orthonormal(rng, n, n)
        Z = left @ right.T / n**0.5
        form = (np.eye(n * n) - np.outer(Z.ravel(), Z.ravel())) * n / (n - 1)
        A = DenseMeasurements(from_quadratic_form(form, (n, n)))
        half = (left[:, : n // 2] @ right[:, : n // 2].T) / n**0.5
        truths = [half, *rng.standard_normal((3, n, n))]
        truths += [left[:, :1] @ right[:, :1].T, rng.standard_normal((n, 1)) @ right[:, :1].T]
        # Contains -1, at which `half` becomes minus the other half: as flat, and far away.
        grid = np.linspace(-4, 4, 81)
        for depth in (2, 3) if quick else (2, 3, 4):
            for truth in truths:
                F = np.asarray(_flatness(jnp.asarray(truth + grid[:, None, None] * Z), A, depth))
                F_truth = F[len(grid) // 2]
                as_flat = F_truth * (1 + 1e-9) >= F
                # Z is a unit vector: |t| is the distance.
                error = np.max(np.abs(grid[as_flat]))
                rows.append((error, formula(nuclear(truth), delta, depth)))
    return as_sides(rows)


RECOVERY = Theorem(
    name="recovery bound",
    statement=(
        "Under (2, delta)-RIP, an interpolator M~ at least as flat as M* has ||M~ - M*||_F <= "
        "sqrt(delta) (1 + ((1 + delta) / (1 - delta))^{L / (2 (L - 1))}) ||M*||_*."
    ),
    latex=r"\lVert \tilde M - M^* \rVert_F \le \sqrt{\delta} \Bigl( 1 + \Bigl( \frac{1+\delta}"
    r"{1-\delta} \Bigr)^{L/(2(L-1))} \Bigr) \lVert M^* \rVert_*",
    hypotheses=(
        "RIP at rank two with delta < 1. Rank one is not enough: measurements that are isometric on "
        "rank-one matrices may be blind to the difference of two of them."
    ),
    source="derived here (docs/theory/isometry.md); the constant is sharp as delta -> 0",
    relation=Relation.at_most,
    tolerance=1e-8,
    formula=_recovery_formula,
    sides=_recovery_sides,
)


def _gaussian_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    """The constant found by search (exact at full rank) against the prediction."""
    rows = []
    cases = [(10, 10, 2000, 10), (10, 10, 2000, 10), (8, 6, 300, 1), (8, 6, 300, 1)]
    if not quick:
        cases += [(8, 6, 300, 2), (8, 6, 600, 1), (8, 6, 600, 3), (12, 12, 4000, 12)] * 2
    for m, n, N, r in cases:
        A = DenseMeasurements(rng.standard_normal((N, m, n)))
        found = rip_constant(A, r, starts=8, steps=100)
        rows.append((found.lower, formula(m, n, N, r, 0.9999)))
    return as_sides(rows)


GAUSSIAN = Theorem(
    name="RIP, Gaussian",
    statement=(
        "N Gaussian measurements have with probability p an isometry constant at rank r of at most "
        "(1 + a)^2 - 1, a = (min(sqrt(r) (sqrt(m) + sqrt(n)), sqrt(m n)) + sqrt(2 log(2 / (1 - p)))) / "
        "sqrt(N) (or what the lower end gives, if more)."
    ),
    latex=r"\delta_r \le (1 + a)^2 - 1, \quad a = \frac{\min(\sqrt r (\sqrt m + \sqrt n),"
    r" \sqrt{mn}) + \sqrt{2 \log \frac{2}{1-p}}}{\sqrt N}",
    hypotheses="Independent standard normal entries; fails for a share 1 - p = 1e-4 of the draws.",
    source="Gordon 1988, Davidson and Szarek 2001; constants derived here (docs/theory/isometry.md)",
    relation=Relation.at_most,
    tolerance=0.0,
    formula=gaussian_rip_prediction,
    sides=_gaussian_sides,
)

THEOREMS = (SANDWICH, CONSEQUENCE, RECOVERY, GAUSSIAN)
