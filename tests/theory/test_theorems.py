"""Every theorem holds on random instances, and its check fails when its formula is changed."""

import dataclasses
import itertools

import cvxpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from flatrank.theory import Outcome, Relation, Theorem
from flatrank.theory import _curvature as curvature
from flatrank.theory._instances import balanced_layers, from_quadratic_form, instance
from flatrank.theory._isometry import blind_pair_form
from flatrank.theory._reference import smallest_trace, trace_by_autodiff
from flatrank.theory._theorem import Sides

BY_NAME = {theorem.name: theorem for theorem in fr.theory.THEOREMS}


def transposed(A):
    """The measurements with A_i^T in place of A_i, where they are square."""
    if A.shape[0] != A.shape[1] or isinstance(A, fr.IsotropicMeasurements):
        return A
    if isinstance(A, fr.DenseMeasurements):
        return fr.DenseMeasurements(jnp.swapaxes(A.matrices, 1, 2))
    if isinstance(A, fr.RankOneMeasurements):
        return fr.RankOneMeasurements(A.right, A.left)
    return fr.EntryMeasurements(A.columns, A.rows, A.shape)


def times(factor):
    return lambda f: lambda *args: factor * f(*args)


def without_trailing_transpose(M, A, L):
    chain = jnp.linalg.matrix_power(A.matrices[0].T @ M, L - 1)
    return 2 * L * fr.norms.schatten_norm(chain, 2 / L) ** (2 / L)


def nuclear_norm_for_entries(M, A):
    """Every row and column with the average weight."""
    m, n = A.shape
    return 4 / A.count * (A.count**2 / (m * n)) ** 0.5 * fr.norms.nuclear_norm(M)


# How the formula of each theorem is spoilt; every spoilt one has to be refuted.
MUTATIONS = {
    "trace formula": {
        "missing factor 2": times(0.5),
        "a layer left out": lambda f: lambda W, A: jnp.sum(fr.flatness.layer_traces(W, A)[1:]),
        "transposed A": lambda f: lambda W, A: f(W, transposed(A)),
    },
    "F at depth 2": {
        "missing factor 2": times(0.5),
        "transposed A": lambda f: lambda M, A, L: f(M, transposed(A), L),
        "exponent 1 for 1/2": lambda f: (
            lambda M, A, L: (
                4
                * fr.norms.nuclear_norm(
                    A.second_moment(jnp.eye(A.shape[1]))
                    @ M
                    @ A.second_moment_adjoint(jnp.eye(A.shape[0]))
                )
            )
        ),
    },
    "F, isotropic": {
        "missing factor 2": times(0.5),
        "exponent (L-1)/L": lambda f: (
            lambda M, A, L: f(M, A, L) / fr.norms.nuclear_norm(M) ** ((L - 1) / L)
        ),
        "m for m n": lambda f: lambda M, A, L: f(M, A, L) / A.shape[1] ** (1 / L),
        "Schatten-2/L norm": lambda f: (
            lambda M, A, L: f(M / fr.norms.nuclear_norm(M) * fr.norms.schatten_norm(M, 2 / L), A, L)
        ),
    },
    "F, one measurement": {
        "missing factor 2": times(0.5),
        "no trailing transpose": lambda f: without_trailing_transpose,
        "transposed A": lambda f: lambda M, A, L: f(M, transposed(A), L),
        "exponent 1/L": lambda f: lambda M, A, L: 2 * L * (f(M, A, L) / (2 * L)) ** 0.5,
    },
    "F, missing entries": {
        "missing factor 2": times(0.5),
        "nuclear norm": lambda f: nuclear_norm_for_entries,
        "transposed A": lambda f: lambda M, A: f(M, transposed(A)),
    },
    "ALS-WR is flatness": {
        "missing factor 2": times(0.5),
        "transposed A": lambda f: lambda U, V, A: f(U, V, transposed(A)),
        "rows not weighted": lambda f: (
            lambda U, V, A: jnp.sum(U**2) + A.column_counts() @ jnp.sum(V**2, axis=1)
        ),
    },
    "weight decay": {
        "missing factor L": lambda f: lambda M, L: f(M, L) / L,
        "missing factor 2": times(0.5),
        "Schatten-1/L": lambda f: lambda M, L: L * fr.norms.schatten_norm(M, 1 / L) ** (1 / L),
        "no exponent": lambda f: lambda M, L: L * (f(M, L) / L) ** (L / 2 + 0.5),
    },
    "flat and balanced": {
        "missing factor 2": times(0.5),
        "R for C": lambda f: lambda R, C: f(R, R),
        "geometric mean above": lambda f: (
            lambda R, C: (np.linalg.cond(R) * np.linalg.cond(C)) ** 0.5
        ),
    },
    "RIP sandwich on F": {
        "missing factor 2": lambda f: lambda *args: tuple(0.5 * side for side in f(*args)),
        "half of delta below": lambda f: lambda s, d, *sizes: (f(s, d / 2, *sizes)[0], np.inf),
        "half of delta above": lambda f: lambda s, d, *sizes: (0.0, f(s, d / 2, *sizes)[1]),
        "exponent (L-1)/L": lambda f: lambda s, *rest: f(s**0.5, *rest),
    },
    "nuclear norm of the flattest": {
        "missing factor 2": times(0.5),
        "exponent upside down": lambda f: lambda d, L: ((1 + d) / (1 - d)) ** ((L - 1) / (2 * L)),
        "no factor": lambda f: lambda d, L: 1.0,
    },
    "recovery bound": {
        "missing factor 2": times(0.5),
        "delta for its root": lambda f: lambda s, d, L: d**0.5 * f(s, d, L),
        "nuclear norm only once": lambda f: lambda s, d, L: d**0.5 * s,
    },
    "RIP, Gaussian": {
        "missing factor 2": lambda f: lambda *args: f(*args) - ((1 + f(*args)) ** 0.5 - 1),
        "1/N for its root": lambda f: lambda m, n, N, r, p: f(m, n, N, r, p) / N**0.5,
    },
    "population risk": {
        "missing factor 2": lambda f: lambda *args: f(*args) / 4,
        "rate 1/N^2": lambda f: lambda *args: f(*args) ** 2,
    },
    "certificate of flatness": {
        "missing factor 2": times(2.0),
        "roots left out": lambda f: (
            lambda A, y, v, L, d: 4 * jnp.vdot(y, v) / jnp.linalg.norm(A.adjoint(v), 2)
        ),
        "1 + delta": lambda f: (
            lambda A, y, v, L, d: f(A, y, v, L, d) * (1.0 if d is None else (1 + d) / (1 - d))
        ),
    },
    "singular-value dynamics": {
        "missing factor L": lambda f: lambda s, g, L: f(s, g, L) / L,
        "missing factor 2": times(0.5),
        "wrong sign": times(-1.0),
        "exponent 1/L": lambda f: lambda s, g, L: -L * (s**2) ** (1 / (2 * L)) * g,
    },
    "balancedness law": {
        "transposed": lambda f: (
            lambda W: [(a @ a.T)[:3, :3] - b.T @ b for b, a in itertools.pairwise(W)]
        ),
        "missing factor": lambda f: (
            lambda W: [2 * a.T @ a - b @ b.T for b, a in itertools.pairwise(W)]
        ),
        "a sum": lambda f: lambda W: [a.T @ a + b @ b.T for b, a in itertools.pairwise(W)],
    },
    "label-noise drift": {"missing factor 2": times(2.0), "wrong sign": times(-1.0)},
    "1-SAM drift": {"missing factor 2": times(2.0), "wrong sign": times(-1.0)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NAME)
def test_holds_on_fresh_instances(name):
    found = BY_NAME[name].check(jax.random.key(7))
    assert found.outcome is Outcome.holds, found
    assert found.instances >= 2
    assert found.worst_slack == np.min(found.slack[found.met])


@pytest.mark.parametrize(
    ("name", "mutation"), [(name, kind) for name, kinds in MUTATIONS.items() for kind in kinds]
)
def test_fails_when_its_formula_is_changed(name, mutation):
    theorem = BY_NAME[name]
    changed = dataclasses.replace(theorem, formula=MUTATIONS[name][mutation](theorem.formula))
    assert changed.check(jax.random.key(8)).outcome is Outcome.fails


def test_every_theorem_has_mutations_and_words():
    assert set(MUTATIONS) == set(BY_NAME)
    assert len(BY_NAME) == len(fr.theory.THEOREMS)
    for theorem in fr.theory.THEOREMS:
        for words in (theorem.statement, theorem.latex, theorem.hypotheses, theorem.source):
            assert words


def _made_up(left, right, met=None):
    sides = Sides(np.asarray(left), np.asarray(right), met)
    return Theorem(
        "made up", "", "", "", "", Relation.at_most, 1e-9, len, lambda f, rng, quick: sides
    ).check(jax.random.key(0))


def test_verdicts():
    assert _made_up([1.0, 2.0], [1.0, 3.0]).outcome is Outcome.holds
    assert _made_up([1.0, 2.0], [1.0, 1.9]).outcome is Outcome.fails
    assert _made_up([1.0, np.nan], [1.0, 1.0]).outcome is Outcome.fails
    assert _made_up([2.0], [1.0], np.asarray([False])).outcome is Outcome.not_applicable
    assert _made_up([2.0], [np.inf]).outcome is Outcome.not_applicable
    half = _made_up([1.0, 2.0], [1.0, 1.0], np.asarray([True, False]))
    assert (half.outcome, half.instances, half.worst_slack) == (Outcome.holds, 1, 0.0)


def test_instances_are_those_of_the_key():
    first, again, other = (curvature.ALS.check(jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first.left, again.left)
    assert not np.array_equal(first.left, other.left)


def test_depth_changes_flatness_of_missing_entries():
    """F^{L/(2(L-1))} has the same ratios at every depth if isotropic, not with missing entries."""
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, 4, 3))

    def ratio(kind, depth):
        matrices = instance(kind, np.random.default_rng(1), (4, 3)).matrices
        F = [smallest_trace(matrices, M, depth) for M in (one, other)]
        return (F[0] / F[1]) ** (depth / (2 * (depth - 1)))

    np.testing.assert_allclose(ratio("isotropic", 2), ratio("isotropic", 3), rtol=1e-8)
    assert abs(ratio("entries", 2) / ratio("entries", 3) - 1) > 1e-3


def test_balanced_is_not_flat_at_depth_three_even_if_isotropic():
    rng = np.random.default_rng(0)
    matrices = instance("isotropic", rng, (3, 3)).matrices
    matrix = np.diag([3.0, 1.0, 0.2])
    balanced = trace_by_autodiff(balanced_layers(matrix, 3), matrices, np.zeros(9))
    assert balanced > 1.01 * smallest_trace(matrices, matrix, 3)


def test_the_flattest_interpolator_against_a_convex_solver():
    """Depth 2 by cvxpy: the flattest interpolator obeys the RIP factor and meets its certificate."""
    form, flat, small = blind_pair_form(4, 0.3)
    A = fr.DenseMeasurements(from_quadratic_form(form, (4, 4)))
    y = A.apply(jnp.asarray(small))
    np.testing.assert_allclose(y, A.apply(jnp.asarray(flat)), atol=1e-6)
    R, C = A.second_moment(jnp.eye(4)), A.second_moment_adjoint(jnp.eye(4))
    roots = [np.linalg.cholesky(moment).T for moment in (R, C)]

    def least(left, right):
        X = cvxpy.Variable((4, 4))
        # A is symmetric in its vectorisation: its rows in another order than cvxpy's columns.
        agrees = np.asarray(A.matrices).reshape(16, 16) @ cvxpy.vec(X, order="C") == np.asarray(y)
        problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(left @ X @ right.T)), [agrees])
        problem.solve(solver=cvxpy.SCS, eps=1e-8, max_iters=20000)
        return X.value, problem.value, agrees.dual_value

    flattest, value, multipliers = least(*roots)
    _, nuclear_norm, _ = least(np.eye(4), np.eye(4))
    ratio = np.linalg.svd(flattest, compute_uv=False).sum() / nuclear_norm
    assert 1.05 < ratio <= (1 + 0.3) / (1 - 0.3)
    bounds = [float(fr.theory.trace_lower_bound(A, y, sign * multipliers)) for sign in (1, -1)]
    np.testing.assert_allclose(max(bounds), 4 * value, rtol=1e-3)


def test_bounds_need_an_isometry_constant_beyond_depth_two():
    A = fr.IsotropicMeasurements((3, 3))
    y = A.apply(jnp.eye(3))
    exact = float(fr.induced_regularizer(jnp.eye(3), A, 3))
    np.testing.assert_allclose(fr.theory.trace_lower_bound(A, y, y, 3, 0.0), exact)
    with pytest.raises(ValueError, match="`delta` in"):
        fr.theory.trace_lower_bound(A, y, y, 3)
    with pytest.raises(ValueError, match="4 values"):
        fr.theory.trace_lower_bound(A, y, jnp.ones(4))


def test_float32_is_refused():
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64"):
        curvature.ALS.check(jax.random.key(0))
