"""F(M) against brute force, its closed forms against flattening, its gradient against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import flatrank as fr
from flatrank.flatness._induced import Formula, _flattened


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("shape", [(4, 3), (3, 4)])
def test_closed_forms_and_flattening_agree(ensemble, shape, depth):
    A = ensemble(*shape)
    matrix = jax.random.normal(jax.random.key(0), shape)
    found = fr.induced_regularizer(matrix, A, depth)
    np.testing.assert_allclose(found, _flattened(matrix, A, depth), rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_one_measurement(depth):
    """2 L ||(A^T M)^{L-1} A^T||_{S_{2/L}}^{2/L}; without the trailing A^T it would be wrong."""
    A = fr.DenseMeasurements(jax.random.normal(jax.random.key(0), (1, 3, 3)))
    matrix = jax.random.normal(jax.random.key(1), (3, 3))
    assert fr.flatness.regularizer_path(A, 3) == Formula.single
    found = float(fr.induced_regularizer(matrix, A, depth))
    flat = fr.flatten(fr.DeepLinear.balanced(matrix, depth), A, max_sweeps=2000)
    np.testing.assert_allclose(found, fr.trace_of_hessian(flat, A), rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3])
def test_brute_force_over_factorisations_finds_nothing_smaller(ensemble, depth):
    A = ensemble(3, 3)
    matrix = jax.random.normal(jax.random.key(4), (3, 3))
    start = fr.DeepLinear.balanced(matrix, depth)

    @jax.jit
    @jax.value_and_grad
    def trace(flat):
        layers = list(start.layers)
        for j, x in enumerate(flat.reshape(depth - 1, 3, 3)):
            layers[j] = jax.scipy.linalg.expm(x) @ layers[j]
            layers[j + 1] = layers[j + 1] @ jax.scipy.linalg.expm(-x)
        return fr.trace_of_hessian(fr.DeepLinear(tuple(layers)), A)

    starts = np.random.default_rng(0).normal(0, 0.3, (3, 9 * (depth - 1)))
    runs = [scipy.optimize.minimize(trace, s, jac=True, options={"gtol": 1e-9}) for s in starts]
    best = min(run.fun for run in runs)
    np.testing.assert_allclose(fr.induced_regularizer(matrix, A, depth), best, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("shape", [(4, 3), (3, 4)])
def test_gradient_equals_differences(ensemble, shape, depth):
    A = ensemble(*shape)
    matrix = jax.random.normal(jax.random.key(0), shape)
    direction = jax.random.normal(jax.random.key(1), shape)

    @jax.jit
    def along(t):
        return fr.induced_regularizer(matrix + t * direction, A, depth)

    step = 1e-4
    difference = (along(step) - along(-step)) / (2 * step)
    gradient = jax.grad(lambda matrix: fr.induced_regularizer(matrix, A, depth))(matrix)
    np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=1e-5)


def test_depth_one_is_constant(ensemble):
    A = ensemble(4, 3)
    zero, one = jnp.zeros((4, 3)), jnp.ones((4, 3))
    assert fr.induced_regularizer(zero, A, 1) == fr.induced_regularizer(one, A, 1)


def test_missing_entries_are_not_the_nuclear_norm():
    """The weighted trace norm: two matrices of equal nuclear norm differ."""
    A = fr.EntryMeasurements.from_mask(np.array([[1, 1, 1], [1, 0, 0], [1, 0, 0]]))
    heavy, light = (jnp.zeros((3, 3)).at[i, i].set(1.0) for i in (0, 2))
    ratio = fr.induced_regularizer(heavy, A, 2) / fr.induced_regularizer(light, A, 2)
    np.testing.assert_allclose(ratio, 3.0, rtol=1e-10)


@pytest.mark.slow
def test_the_path_is_told():
    dense = fr.gaussian_measurements(jax.random.key(0), 9, (3, 3))
    assert fr.flatness.regularizer_path(fr.IsotropicMeasurements((3, 3)), 4) == Formula.isotropic
    assert fr.flatness.regularizer_path(dense, 2) == Formula.depth_two
    assert fr.flatness.regularizer_path(dense, 3) == Formula.flattening
    assert "geometric means" in fr.flatness.regularizer_path(dense, 3)
    empty_row = fr.EntryMeasurements([0, 0, 1], [0, 1, 1], (3, 2))
    assert fr.flatness.regularizer_path(empty_row, 3) == Formula.infimum


def test_bad_input_is_named():
    A = fr.IsotropicMeasurements((3, 3))
    with pytest.raises(ValueError, match=r"`matrix` has shape \(2, 2\)"):
        fr.induced_regularizer(jnp.ones((2, 2)), A, 2)
    with pytest.raises(ValueError, match="`depth`"):
        fr.induced_regularizer(jnp.ones((3, 3)), A, 0)
    with pytest.raises(TypeError, match="complex"):
        fr.induced_regularizer(np.ones((3, 3), complex), A, 2)
