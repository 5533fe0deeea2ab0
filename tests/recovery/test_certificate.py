"""Certificates are small at minimisers, large elsewhere, and their bounds hold."""

import cvxpy
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from flatrank.problems import low_rank_matrix
from flatrank.recovery import Lagrangian

PENALTIES = [fr.Flatness(), fr.WeightDecay()]


@pytest.fixture(scope="module")
def problem():
    truth = low_rank_matrix(jax.random.key(0), (14, 12), 1)
    A = fr.gaussian_measurements(jax.random.key(1), 100, (14, 12))
    return A, A.apply(truth)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", PENALTIES, ids=["flatness", "weight decay"])
@pytest.mark.parametrize("depth", [2, 3])
def test_a_minimiser_is_certified(problem, penalty, depth):
    A, y = problem
    found = fr.certificate(fr.recover(A, y, depth, penalty), A, y, penalty)
    assert found.feasibility < 1e-12
    assert found.stationarity < 1e-8
    if depth == 2:
        assert -1e-10 < found.gap < 1e-6
    else:
        assert jnp.isnan(found.gap)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", PENALTIES, ids=["flatness", "weight decay"])
def test_another_interpolator_is_not(problem, penalty):
    """The least-squares interpolator meets the measurements and is not flat."""
    A, y = problem
    flat = A.matrices.reshape(A.count, -1)
    matrix = jnp.linalg.lstsq(flat, y)[0].reshape(A.shape)
    solution = fr.recover(A, y, 2, penalty)
    network = penalty.settle(fr.DeepLinear.balanced(matrix, 2), A)
    other = eqx.tree_at(lambda s: s.network, solution, network)
    found = fr.certificate(other, A, y, penalty)
    assert found.feasibility < 1e-10
    assert found.stationarity > 1e-2
    assert found.gap > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("penalty", PENALTIES, ids=["flatness", "weight decay"])
def test_the_lower_bound_is_below_the_convex_minimum(penalty):
    """Too few measurements: the bound is below what an independent solver reaches."""
    truth = low_rank_matrix(jax.random.key(2), (8, 7), 2)
    A = fr.gaussian_measurements(jax.random.key(3), 25, (8, 7))
    y = A.apply(truth)
    R, C = A.second_moment(jnp.eye(7)), A.second_moment_adjoint(jnp.eye(8))
    left, right, factor = np.eye(8), np.eye(7), 2.0
    if isinstance(penalty, fr.Flatness):
        left, right, factor = np.linalg.cholesky(R).T, np.linalg.cholesky(C).T, 4.0
    X = cvxpy.Variable((8, 7))
    constraints = [cvxpy.sum(cvxpy.multiply(a, X)) == v for a, v in zip(A.matrices, y, strict=True)]
    convex = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(left @ X @ right.T)), constraints)
    convex.solve(solver=cvxpy.CLARABEL)
    solution = fr.recover(A, y, 2, penalty, method=Lagrangian(80, 400))
    found = fr.certificate(solution, A, y, penalty)
    assert found.lower_bound <= factor * convex.value * (1 + 1e-6)
    assert found.lower_bound >= 0.9 * factor * convex.value


@pytest.mark.slow
def test_missing_entries_have_a_weighted_bound():
    truth = low_rank_matrix(jax.random.key(4), (30, 25), 1)
    mask = np.random.default_rng(0).random((30, 25)) < 0.6
    A = fr.EntryMeasurements.from_mask(mask)
    y = A.apply(truth)
    found = fr.certificate(fr.recover(A, y, 2, fr.Flatness()), A, y)
    assert found.feasibility < 1e-10
    assert -1e-10 < found.gap < 1e-3
