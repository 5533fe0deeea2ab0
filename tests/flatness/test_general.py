"""Curvature of any loss: against the whole Hessian, with errors that are as large as they say."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import flatrank as fr
from flatrank.flatness import general


def plain_loss(model, x, y):
    hidden = jnp.tanh(x @ model["first"]["weight"] + model["first"]["bias"][None])
    return jnp.mean((hidden @ model["second"] - y) ** 2)


@pytest.fixture(scope="module")
def data():
    x = jax.random.normal(jax.random.key(0), (20, 8))
    return x, jnp.sin(x[:, :2])


@pytest.fixture(scope="module")
def model():
    keys = jax.random.split(jax.random.key(1), 3)
    first = {
        "weight": jax.random.normal(keys[0], (8, 40)),
        "bias": jax.random.normal(keys[1], (40,)),
    }
    return {"first": first, "second": jax.random.normal(keys[2], (40, 2))}


@pytest.fixture(scope="module")
def hessian(model, data):
    flat, restore = ravel_pytree(model)
    return np.asarray(jax.hessian(lambda x: plain_loss(restore(x), *data))(flat))


@pytest.mark.slow
def test_dense_hessian_and_operator_equal_autodiff(model, data, hessian):
    np.testing.assert_allclose(general.dense_hessian(plain_loss, model, *data), hessian, atol=1e-12)
    operator = general.hessian_operator(plain_loss, model, *data)
    found = ravel_pytree(operator.mv(model))[0]
    np.testing.assert_allclose(found, hessian @ ravel_pytree(model)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_traces_are_as_close_as_their_standard_error_says(model, data, hessian):
    _, restore = ravel_pytree(model)
    blocks = jax.tree.map(jnp.sum, restore(jnp.asarray(np.diag(hessian))))
    deviations = []
    for seed in range(40):
        key = jax.random.key(seed)
        found = general.leaf_traces(plain_loss, model, *data, key=key, probes=16)
        deviations.append(
            jax.tree.map(lambda v, e, b: (v - b) / e, found.value, found.standard_error, blocks)
        )
        total = general.trace_of_hessian(plain_loss, model, *data, key=key, probes=16)
        np.testing.assert_allclose(total.value, sum(jax.tree.leaves(found.value)), rtol=1e-12)
    # Student's t of 15 degrees of freedom: standard deviation 1.07, of 40 of them within 0.6 to 1.6.
    for leaf in jax.tree.leaves(jax.tree.map(lambda *x: float(np.std(x)), *deviations)):
        assert 0.6 < leaf < 1.6
    means = jax.tree.leaves(jax.tree.map(lambda *x: float(np.mean(x)), *deviations))
    assert max(map(abs, means)) < 4 * 1.07 / 40**0.5


def test_traces_with_as_many_probes_as_parameters_are_exact(model, data, hessian):
    found = general.trace_of_hessian(
        plain_loss, model, *data, key=jax.random.key(0), probes=hessian.shape[0]
    )
    np.testing.assert_allclose(found.value, np.trace(hessian), rtol=1e-11)
    assert found.standard_error == 0


@pytest.mark.slow
def test_deep_linear_networks_take_the_exact_path(ensemble):
    A = ensemble(9, 8)
    network = fr.DeepLinear.gaussian(jax.random.key(0), (9, 8), 3)
    y = jnp.ones(A.count)
    found = general.leaf_traces(fr.loss, network, A, y, key=jax.random.key(0), probes=2)
    np.testing.assert_array_equal(
        jnp.stack(found.value.layers), fr.flatness.layer_traces(network, A)
    )
    assert all(error == 0 for error in found.standard_error.layers)
    total = general.trace_of_hessian(fr.loss, network, A, y, key=jax.random.key(0), probes=2)
    np.testing.assert_allclose(total.value, fr.trace_of_hessian(network, A), rtol=1e-14)


@pytest.mark.slow
def test_estimate_of_a_deep_linear_network_in_a_loss_of_ones_own():
    A = fr.gaussian_measurements(jax.random.key(0), 50, (6, 5))
    network = fr.DeepLinear.gaussian(jax.random.key(1), (6, 5), 3)
    own = lambda network: jnp.mean(A.apply(network.matrix()) ** 2)  # noqa: E731
    found = general.trace_of_hessian(own, network, key=jax.random.key(2), probes=64)
    assert found.standard_error > 0
    exact = fr.trace_of_hessian(network, A)
    assert abs(float(found.value - exact)) < 4 * float(found.standard_error)


@pytest.mark.slow
def test_eigenvalues_and_density(model, data, hessian):
    expected = np.linalg.eigvalsh(hessian)[::-1]
    found = general.largest_eigenvalues(plain_loss, model, *data, count=3)
    np.testing.assert_allclose(found.values, expected[:3], rtol=1e-10)
    np.testing.assert_allclose(
        general.largest_eigenvalue(plain_loss, model, *data), expected[0], rtol=1e-10
    )
    density = general.spectral_density(plain_loss, model, *data, key=jax.random.key(0))
    mean, error = density.mean_of(lambda x: x**2)
    assert abs(float(mean) - np.mean(expected**2)) < 4 * float(error)


@pytest.mark.slow
def test_equinox_modules_with_other_leaves(data):
    x, y = data
    network = eqx.nn.MLP(8, 2, 5, 1, activation=jnp.tanh, key=jax.random.key(0))

    def loss(network, x, y):
        return jnp.mean((jax.vmap(network)(x) - y) ** 2)

    found = general.leaf_traces(loss, network, x, y, key=jax.random.key(0), probes=200)
    weights, rest = eqx.partition(network, eqx.is_inexact_array)
    flat, restore = ravel_pytree(weights)
    hessian = jax.hessian(lambda p: loss(eqx.combine(restore(p), rest), x, y))(flat)
    expected = jax.tree.map(jnp.sum, restore(jnp.diag(hessian)))
    for leaf, wanted in zip(jax.tree.leaves(found.value), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=1e-10)


@pytest.mark.slow
def test_trace_survives_jit_vmap_and_grad(model, data):
    def value(scale):
        scaled = jax.tree.map(lambda leaf: scale * leaf, model)
        return general.trace_of_hessian(
            plain_loss, scaled, *data, key=jax.random.key(0), probes=4
        ).value

    scales = jnp.asarray([0.5, 1.0])
    batch = jax.jit(jax.vmap(value))(scales)
    np.testing.assert_allclose(batch, [value(s) for s in scales], rtol=1e-10)
    slope = jax.grad(value)(1.0)
    step = 1e-5
    np.testing.assert_allclose(slope, (value(1 + step) - value(1 - step)) / (2 * step), rtol=1e-6)


@pytest.mark.slow
def test_memory_is_refused_before_it_is_used(model, data):
    with pytest.raises(MemoryError, match=r"`memory` allows 0.0 MiB"):
        general.trace_of_hessian(plain_loss, model, *data, key=jax.random.key(0), memory=1000)
    with pytest.raises(MemoryError, match="fewer `points`"):
        general.spectral_density(plain_loss, model, *data, key=jax.random.key(0), memory=1000)


BAD = [
    ({"n": 3}, ValueError, "no floating-point arrays"),
    ({"a": np.ones(2, complex)}, TypeError, "complex parameters"),
    ({"a": np.ones(2)}, ValueError, r"must return a real scalar, found float64 of shape \(2,\)"),
]


@pytest.mark.parametrize(("model", "error", "sentence"), BAD)
def test_bad_models_are_named(model, error, sentence):
    model = jax.tree.map(lambda leaf: jnp.asarray(leaf) if np.ndim(leaf) else leaf, model)
    with pytest.raises(error, match=sentence):
        general.largest_eigenvalue(lambda model: model["a"], model)
