"""The trace is that of the Hessian that automatic differentiation gives, everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import flatrank as fr


def trace_by_autodiff(network, A, y):
    flat, restore = ravel_pytree(network)
    return jnp.trace(jax.jit(jax.hessian(lambda x: fr.loss(restore(x), A, y)))(flat))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "shape", "width"),
    [
        (1, (4, 3), 2),
        (2, (4, 3), 2),
        (2, (3, 4), 5),
        (3, (3, 4), 2),
        (3, (4, 3), 5),
        (4, (3, 3), 3),
        (5, (4, 3), 2),
        (5, (3, 4), 5),
    ],
)
def test_trace_equals_autodiff(ensemble, depth, shape, width):
    A = ensemble(*shape)
    network = fr.DeepLinear.gaussian(jax.random.key(depth), shape, depth, width)
    y = jax.random.normal(jax.random.key(9), (A.count,))
    assert float(fr.loss(network, A, y)) > 0.01
    found = fr.trace_of_hessian(network, A)
    np.testing.assert_allclose(found, trace_by_autodiff(network, A, y), rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(fr.flatness.layer_traces(network, A)), found, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_gradient_equals_autodiff(ensemble, depth):
    A = ensemble(4, 3)
    network = fr.DeepLinear.gaussian(jax.random.key(depth), (4, 3), depth, 2)
    y = jax.random.normal(jax.random.key(9), (A.count,))
    flat, restore = ravel_pytree(network)
    ours = jax.grad(lambda x: fr.trace_of_hessian(restore(x), A))(flat)
    theirs = jax.jit(jax.grad(lambda x: trace_by_autodiff(restore(x), A, y)))(flat)
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11 * float(jnp.max(abs(theirs))))


@pytest.mark.slow
def test_forward_over_reverse_equals_differences_of_the_gradient(ensemble):
    A = ensemble(4, 3)
    network = fr.DeepLinear.gaussian(jax.random.key(0), (4, 3), 3, 2)
    flat, restore = ravel_pytree(network)
    direction = jax.random.normal(jax.random.key(1), flat.shape)
    gradient = jax.grad(lambda x: fr.trace_of_hessian(restore(x), A))
    _, found = jax.jit(lambda x: jax.jvp(gradient, (x,), (direction,)))(flat)
    step = 1e-5
    expected = (gradient(flat + step * direction) - gradient(flat - step * direction)) / (2 * step)
    np.testing.assert_allclose(found, expected, atol=1e-7 * float(jnp.max(abs(expected))))


@pytest.mark.slow
def test_layer_traces_are_the_diagonal_blocks(ensemble):
    A = ensemble(4, 3)
    network = fr.DeepLinear.gaussian(jax.random.key(0), (4, 3), 3, 2)
    y = jnp.zeros(A.count)

    for j, found in enumerate(fr.flatness.layer_traces(network, A)):

        def of_layer(flat, j=j):
            layer = flat.reshape(network.layers[j].shape)
            layers = (*network.layers[:j], layer, *network.layers[j + 1 :])
            return fr.loss(fr.DeepLinear(layers), A, y)

        block = jax.hessian(of_layer)(network.layers[j].reshape(-1))
        np.testing.assert_allclose(found, jnp.trace(block), rtol=1e-12)


def test_vmap_equals_the_loop(ensemble):
    A = ensemble(4, 3)
    keys = jax.random.split(jax.random.key(0), 5)
    networks = jax.vmap(lambda key: fr.DeepLinear.gaussian(key, (4, 3), 3))(keys)
    batch = jax.jit(jax.vmap(lambda network: fr.trace_of_hessian(network, A)))(networks)
    loop = [fr.trace_of_hessian(jax.tree.map(lambda x, i=i: x[i], networks), A) for i in range(5)]
    np.testing.assert_allclose(batch, jnp.stack(loop), rtol=1e-13)


def test_shapes_must_fit(ensemble):
    network = fr.DeepLinear.gaussian(jax.random.key(0), (2, 2), 2)
    A = ensemble(4, 3)
    with pytest.raises(ValueError, match=r"shape \(2, 2\) and `A` measures matrices of shape"):
        fr.trace_of_hessian(network, A)
    fitting = fr.DeepLinear.gaussian(jax.random.key(0), (4, 3), 2)
    with pytest.raises(ValueError, match="`y` has 1 values"):
        fr.loss(fitting, A, jnp.zeros(1))
