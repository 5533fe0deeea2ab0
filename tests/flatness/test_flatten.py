"""Flattening keeps the matrix and ends at the induced regulariser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import flatrank as fr


def nuclear(matrix):
    return np.linalg.norm(matrix, "nuc")


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "width"), [(2, 6), (3, 2), (4, 6)])
def test_matrix_is_kept_and_trace_not_raised(ensemble, depth, width):
    A = ensemble(4, 3)
    network = fr.DeepLinear.gaussian(jax.random.key(depth), (4, 3), depth, width)
    flat = fr.flatten(network, A)
    np.testing.assert_allclose(flat.matrix(), network.matrix(), atol=1e-12)
    assert [w.shape for w in flat.layers] == [w.shape for w in network.layers]
    assert fr.trace_of_hessian(flat, A) <= fr.trace_of_hessian(network, A) * (1 + 1e-12)


def test_no_sweep_raises_the_trace(ensemble):
    A = ensemble(4, 3)
    network = fr.DeepLinear.gaussian(jax.random.key(0), (4, 3), 4)
    after = jnp.stack(
        [fr.trace_of_hessian(fr.flatten(network, A, sweeps), A) for sweeps in (0, 1, 2, 4)]
    )
    assert after[0] < fr.trace_of_hessian(network, A)
    assert (jnp.diff(after) <= 1e-13 * after[0]).all()


@pytest.mark.parametrize("width", [2, 6])
def test_depth_2_closed_form(ensemble, width):
    """F(M) = 4 || K(I)^{1/2} M K*(I)^{1/2} ||_* for any ensemble."""
    A = ensemble(4, 3)
    network = fr.DeepLinear.gaussian(jax.random.key(1), (4, 3), 2, width)
    R = scipy.linalg.sqrtm(np.asarray(A.second_moment(jnp.eye(3))))
    C = scipy.linalg.sqrtm(np.asarray(A.second_moment_adjoint(jnp.eye(4))))
    expected = 4 * nuclear(R @ network.matrix() @ C)
    np.testing.assert_allclose(fr.trace_of_hessian(fr.flatten(network, A), A), expected, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3, 4, 5, 6])
def test_isotropic_closed_form(depth):
    """F(M) = 2 L (m n)^{1/L} ||M||_*^{2 (L-1) / L}."""
    A = fr.IsotropicMeasurements((5, 3))
    network = fr.DeepLinear.gaussian(jax.random.key(depth), (5, 3), depth, 4)
    expected = 2 * depth * 15 ** (1 / depth) * nuclear(network.matrix()) ** (2 - 2 / depth)
    np.testing.assert_allclose(fr.trace_of_hessian(fr.flatten(network, A), A), expected, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "count"), [(3, 7), (4, 3)])
def test_brute_force_over_the_group_finds_nothing_flatter(depth, count):
    A = fr.gaussian_measurements(jax.random.key(7), count, (3, 3))
    network = fr.DeepLinear.gaussian(jax.random.key(0), (3, 3), depth, 2)

    @jax.jit
    def trace(flat):
        changes = [jax.scipy.linalg.expm(x) for x in flat.reshape(depth - 1, 2, 2)]
        layers = list(network.layers)
        for j, change in enumerate(changes):
            layers[j] = change @ layers[j]
            layers[j + 1] = layers[j + 1] @ jnp.linalg.inv(change)
        return fr.trace_of_hessian(fr.DeepLinear(tuple(layers)), A)

    best = min(
        scipy.optimize.minimize(
            trace, start, jac=jax.jit(jax.grad(trace)), method="BFGS", options={"gtol": 1e-9}
        ).fun
        for start in np.random.default_rng(0).normal(0, 0.5, (3, 4 * (depth - 1)))
    )
    found = float(fr.trace_of_hessian(fr.flatten(network, A), A))
    np.testing.assert_allclose(found, best, rtol=1e-8)


@pytest.mark.slow
def test_flattening_twice_changes_nothing(ensemble):
    A = ensemble(4, 3)
    once = fr.flatten(fr.DeepLinear.gaussian(jax.random.key(0), (4, 3), 3), A)
    twice = fr.flatten(once, A)
    np.testing.assert_allclose(
        fr.trace_of_hessian(twice, A), fr.trace_of_hessian(once, A), rtol=1e-12
    )


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_singular_moments_give_the_infimum(depth):
    """Row 2 has no entry: what the matrix has there costs nothing in the limit."""
    A = fr.EntryMeasurements([0, 0, 1, 1, 0], [0, 1, 1, 2, 2], (3, 3))
    matrix = jax.random.normal(jax.random.key(0), (3, 3))
    network = fr.DeepLinear.balanced(matrix, depth)
    flat = fr.flatten(network, A, max_sweeps=1000)
    np.testing.assert_allclose(flat.matrix(), matrix, atol=1e-10)
    seen = fr.EntryMeasurements([0, 0, 1, 1, 0], [0, 1, 1, 2, 2], (2, 3))
    expected = fr.induced_regularizer(matrix[:2], seen, depth)
    np.testing.assert_allclose(fr.trace_of_hessian(flat, A), expected, rtol=1e-5)
