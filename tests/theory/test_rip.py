"""Isometry constants against the spectrum, brute force over angles, and known measurements."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from compiled_order import independent_factorisations
from flatrank.theory import _rip as rip
from flatrank.theory import gaussian_rip_prediction
from flatrank.theory._instances import from_quadratic_form
from flatrank.theory._isometry import blind_pair_form


def _value(A, X):
    return float(jnp.mean(A.apply(X) ** 2))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 3])
def test_the_witness_attains_the_lower_bound(rank):
    A = fr.gaussian_measurements(jax.random.key(0), 30, (4, 3))
    found = fr.theory.rip_constant(A, rank)
    assert np.linalg.matrix_rank(found.witness, 1e-8) <= rank
    np.testing.assert_allclose(jnp.linalg.norm(found.witness), 1.0)
    np.testing.assert_allclose(abs(_value(A, found.witness) - 1), found.lower)
    assert found.lower <= found.upper * (1 + 1e-12)


@pytest.mark.slow
def test_full_rank_is_the_spectrum():
    A = fr.gaussian_measurements(jax.random.key(0), 30, (4, 3))
    flat = np.asarray(A.matrices).reshape(30, 12)
    spectrum = np.linalg.svd(flat, compute_uv=False) ** 2 / 30
    exact = max(spectrum[0] - 1, 1 - spectrum[-1])
    found = fr.theory.rip_constant(A, 3)
    np.testing.assert_allclose([found.lower, found.upper], exact, rtol=1e-10)
    assert fr.theory.rip_constant(A, 2).lower <= exact


@pytest.mark.slow
def test_rank_one_is_what_brute_force_finds():
    """2 x 2: all unit matrices of rank one are two angles."""
    for key in range(3):
        A = fr.gaussian_measurements(jax.random.key(key), 9, (2, 2))
        angles = np.linspace(0, np.pi, 400)
        vectors = np.stack([np.cos(angles), np.sin(angles)])
        seen = np.einsum("nij,ia,jb->nab", A.matrices, vectors, vectors)
        values = (seen**2).mean(0)
        found = fr.theory.rip_constant(A, 1)
        np.testing.assert_allclose(found.largest, values.max(), rtol=1e-4)
        np.testing.assert_allclose(found.smallest, values.min(), rtol=1e-3, atol=1e-4)
        assert found.largest >= values.max() * (1 - 1e-12)
        assert found.smallest <= values.min() * (1 + 1e-12)


@pytest.mark.slow
def test_known_constant():
    """Weighted entries: every single entry is a matrix of rank one."""
    weights = np.random.default_rng(0).uniform(0.6, 1.3, 12)
    A = fr.DenseMeasurements(from_quadratic_form(np.diag(weights), (4, 3)))
    found = fr.theory.rip_constant(A, 2)
    exact = np.abs(weights - 1).max()
    np.testing.assert_allclose([found.lower, found.upper], exact, rtol=1e-6)


@pytest.mark.slow
def test_rank_one_isometry_may_be_blind_to_a_difference():
    """The trap: delta is 0.3 at rank one, and two matrices of rank one look the same."""
    form, flat, small = blind_pair_form(4, 0.3)
    A = fr.DenseMeasurements(from_quadratic_form(form, (4, 4)))
    found = fr.theory.rip_constant(A, 1)
    np.testing.assert_allclose([found.lower, found.upper], 0.3, rtol=1e-6)
    assert _value(A, jnp.asarray(flat - small)) < 1e-12


@pytest.mark.slow
def test_large_problems_have_no_upper_bound():
    A = fr.EntryMeasurements.from_mask(np.ones((40, 30)))
    found = fr.theory.rip_constant(A, 2, starts=2, steps=3)
    assert jnp.isnan(found.upper)
    assert found.lower > 0.9  # 1/N ||A(X)||^2 is ||X||^2 / (m n)


def test_prediction_falls_with_measurements_and_rises_with_rank_and_confidence():
    counts = [gaussian_rip_prediction(20, 15, N, 2) for N in (1000, 4000, 16000)]
    assert all(few > many for few, many in itertools.pairwise(counts))
    np.testing.assert_allclose(counts[1] / counts[2], 2.0, rtol=0.1)  # 1 / sqrt(N)
    assert gaussian_rip_prediction(20, 15, 4000, 3) > counts[1]
    assert gaussian_rip_prediction(20, 15, 4000, 2, 0.999) > counts[1]


def test_bad_input_is_named():
    A = fr.IsotropicMeasurements((4, 3))
    with pytest.raises(ValueError, match=r"`rank` must be at most min\(m, n\) = 3, found 4"):
        fr.theory.rip_constant(A, 4)
    with pytest.raises(ValueError, match="`starts`"):
        fr.theory.rip_constant(A, 1, starts=0)
    with pytest.raises(ValueError, match="`confidence`"):
        gaussian_rip_prediction(4, 3, 10, 1, 1.5)
    with pytest.raises(ValueError, match="`r` must be"):
        gaussian_rip_prediction(4, 3, 10, 4)


@pytest.mark.slow
def test_the_search_factorises_one_batch_at_a_time():
    A = fr.gaussian_measurements(jax.random.key(0), 60, (8, 6))
    text = rip._search.lower(A, 2, jax.random.key(1), 4, 5).compile().compiled.as_text()
    assert text.count('custom_call_target="lapack_') >= 3
    assert independent_factorisations(text) == []
