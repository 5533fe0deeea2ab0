"""Recovery against the truth, an independent convex solver, and closed forms."""

import cvxpy
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from flatrank.problems import draw_problem, low_rank_matrix
from flatrank.recovery import Lagrangian


def relative_error(found, truth):
    return float(jnp.linalg.norm(found - truth) / jnp.linalg.norm(truth))


@pytest.fixture(scope="module")
def sensing():
    """The sensing problem of the specification: 60 x 60, rank 3, 1200 Gaussian measurements."""
    truth = low_rank_matrix(jax.random.key(0), (60, 60), 3)
    A = fr.gaussian_measurements(jax.random.key(1), 1200, (60, 60)).prepared()
    return truth, A, A.apply(truth)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_flattest_interpolator_of_gaussian_measurements_is_the_low_rank_truth(sensing, depth):
    truth, A, y = sensing
    solution = fr.recover(A, y, depth, fr.Flatness())
    assert solution.result == fr.recovery.Result.low_rank
    assert relative_error(solution.matrix, truth) <= 1e-8
    assert int(fr.norms.numerical_rank(solution.matrix)) == 3
    assert int(solution.rank) == 3
    flattest = fr.trace_of_hessian(fr.flatten(solution.network, A), A)
    np.testing.assert_allclose(solution.penalty, flattest, rtol=1e-10)


@pytest.mark.slow
def test_below_the_threshold_the_flattest_interpolator_is_the_nuclear_norm_minimiser():
    """Too few measurements for the truth: no low-rank finish may replace the true minimiser."""
    truth = low_rank_matrix(jax.random.key(2), (10, 10), 2)
    A = fr.gaussian_measurements(jax.random.key(3), 45, (10, 10))
    y = A.apply(truth)
    R, C = A.second_moment(jnp.eye(10)), A.second_moment_adjoint(jnp.eye(10))
    R_root, C_root = (jnp.linalg.cholesky(x).T for x in (R, C))
    X = cvxpy.Variable((10, 10))
    constraints = [cvxpy.sum(cvxpy.multiply(a, X)) == v for a, v in zip(A.matrices, y, strict=True)]
    objective = cvxpy.normNuc(np.asarray(R_root) @ X @ np.asarray(C_root).T)
    convex = cvxpy.Problem(cvxpy.Minimize(objective), constraints)
    convex.solve(solver=cvxpy.CLARABEL)
    solution = fr.recover(A, y, 2, fr.Flatness(), tolerance=1e-8, method=Lagrangian(80, 400))
    assert bool(solution.successful), solution.message
    assert relative_error(jnp.asarray(X.value), truth) > 0.05
    np.testing.assert_allclose(solution.penalty, 4 * convex.value, rtol=1e-5)
    assert relative_error(solution.matrix, jnp.asarray(X.value)) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [fr.Flatness(), fr.WeightDecay()])
def test_missing_entries(penalty):
    truth = low_rank_matrix(jax.random.key(4), (40, 30), 2)
    mask = np.random.default_rng(0).random((40, 30)) < 0.6
    A = fr.EntryMeasurements.from_mask(mask)
    solution = fr.recover(A, A.apply(truth), depth=3, penalty=penalty)
    assert bool(solution.successful), solution.message
    assert relative_error(solution.matrix, truth) <= 1e-10


@pytest.mark.slow
def test_rank_one_measurements():
    truth = low_rank_matrix(jax.random.key(5), (15, 12), 1)
    left, right = (jax.random.normal(jax.random.key(i), (120, d)) for i, d in ((6, 15), (7, 12)))
    A = fr.RankOneMeasurements(left, right)
    solution = fr.recover(A, A.apply(truth), 2, fr.Flatness())
    assert relative_error(solution.matrix, truth) <= 1e-10


@pytest.mark.slow
def test_scale_of_the_measurements_does_not_matter():
    truth = 1e6 * low_rank_matrix(jax.random.key(8), (12, 12), 1)
    A = fr.gaussian_measurements(jax.random.key(9), 90, (12, 12))
    solution = fr.recover(A, A.apply(truth), 3, fr.Flatness())
    assert relative_error(solution.matrix, truth) <= 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
def test_float32_scale_does_not_matter(scale):
    truth = low_rank_matrix(jax.random.key(8), (12, 12), 1).astype(jnp.float32)
    matrices = jax.random.normal(jax.random.key(9), (90, 12, 12), jnp.float32)
    A = fr.DenseMeasurements(matrices)
    solution = fr.recover(A, A.apply(truth) * jnp.float32(scale), 2, fr.Flatness())
    assert bool(solution.successful), solution.message
    assert relative_error(solution.matrix / jnp.float32(scale), truth) <= 1e-4


@pytest.mark.slow
def test_random_start_is_reproducible_and_finds_the_same():
    truth = low_rank_matrix(jax.random.key(8), (12, 12), 1)
    A = fr.gaussian_measurements(jax.random.key(9), 90, (12, 12))
    y = A.apply(truth)
    first, again = (fr.recover(A, y, 2, fr.Flatness(), key=jax.random.key(1)) for _ in range(2))
    assert (first.matrix == again.matrix).all()
    assert relative_error(first.matrix, truth) <= 1e-10


@pytest.mark.slow
def test_vmap_equals_the_loop_and_jit_works_from_outside():
    A = fr.gaussian_measurements(jax.random.key(0), 60, (8, 8)).prepared()
    truths = jnp.stack([low_rank_matrix(jax.random.key(i), (8, 8), 1) for i in range(3)])
    ys = jax.vmap(A.apply)(truths)
    batch = eqx.filter_jit(jax.vmap(lambda y: fr.recover(A, y, 2, fr.Flatness()).matrix))(ys)
    for i in range(3):
        alone = fr.recover(A, ys[i], 2, fr.Flatness())
        np.testing.assert_allclose(batch[i], alone.matrix, atol=1e-9)
        assert relative_error(batch[i], truths[i]) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "penalty"), [(2, "flatness"), (3, "weight-decay")])
def test_zero_measurements_give_the_zero_matrix(depth, penalty):
    A = fr.gaussian_measurements(jax.random.key(0), 30, (6, 6))
    solution = fr.recover(A, jnp.zeros(30), depth, penalty)
    assert solution.result == fr.recovery.Result.converged
    assert float(jnp.max(jnp.abs(solution.matrix))) == 0
    assert (int(solution.rank), float(solution.residual)) == (0, 0)


@pytest.mark.slow
def test_failure_is_reported_not_returned_as_success():
    A = fr.gaussian_measurements(jax.random.key(0), 30, (6, 6))
    y = A.apply(jax.random.normal(jax.random.key(1), (6, 6)))
    solution = fr.recover(A, y, 2, fr.Flatness(), method=Lagrangian(1, 2))
    assert solution.result == fr.recovery.Result.step_limit
    assert "raise the limits that `method` has" in solution.message
    assert not bool(solution.successful)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [fr.Flatness(), fr.WeightDecay()])
def test_given_strength_soft_thresholds_the_singular_values(penalty):
    """Isotropic, depth 2: min ||W - M||^2 + strength * penalty is a soft threshold."""
    shape = (7, 5)
    A = fr.IsotropicMeasurements(shape)
    truth = jax.random.normal(jax.random.key(0), shape)
    strength = 0.05 if isinstance(penalty, fr.Flatness) else 0.6
    # F = 4 sqrt(m n) ||W||_*, or 2 ||W||_*; half of it is the threshold.
    factor = 4 * 35**0.5 if isinstance(penalty, fr.Flatness) else 2.0
    u, s, vt = jnp.linalg.svd(truth, full_matrices=False)
    expected = (u * jnp.maximum(s - strength * factor / 2, 0)[None]) @ vt
    solution = fr.recover(A, A.apply(truth), 2, penalty, strength=strength, tolerance=1e-7)
    assert solution.result == fr.recovery.Result.converged, solution.message
    assert relative_error(solution.matrix, expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_noise_is_met_by_the_loss(depth):
    truth = low_rank_matrix(jax.random.key(1), (12, 10), 1)
    A = fr.gaussian_measurements(jax.random.key(2), 100, (12, 10))
    noise = 0.05
    y = A.apply(truth) + noise * jax.random.normal(jax.random.key(3), (100,))
    solution = fr.recover(A, y, depth, fr.Flatness(), noise=noise, tolerance=1e-5)
    assert solution.result == fr.recovery.Result.converged, solution.message
    np.testing.assert_allclose(fr.loss(solution.network, A, y), noise**2, rtol=0.02)
    assert relative_error(solution.matrix, truth) < 0.05
    assert float(solution.strength) > 0


@pytest.mark.slow
def test_gradients_of_noisy_recovery_flow():
    """`recover` is a function of y that `jax.jvp` can push a direction through."""
    A = fr.IsotropicMeasurements((3, 3))
    y = A.apply(jnp.diag(jnp.asarray([3.0, 2.0, 1.0])))

    def recovered(y):
        return fr.recover(A, y, 2, fr.Flatness(), strength=0.01, tolerance=1e-9).matrix

    _, tangent = jax.jvp(recovered, (y,), (y,))
    step = 1e-4
    difference = (recovered(y * (1 + step)) - recovered(y * (1 - step))) / (2 * step)
    np.testing.assert_allclose(tangent, difference, atol=1e-3)


ENTRIES = fr.EntryMeasurements([0, 1], [0, 1], (2, 2))
BAD = [
    ({"y": [1.0, np.nan]}, ValueError, "`y` has 1 NaN"),
    ({"y": [1.0]}, ValueError, "`y` has 1 values and `A` has 2"),
    ({"y": [1j, 1.0]}, TypeError, "complex"),
    ({"y": np.array([{}, 1], object)}, TypeError, "object"),
    ({"depth": 1}, ValueError, "`depth` must be at least 2"),
    ({"width": 0}, ValueError, "`width`"),
    ({"noise": -1.0}, ValueError, "`noise` must be positive"),
    ({"noise": 9.0}, ValueError, "noise alone would explain"),
    ({"noise": 0.1, "strength": 0.1}, ValueError, "both given"),
    (
        {"start": fr.DeepLinear.gaussian(jax.random.key(0), (2, 2), 3)},
        ValueError,
        "`start` has depth",
    ),
    ({"A": fr.EntryMeasurements([0, 0], [0, 1], (2, 2))}, ValueError, "no entry of row 1"),
    ({"A": fr.EntryMeasurements([0, 1], [0, 0], (2, 2))}, ValueError, "no entry of column 1"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD)
def test_bad_input_is_named_with_its_remedy(change, error, words):
    arguments = {"A": ENTRIES, "y": [1.0, 2.0]} | change
    with pytest.raises(error) as caught:
        fr.recover(**arguments)
    assert words in str(caught.value)


def drawn(seed, number, ensemble, count):
    """A 12 x 12 problem of rank 2 as `flatrank reproduce` draws it: measurements, values, truth."""
    key = jax.random.fold_in(jax.random.key(seed), number)
    A, truth = draw_problem(key, ensemble, (12, 12), 2, count)
    return A, A.apply(truth), truth


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 4])
def test_an_unfinished_minimum_is_not_taken_for_a_bound(number):
    # The truth interpolates these entries and is not their flattest interpolator; with growing penalty
    # parameters the inner minimum is no longer found, and the Lagrangian rises past the truth's trace.
    A, y, truth = drawn(0, number, "entries", 72)
    solution = fr.recover(A, y, 2, fr.Flatness(), width=12)
    assert int(solution.rank) == 0
    assert solution.penalty < 0.999 * fr.induced_regularizer(truth, A, 2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 6])
def test_without_a_low_rank_answer_the_penalty_is_the_least(number):
    # The truth interpolates these 48 of a symmetric matrix's 78 numbers, and is not the flattest one.
    A, y, _ = drawn(100, number, "quadratic", 48)
    solution = fr.recover(A, y, 2, fr.Flatness(), width=12)
    assert bool(solution.successful)
    assert int(solution.rank) == 0
    roots = [
        (vectors * np.sqrt(values)) @ vectors.T
        for values, vectors in map(
            np.linalg.eigh, (A.second_moment(jnp.eye(12)), A.second_moment_adjoint(jnp.eye(12)))
        )
    ]
    X = cvxpy.Variable((12, 12))
    inputs = np.asarray(A.left)
    met = cvxpy.sum(cvxpy.multiply(inputs @ X, inputs), axis=1) == np.asarray(y)
    least = cvxpy.Problem(cvxpy.Minimize(4 * cvxpy.normNuc(roots[0] @ X @ roots[1])), [met])
    least.solve(solver="SCS", eps=1e-7, max_iters=50_000)
    np.testing.assert_allclose(solution.penalty, least.value, rtol=1e-4)


@pytest.mark.slow
def test_met_measurements_alone_are_no_convergence():
    A, y, _ = drawn(3, 0, "quadratic", 48)
    solution = fr.recover(
        A, y, 2, fr.Flatness(), width=12, tolerance=1e-2, method=Lagrangian(8, 10)
    )
    assert solution.residual <= 1e-2
    assert not bool(solution.successful)
