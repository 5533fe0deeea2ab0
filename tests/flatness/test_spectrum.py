"""Products, eigenvalues and densities against the whole Hessian."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import flatrank as fr


@pytest.fixture
def small(ensemble):
    A = ensemble(4, 3)
    network = fr.DeepLinear.gaussian(jax.random.key(0), (4, 3), 3, 2)
    return network, A, jax.random.normal(jax.random.key(1), (A.count,))


@pytest.fixture(scope="module", params=[(300, 0.0), (30, 1.0)], ids=["full rank", "interpolating"])
def large(request):
    """More parameters than the exact path takes; 30 measurements leave a Hessian of low rank."""
    count, exact = request.param
    A = fr.gaussian_measurements(jax.random.key(2), count, (20, 12))
    network = fr.DeepLinear.gaussian(jax.random.key(3), (20, 12), 2, 14)
    y = exact * A.apply(network.matrix())
    return network, A, y, np.linalg.eigvalsh(fr.flatness.dense_hessian(network, A, y))[::-1]


@pytest.mark.slow
def test_operator_multiplies_by_the_hessian(small):
    network, A, y = small
    operator = fr.flatness.hessian_operator(network, A, y)
    direction = jax.tree.map(lambda w: jnp.cos(jnp.arange(w.size)).reshape(w.shape), network)
    expected = fr.flatness.dense_hessian(network, A, y) @ ravel_pytree(direction)[0]
    found = ravel_pytree(operator.mv(direction))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(
        jnp.trace(fr.flatness.dense_hessian(network, A, y)),
        fr.trace_of_hessian(network, A),
        rtol=1e-12,
    )


@pytest.mark.slow
def test_largest_eigenvalues_of_a_small_network_are_exact(small):
    network, A, y = small
    expected = np.linalg.eigvalsh(fr.flatness.dense_hessian(network, A, y))[::-1]
    found = fr.flatness.largest_eigenvalues(network, A, y, 3)
    np.testing.assert_allclose(found.values, expected[:3], rtol=1e-11)
    np.testing.assert_allclose(
        fr.flatness.largest_eigenvalue(network, A, y), expected[0], rtol=1e-11
    )


@pytest.mark.slow
def test_largest_eigenvalues_by_lanczos(large):
    network, A, y, expected = large
    found = eqx.filter_jit(lambda network: fr.flatness.largest_eigenvalues(network, A, y, 4))(
        network
    )
    np.testing.assert_allclose(found.values, expected[:4], rtol=1e-10)
    assert float(jnp.max(found.residuals)) < 1e-7 * expected[0]
    operator = fr.flatness.hessian_operator(network, A, y)
    for i in range(4):
        vector = jax.tree.map(lambda x, i=i: x[i], found.vectors)
        image = ravel_pytree(operator.mv(vector))[0]
        np.testing.assert_allclose(image, found.values[i] * ravel_pytree(vector)[0], atol=1e-5)


@pytest.mark.slow
def test_density_moments_are_within_their_standard_error(large):
    network, A, y, expected = large
    density = fr.flatness.spectral_density(network, A, y, key=jax.random.key(0), probes=32)
    np.testing.assert_allclose(jnp.sum(density.weights, axis=1), 1.0, rtol=1e-10)
    for function in (lambda x: x, lambda x: x**2, jnp.tanh):
        mean, error = density.mean_of(function)
        assert abs(float(mean) - np.mean(np.asarray(function(expected)))) < 4 * float(error)
        assert float(error) > 0
    grid = jnp.linspace(expected[-1] - 100, expected[0] + 100, 2000)
    curve, error = density.smoothed(grid, 5.0)
    np.testing.assert_allclose(jnp.trapezoid(curve, grid), 1.0, rtol=1e-6)
    assert curve.shape == error.shape == grid.shape


def test_bad_input_is_named(small, monkeypatch):
    network, A, y = small
    with pytest.raises(ValueError, match="`count` is 999"):
        fr.flatness.largest_eigenvalues(network, A, y, 999)
    with pytest.raises(ValueError, match="`probes` is 1"):
        fr.flatness.spectral_density(network, A, y, key=jax.random.key(0), probes=1)
    monkeypatch.setattr("flatrank._checks.free_memory", lambda: 10)
    with pytest.raises(MemoryError, match="use `hessian_operator`"):
        fr.flatness.dense_hessian(network, A, y)
