"""Statements on the trace of the Hessian and on what it and weight decay induce on the matrix."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..flatness import induced_regularizer, trace_of_hessian
from ..measurements import EntryMeasurements
from ..network import DeepLinear
from ..norms import schatten_norm, weighted_trace_norm
from ._instances import (
    KINDS,
    Instance,
    balanced_layers,
    instance,
    random_layers,
    single,
)
from ._reference import smallest_trace, smallest_weight_decay, trace_by_autodiff
from ._theorem import Relation, Sides, Theorem, as_sides

Formula = Callable[..., Any]


def _shapes(quick: bool) -> tuple[tuple[int, int], ...]:
    return ((4, 3), (3, 3)) if quick else ((4, 3), (3, 4), (4, 4))


def _depths(quick: bool, lowest: int = 2) -> range:
    return range(lowest, 4 if quick else 5)


def _trace_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    """Every ensemble and depth, at random points with a residual that is not zero."""
    rows = []
    for shape in _shapes(quick):
        for depth in _depths(quick, lowest=1):
            for kind in KINDS:
                given = instance(kind, rng, shape)
                layers = random_layers(rng, shape, depth)
                y = rng.standard_normal(len(given.matrices))
                found = jax.jit(formula)(DeepLinear(layers), given.A)
                rows.append((trace_by_autodiff(layers, given.matrices, y), found))
    return as_sides(rows)


TRACE = Theorem(
    name="trace formula",
    statement=(
        "At every point tr H = 2 sum_j <P_j P_j^T, K(Q_j^T Q_j)>, P_j the product of the layers above "
        "layer j and Q_j of those below."
    ),
    latex=r"\operatorname{tr} H = 2 \sum_{j=1}^L \langle P_j P_j^\top, K(Q_j^\top Q_j) \rangle",
    hypotheses="None: any ensemble, any depth, any point (the residual is linear in each layer).",
    source="Gatmiry et al. 2023 (arXiv 2306.13239), for zero loss; elsewhere derived here",
    relation=Relation.equal,
    tolerance=1e-10,
    formula=trace_of_hessian,
    sides=_trace_sides,
)


def _regularizer_rows(
    formula: Formula, cases: list[tuple[Instance, int]], rng: np.random.Generator
) -> Sides:
    rows = []
    for given, depth in cases:
        matrix = rng.standard_normal(given.A.shape)
        found = formula(jnp.asarray(matrix), given.A, depth)
        rows.append((smallest_trace(given.matrices, matrix, depth), found))
    return as_sides(rows)


def _repeats(quick: bool) -> int:
    return 3 if quick else 8


def _depth_two_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    cases = [
        (instance(kind, rng, shape), 2)
        for shape in _shapes(quick)
        for kind in KINDS
        for _ in range(_repeats(quick))
    ]
    return _regularizer_rows(formula, cases, rng)


DEPTH_TWO = Theorem(
    name="F at depth 2",
    statement="The smallest trace over networks of M of depth 2 is 4 ||K(I)^{1/2} M K*(I)^{1/2}||_*.",
    latex=r"F(M) = 4 \lVert R^{1/2} M C^{1/2} \rVert_*, \quad R = K(I), \; C = K^*(I)",
    hypotheses="Depth 2, any ensemble; hidden width at least the rank of M.",
    source="Ding et al. 2022 (arXiv 2203.03756); any ensemble: derived here",
    relation=Relation.equal,
    tolerance=1e-8,
    formula=induced_regularizer,
    sides=_depth_two_sides,
)


def _isotropic_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    cases = [
        (instance("isotropic", rng, shape), depth)
        for shape in _shapes(quick)
        for depth in _depths(quick)
        for _ in range(_repeats(quick))
    ]
    return _regularizer_rows(formula, cases, rng)


ISOTROPIC = Theorem(
    name="F, isotropic",
    statement="For isotropic measurements F(M) = 2 L (m n)^{1/L} ||M||_*^{2 (L-1) / L}.",
    latex=r"F(M) = 2 L (m n)^{1/L} \lVert M \rVert_*^{2(L-1)/L}",
    hypotheses="K(S) = tr(S) I; hidden widths at least the rank of M.",
    source="Gatmiry et al. 2023 (arXiv 2306.13239)",
    relation=Relation.equal,
    tolerance=1e-8,
    formula=induced_regularizer,
    sides=_isotropic_sides,
)


def _single_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    cases = [
        (single(rng, shape), depth)
        for shape in _shapes(quick)
        for depth in _depths(quick)
        for _ in range(_repeats(quick))
    ]
    return _regularizer_rows(formula, cases, rng)


SINGLE = Theorem(
    name="F, one measurement",
    statement="For N = 1, F(M) = 2 L ||(A^T M)^{L-1} A^T||_{S_{2/L}}^{2/L}, with the trailing A^T.",
    latex=r"F(M) = 2 L \lVert (A^\top M)^{L-1} A^\top \rVert_{S_{2/L}}^{2/L}",
    hypotheses="One measurement; hidden widths at least the rank of M. An infimum if A^T M is singular.",
    source="Gatmiry et al. 2023 (arXiv 2306.13239); docs/mathematics.md",
    relation=Relation.equal,
    tolerance=1e-7,
    formula=induced_regularizer,
    sides=_single_sides,
)


def _weight_decay_formula(matrix: Any, depth: int) -> Any:
    return depth * schatten_norm(matrix, 2 / depth) ** (2 / depth)


def _weight_decay_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    rows = []
    for shape in _shapes(quick):
        for depth in _depths(quick):
            for _ in range(_repeats(quick)):
                matrix = rng.standard_normal(shape)
                found = formula(jnp.asarray(matrix), depth)
                rows.append((smallest_weight_decay(matrix, depth), found))
    return as_sides(rows)


WEIGHT_DECAY = Theorem(
    name="weight decay",
    statement="The least sum_j ||W_j||_F^2 over networks of M is L ||M||_{S_{2/L}}^{2/L}.",
    latex=r"\min \sum_j \lVert W_j \rVert_F^2 = L \lVert M \rVert_{S_{2/L}}^{2/L}",
    hypotheses="Hidden widths at least the rank of M.",
    source="Srebro et al. 2004 (L = 2); Shang et al. 2016 (any L)",
    relation=Relation.equal,
    tolerance=1e-8,
    formula=_weight_decay_formula,
    sides=_weight_decay_sides,
)


def _als_penalty(U: Any, V: Any, A: EntryMeasurements) -> Any:
    """The penalty of ALS-WR: sum_a n_a ||U_a||^2 + sum_b n_b ||V_b||^2."""
    by_row = jnp.sum(U**2, axis=1)
    by_column = jnp.sum(V**2, axis=1)
    return jnp.vdot(A.row_counts(), by_row) + jnp.vdot(A.column_counts(), by_column)


def _als_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    rows = []
    for shape in _shapes(quick):
        for _ in range(2 * _repeats(quick)):
            given = instance("entries", rng, shape)
            V, U = random_layers(rng, shape, 2)
            y = rng.standard_normal(len(given.matrices))
            found = 2 / given.A.count * formula(jnp.asarray(U), jnp.asarray(V.T), given.A)
            rows.append((trace_by_autodiff([V, U], given.matrices, y), found))
    return as_sides(rows)


ALS = Theorem(
    name="ALS-WR is flatness",
    statement=(
        "With missing entries and depth 2, tr H is 2/N times the ALS-WR penalty sum_a n_a ||U_a||^2 + "
        "sum_b n_b ||V_b||^2, n the numbers of observed entries."
    ),
    latex=r"\operatorname{tr} H = \frac{2}{N} \Bigl( \sum_a n_a \lVert U_a \rVert^2"
    r" + \sum_b n_b \lVert V_b \rVert^2 \Bigr)",
    hypotheses="Missing entries, depth 2, any point.",
    source="penalty: Zhou et al. 2008; identity: docs/mathematics.md",
    relation=Relation.equal,
    tolerance=1e-10,
    formula=_als_penalty,
    sides=_als_sides,
)


def _weighted_formula(matrix: Any, A: EntryMeasurements) -> Any:
    return 4 / A.count * weighted_trace_norm(matrix, A.row_counts(), A.column_counts())


def _weighted_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    rows = []
    for shape in _shapes(quick):
        for _ in range(2 * _repeats(quick)):
            given = instance("entries", rng, shape)
            matrix = rng.standard_normal(shape)
            found = formula(jnp.asarray(matrix), given.A)
            rows.append((smallest_trace(given.matrices, matrix, 2), found))
    return as_sides(rows)


WEIGHTED = Theorem(
    name="F, missing entries",
    statement=(
        "With missing entries and depth 2, F(M) = (4/N) ||diag(row counts)^{1/2} M diag(column "
        "counts)^{1/2}||_*, the weighted trace norm, not the nuclear norm."
    ),
    latex=r"F(M) = \frac{4}{N} \lVert D_r^{1/2} M D_c^{1/2} \rVert_*",
    hypotheses="Missing entries, depth 2; hidden width at least the rank of M.",
    source="norm: Srebro and Salakhutdinov 2010; identity: docs/mathematics.md",
    relation=Relation.equal,
    tolerance=1e-8,
    formula=_weighted_formula,
    sides=_weighted_sides,
)


def _coincidence_factor(R: np.ndarray, C: np.ndarray) -> float:
    """(l_max(R) + l_max(C)) / (2 sqrt(l_min(R) l_min(C))): 1 if R = C = c I."""
    r, c = np.linalg.eigvalsh(R), np.linalg.eigvalsh(C)
    return float((r[-1] + c[-1]) / (2 * np.sqrt(r[0] * c[0])))


def _coincidence_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    """tr H of the balanced network over F; isotropic square measurements have equality."""
    rows = []
    for kind in ("isotropic", "dense"):
        for shape in ((3, 3), (4, 3)):
            for _ in range(_repeats(quick)):
                given = instance(kind, rng, shape)
                matrix = rng.standard_normal(shape)
                N = len(given.matrices)
                R = np.einsum("iab,icb->ac", given.matrices, given.matrices) / N
                C = np.einsum("iab,iac->bc", given.matrices, given.matrices) / N
                layers = balanced_layers(matrix, 2)
                here = trace_by_autodiff(layers, given.matrices, np.zeros(N))
                ratio = here / smallest_trace(given.matrices, matrix, 2)
                rows.append((ratio, formula(R, C)))
    return as_sides(rows)


COINCIDENCE = Theorem(
    name="flat and balanced",
    statement=(
        "At depth 2 the balanced (norm-minimal) network of M is flat up to the factor (l_max(R) + "
        "l_max(C)) / (2 sqrt(l_min(R) l_min(C))), which is 1 for isotropic square measurements."
    ),
    latex=r"\frac{\operatorname{tr} H(\text{balanced})}{F(M)} \le"
    r" \frac{\lambda_{\max}(R) + \lambda_{\max}(C)}{2 \sqrt{\lambda_{\min}(R) \lambda_{\min}(C)}}",
    hypotheses=(
        "Depth 2, K(I) and K*(I) regular. Flat and balanced networks of every M are the same only "
        "where K(I) = K*(I) = c I (square, isotropic); isotropic m x n: up to a factor on each layer. "
        "Not at depth 3."
    ),
    source="Ding et al. 2022 (arXiv 2203.03756); factor derived here",
    relation=Relation.at_most,
    tolerance=1e-8,
    formula=_coincidence_factor,
    sides=_coincidence_sides,
)

THEOREMS = (TRACE, DEPTH_TWO, ISOTROPIC, SINGLE, WEIGHTED, ALS, WEIGHT_DECAY, COINCIDENCE)
