"""Label noise, 1-SAM and a trace penalty follow the flow; full-batch SAM does not."""

import jax
import numpy as np
import pytest

import flatrank as fr
from flatrank.papers import _drift as drift


@pytest.fixture(scope="module")
def problem():
    return drift.zero_loss_problem(2)


@pytest.mark.slow
def test_the_start_interpolates_and_is_not_flat(problem):
    A, y, network = problem.A, problem.y, problem.network
    assert float(fr.loss(network, A, y)) < 1e-28
    flattest = fr.recover(A, y, 2, fr.Flatness()).network
    assert fr.trace_of_hessian(network, A) > 2 * fr.trace_of_hessian(flattest, A)


@pytest.mark.slow
def test_the_difference_to_the_flow_falls_with_the_learning_rate(problem):
    found = drift.agreement(problem, (8e-3, 2e-3), runs=8)
    for name in ("trace penalty", "label noise", "1-SAM"):
        coarse, fine = (one for one in found if one.optimizer == name)
        assert coarse.flow[-1] < 0.4 * coarse.flow[0]
        noise = 4 * (coarse.standard_error + fine.standard_error)
        # In proportion: a quarter, for a quarter of the learning rate.
        assert abs(fine.mean) < 0.35 * abs(coarse.mean) + noise
        assert fine.largest < (0.1 if name == "1-SAM" else 0.05)
    slope, _ = drift.exponent([one for one in found if one.optimizer == "1-SAM"])
    assert 0.8 < slope < 1.2


@pytest.mark.slow
def test_a_wrong_constant_does_not_agree(problem):
    A, y, start = problem.A, problem.y, problem.network
    flow = fr.train(start, A, y, fr.dynamics.FlatFlow(0.001), steps=20, record=("trace",))
    wrong = fr.LabelNoise(2e-3, (2 * 2 * 4 * 0.1) ** 0.5, 4)  # twice the drift
    keys = jax.random.split(jax.random.key(0), 8)
    run = fr.train(start, A, y, wrong, steps=50_000, record=("trace",), key=keys)
    end = run.history["trace"][:, -1].mean()
    assert abs(end / flow.history["trace"][-1] - 1) > 0.05


@pytest.mark.slow
def test_full_batch_sam_lowers_the_largest_eigenvalue_and_1_sam_the_trace(problem):
    found = drift.sharpness(problem, 2e-3, 0.05, 50_000, runs=2)
    full, single = found.full_batch, found.single
    assert full["largest_eigenvalue"][-1] < 0.7 * full["largest_eigenvalue"][0]
    assert single["trace"][-1] < 0.5 * full["trace"][-1]
    assert full["largest_eigenvalue"][-1] < 0.95 * single["largest_eigenvalue"][-1]


@pytest.mark.slow
def test_the_flow_comes_to_its_limit_exponentially(problem):
    found = drift.decay(problem)
    assert found.fit > 0.999
    np.testing.assert_allclose(found.measured, found.predicted, rtol=0.03)
