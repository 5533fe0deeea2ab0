"""Products, singular values and initialisations of a deep linear network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("width", [2, 7])
def test_products_agree_with_each_other(depth, width):
    network = fr.DeepLinear.gaussian(jax.random.key(depth), (5, 4), depth, width)
    expected = np.linalg.multi_dot([np.eye(5), *network.layers[::-1], np.eye(4)])
    np.testing.assert_allclose(network.matrix(), expected, atol=1e-12)
    left, right = network.factors()
    np.testing.assert_allclose(left @ right, expected, atol=1e-12)
    for j, (P, Q) in enumerate(zip(network.uppers(), network.lowers(), strict=True)):
        P, Q = np.eye(5) if P is None else P, np.eye(4) if Q is None else Q
        np.testing.assert_allclose(P @ network.layers[j] @ Q, expected, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 4, 9])
def test_svd_is_that_of_the_matrix(width):
    network = fr.DeepLinear.gaussian(jax.random.key(0), (6, 5), 3, width)
    u, s, vt = network.svd()
    np.testing.assert_allclose((u * s[None]) @ vt, network.matrix(), atol=1e-12)
    expected = np.linalg.svd(network.matrix(), compute_uv=False)
    np.testing.assert_allclose(s, expected[: len(s)], atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("width", [None, 8])
def test_balanced_network_has_its_matrix_and_is_balanced(depth, width):
    matrix = jax.random.normal(jax.random.key(1), (6, 4))
    network = fr.DeepLinear.balanced(matrix, depth, width)
    np.testing.assert_allclose(network.matrix(), matrix, atol=1e-12)
    for lower, upper in zip(network.layers[:-1], network.layers[1:], strict=True):
        np.testing.assert_allclose(upper.T @ upper, lower @ lower.T, atol=1e-12)


def test_narrow_balanced_network_is_the_nearest_matrix_of_that_rank():
    matrix = jax.random.normal(jax.random.key(2), (6, 4))
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    network = fr.DeepLinear.balanced(matrix, 3, width=2)
    np.testing.assert_allclose(network.matrix(), u[:, :2] * s[:2] @ vt[:2], atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gaussian_scale_is_the_standard_deviation_of_the_entries(depth):
    keys = jax.random.split(jax.random.key(3), 400)
    build = jax.vmap(lambda key: fr.DeepLinear.gaussian(key, (6, 5), depth, 4, scale=0.3).matrix())
    assert abs(float(jnp.std(build(keys))) / 0.3 - 1) < 0.1


def test_scaled_scales_the_matrix():
    network = fr.DeepLinear.gaussian(jax.random.key(0), (3, 4), 3)
    np.testing.assert_allclose(network.scaled(5.0).matrix(), 5 * network.matrix(), rtol=1e-12)


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        ((), ValueError, "at least one layer"),
        ((np.ones((2, 3)), np.ones((4, 3))), ValueError, "`layers[0]` has 2 rows"),
        ((np.ones(3),), ValueError, "`layers[0]` must have 2 axes"),
        ((np.ones((2, 2), complex),), TypeError, "complex"),
    ],
)
def test_bad_layers_are_named(layers, error, words):
    with pytest.raises(error) as caught:
        fr.DeepLinear(layers)
    assert words in str(caught.value)


def test_depth_below_one_is_an_error():
    with pytest.raises(ValueError, match="`depth` must be an integer of at least 1, found 0"):
        fr.DeepLinear.gaussian(jax.random.key(0), (2, 2), 0)
