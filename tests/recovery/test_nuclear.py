"""The least nuclear norm is found, and proved."""

import cvxpy
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from flatrank.recovery._nuclear_minimum import nuclear_minimum


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "entries"])
def test_it_agrees_with_a_convex_solver(kind):
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((8, 7)) @ np.diag([3, 2, 1, 0, 0, 0, 0.0])
    if kind == "dense":
        A = fr.DenseMeasurements(rng.standard_normal((25, 8, 7)))
    else:
        A = fr.EntryMeasurements.from_mask(rng.random((8, 7)) < 0.6)
    y = np.asarray(A.apply(jnp.asarray(truth)))
    found = nuclear_minimum(A, y, tolerance=1e-6)
    M = cvxpy.Variable((8, 7))
    if kind == "dense":
        constraints = [
            cvxpy.trace(A_i.T @ M) == v for A_i, v in zip(np.asarray(A.matrices), y, strict=True)
        ]
    else:
        constraints = [M[i, j] == v for i, j, v in zip(A.rows, A.columns, y, strict=True)]
    expected = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(M)), constraints).solve(
        solver=cvxpy.CLARABEL
    )
    np.testing.assert_allclose(A.apply(jnp.asarray(found.matrix)), y, atol=1e-9)
    np.testing.assert_allclose(found.nuclear_norm, expected, rtol=1e-5)
    assert found.lower_bound <= expected * (1 + 1e-7)
    assert found.gap <= 1e-6


def test_a_search_that_is_cut_short_says_so():
    rng = np.random.default_rng(0)
    A = fr.DenseMeasurements(rng.standard_normal((25, 8, 7)))
    y = rng.standard_normal(25)
    assert nuclear_minimum(A, y, tolerance=1e-9, max_steps=20).gap > 1e-9
    assert nuclear_minimum(A, np.zeros(25)).nuclear_norm == 0
