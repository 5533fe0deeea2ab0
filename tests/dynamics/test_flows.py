"""Gradient flow and the flow of the trace against other integrators, limits and rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from jax.flatten_util import ravel_pytree

import flatrank as fr
from flatrank.dynamics import network_speeds, retracted, singular_value_speeds, tangent
from training_problems import explicit_loss, product, small


def integrated(field, start, time):
    solution = scipy.integrate.solve_ivp(
        field, (0, time), np.asarray(start), method="DOP853", rtol=1e-11, atol=1e-12
    )
    assert solution.success
    return solution.y[:, -1]


@pytest.mark.slow
def test_gradient_flow_is_the_integral_of_the_gradient(problem):
    A, y, network, _ = problem
    flat, restore = ravel_pytree(network.layers)
    slope = jax.jit(jax.grad(lambda x: explicit_loss(restore(x), A.matrices, y)))
    expected = integrated(lambda t, x: -np.asarray(slope(x)), flat, 2.0)
    run = fr.train(
        network, A, y, fr.dynamics.GradientFlow(0.5, tolerance=1e-10), steps=4, record=("loss",)
    )
    np.testing.assert_allclose(ravel_pytree(run.network.layers)[0], expected, rtol=1e-7, atol=1e-8)


@pytest.mark.slow
def test_flat_flow_is_the_integral_of_the_projected_slope(flat_problem):
    A, y, network, _ = flat_problem
    flat, restore = ravel_pytree(network.layers)
    outputs = lambda x: jnp.einsum("iab,ab->i", A.matrices, product(restore(x)))  # noqa: E731
    trace = lambda x: jnp.trace(  # noqa: E731
        jax.hessian(lambda z: explicit_loss(restore(z), A.matrices, y))(x)
    )
    slope, jacobian = jax.jit(jax.grad(trace)), jax.jit(jax.jacrev(outputs))

    def field(t, x):
        J, g = np.asarray(jacobian(x)), np.asarray(slope(x))
        return -(g - J.T @ np.linalg.lstsq(J.T, g, rcond=None)[0])

    expected = integrated(field, flat, 0.02)
    flow = fr.dynamics.FlatFlow(0.01, tolerance=1e-10)
    run = fr.train(network, A, y, flow, steps=2, record_every=1)
    np.testing.assert_allclose(ravel_pytree(run.network.layers)[0], expected, rtol=1e-7, atol=1e-8)
    assert run.history["trace"][-1] < 0.9 * run.history["trace"][0]


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_flat_flow_falls_to_the_flattest_interpolator_at_zero_loss(depth):
    A, y, network, _ = small(depth=depth, shape=(4, 4), count=13)
    network = retracted(
        fr.train(network, A, y, fr.dynamics.GradientFlow(20.0), steps=5).network, A, y
    )
    run = fr.train(
        network,
        A,
        y,
        fr.dynamics.FlatFlow(0.05),
        steps=200,
        record=("loss", "trace", "tangent_slope"),
        record_every=1,
        until={"tangent_slope": 1e-4},
    )
    assert run.result == fr.dynamics.TrainingResult.reached
    assert (run.history["loss"] < 1e-28).all()
    assert (np.diff(run.history["trace"]) < 1e-9 * run.history["trace"][0]).all()
    flattest = fr.recover(A, y, depth, fr.Flatness())
    assert bool(flattest.successful)
    least = fr.trace_of_hessian(flattest.network, A)
    np.testing.assert_allclose(run.history["trace"][-1], least, rtol=1e-3)
    assert run.history["trace"][-1] > (1 - 1e-6) * least


@pytest.mark.slow
def test_the_tangent_part_does_not_change_the_measurements(flat_problem):
    A, _, network, _ = flat_problem
    vector = jax.tree.map(jnp.ones_like, network)
    along = tangent(network, A, vector)
    change = jax.jvp(A.apply_network, (network,), (along,))[1]
    np.testing.assert_allclose(change, 0, atol=1e-12)
    again = tangent(network, A, along)
    for a, b in zip(again.layers, along.layers, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)
    left = ravel_pytree(jax.tree.map(jnp.subtract, vector, along))[0]
    assert abs(float(left @ ravel_pytree(along)[0])) < 1e-11


@pytest.mark.slow
def test_measurements_given_twice_are_no_trouble(flat_problem):
    A, y, network, _ = flat_problem
    twice = fr.DenseMeasurements(jnp.concatenate([A.matrices, A.matrices]))
    both = jnp.concatenate([y, y])
    one = fr.train(network, A, y, fr.dynamics.FlatFlow(0.01), steps=2)
    other = fr.train(network, twice, both, fr.dynamics.FlatFlow(0.01), steps=2)
    np.testing.assert_allclose(one.history["trace"], other.history["trace"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_singular_values_of_a_balanced_network_move_as_the_formula_says(depth):
    A, y, network, _ = small(depth=2)
    balanced = fr.DeepLinear.balanced(network.matrix(), depth)
    expected = network_speeds(balanced, A, y)
    np.testing.assert_allclose(singular_value_speeds(balanced, A, y), expected, rtol=1e-9)
    # The network's own, from a step of gradient flow.
    step = 1e-5
    moved = fr.train(
        balanced, A, y, fr.dynamics.GradientFlow(step, tolerance=1e-13), steps=1
    ).network
    speed = (fr.norms.singular_values(moved) - fr.norms.singular_values(balanced)) / step
    np.testing.assert_allclose(speed, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_unbalanced_networks_need_the_derivative(problem):
    A, y, network, _ = problem
    formula, own = singular_value_speeds(network, A, y), network_speeds(network, A, y)
    assert np.abs(formula - own).max() > 1e-2 * np.abs(own).max()


@pytest.mark.slow
def test_a_flow_that_cannot_be_followed_says_so(problem):
    A, y, network, _ = problem
    with pytest.raises(
        fr.dynamics.DivergenceError, match="could not be followed in 10,000 inner steps"
    ):
        fr.train(network, A, y, fr.dynamics.GradientFlow(1e9), steps=1, record=("loss",))
