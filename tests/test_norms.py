"""Norms against their definitions, of matrices and of networks."""

import jax
import numpy as np
import pytest

import flatrank as fr


@pytest.fixture(params=["matrix", "network"])
def pair(request):
    """The singular values and the object that has them."""
    network = fr.DeepLinear.gaussian(jax.random.key(0), (6, 5), 3, 4)
    s = np.linalg.svd(network.matrix(), compute_uv=False)
    return s, network.matrix() if request.param == "matrix" else network


@pytest.mark.parametrize("p", [2 / 3, 1.0, 2.0, 3.0])
def test_schatten(pair, p):
    s, matrix = pair
    np.testing.assert_allclose(
        fr.norms.schatten_norm(matrix, p), np.sum(s**p) ** (1 / p), rtol=1e-8
    )


def test_limits_and_ranks(pair):
    s, matrix = pair
    np.testing.assert_allclose(fr.norms.schatten_norm(matrix, float("inf")), s[0], rtol=1e-12)
    np.testing.assert_allclose(fr.norms.nuclear_norm(matrix), s.sum(), rtol=1e-12)
    np.testing.assert_allclose(fr.norms.stable_rank(matrix), (s**2).sum() / s[0] ** 2, rtol=1e-12)
    share = s[:4] / s.sum()
    np.testing.assert_allclose(
        fr.norms.effective_rank(matrix), np.exp(-(share * np.log(share)).sum()), rtol=1e-10
    )
    assert int(fr.norms.numerical_rank(matrix)) == 4


def test_weighted_trace_norm(pair):
    _, matrix = pair
    rows, columns = np.arange(1.0, 7), np.arange(2.0, 7)
    dense = matrix if not isinstance(matrix, fr.DeepLinear) else matrix.matrix()
    expected = np.linalg.norm(np.sqrt(rows)[:, None] * np.asarray(dense) * np.sqrt(columns), "nuc")
    found = fr.norms.weighted_trace_norm(
        matrix, jax.numpy.asarray(rows), jax.numpy.asarray(columns)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_zero_matrix_has_rank_zero():
    zero = jax.numpy.zeros((3, 2))
    assert float(fr.norms.stable_rank(zero)) == 0
    assert float(fr.norms.nuclear_norm(zero)) == 0
    assert int(fr.norms.numerical_rank(zero)) == 0


def test_schatten_order_must_be_positive():
    with pytest.raises(ValueError, match="`p` must be positive, found"):
        fr.norms.schatten_norm(jax.numpy.ones((2, 2)), 0.0)
