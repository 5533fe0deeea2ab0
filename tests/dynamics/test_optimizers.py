"""One step of each optimiser against the same step written out with NumPy or optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatrank as fr
from flatrank.dynamics._minibatches import Minibatch, draw_minibatches
from training_problems import explicit_loss

RATE = 0.01


def stepped(optimizer, problem, indices=None, errors=None):
    A, y, network, _ = problem
    memory = optimizer.start(network, A, y)
    pick = None if indices is None else jnp.asarray(indices)
    return optimizer.step(network, memory, A, y, Minibatch(pick, errors))


def assert_layers(network, layers):
    for ours, theirs in zip(network.layers, layers, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def descended(layers, gradient, rate=RATE):
    return [w - rate * g for w, g in zip(layers, gradient, strict=True)]


def test_gradient_descent(problem):
    A, y, network, _ = problem
    moved, _, value = stepped(fr.dynamics.GradientDescent(RATE), problem)
    expected, gradient = jax.value_and_grad(explicit_loss)(network.layers, A.matrices, y)
    assert_layers(moved, descended(network.layers, gradient))
    np.testing.assert_allclose(value, expected, rtol=1e-13)


@pytest.mark.slow
def test_minibatches_of_label_noise(problem):
    A, y, network, _ = problem
    chosen, errors = [3, 3, 7], jnp.asarray([0.5, -1.0, 2.0])
    moved, _, _ = stepped(fr.LabelNoise(RATE, 0.3, 3), problem, chosen, errors)
    rows = jnp.asarray(chosen)
    gradient = jax.grad(explicit_loss)(network.layers, A.matrices[rows], y[rows] + 0.3 * errors)
    assert_layers(moved, descended(network.layers, gradient))


@pytest.mark.parametrize("chosen", [[5], [1, 2, 8], None])
def test_sam(problem, chosen):
    A, y, network, _ = problem
    moved, _, _ = stepped(fr.SAM(RATE, 0.05, chosen and len(chosen)), problem, chosen)
    rows = jnp.arange(A.count) if chosen is None else jnp.asarray(chosen)
    slope = lambda layers: jax.grad(explicit_loss)(layers, A.matrices[rows], y[rows])  # noqa: E731
    ascent = slope(network.layers)
    norm = np.sqrt(sum(float(jnp.sum(g**2)) for g in ascent))
    there = tuple(w + 0.05 * g / norm for w, g in zip(network.layers, ascent, strict=True))
    assert_layers(moved, descended(network.layers, slope(there)))


def test_sam_at_a_gradient_whose_square_underflows(problem):
    A, y, network, truth = problem
    y, network = 0 * y, jax.tree.map(lambda w: 1e-35 * w, network)
    moved, _, _ = stepped(fr.SAM(RATE, 0.05), (A, y, network, truth))
    there = [w - v for w, v in zip(network.layers, moved.layers, strict=True)]
    assert all(bool(jnp.isfinite(step).all() and jnp.any(step != 0)) for step in there)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [fr.Flatness(), fr.WeightDecay()], ids=["trace", "decay"])
def test_penalties_are_added_to_the_loss(problem, penalty):
    A, y, network, _ = problem
    moved, _, _ = stepped(fr.dynamics.GradientDescent(RATE, penalty=penalty, strength=0.2), problem)
    plain = jax.grad(explicit_loss)(network.layers, A.matrices, y)
    if isinstance(penalty, fr.WeightDecay):
        extra = tuple(2 * w for w in network.layers)
    else:
        trace = lambda layers: jnp.trace(  # noqa: E731
            jax.hessian(lambda x: explicit_loss(restore(x), A.matrices, y))(
                jax.flatten_util.ravel_pytree(layers)[0]
            )
        )
        restore = jax.flatten_util.ravel_pytree(network.layers)[1]
        extra = jax.grad(trace)(network.layers)
    gradient = [g + 0.2 * e for g, e in zip(plain, extra, strict=True)]
    for ours, theirs in zip(moved.layers, descended(network.layers, gradient), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_any_optax_transformation(problem):
    A, y, network, _ = problem
    optimizer = fr.dynamics.GradientDescent(RATE, transformation=optax.scale_by_adam())
    run = fr.train(network, A, y, optimizer, steps=7, record=("loss",))
    reference = optax.adam(RATE)
    with jax.numpy_dtype_promotion("standard"):
        layers, state = network.layers, reference.init(network.layers)
        for _ in range(7):
            gradient = jax.grad(explicit_loss)(layers, A.matrices, y)
            change, state = reference.update(gradient, state)
            layers = optax.apply_updates(layers, change)
    assert_layers(run.network, layers)


def test_one_scale_for_all_layers(problem):
    A, y, network, _ = problem
    transformation = fr.dynamics.scale_by_global_rms(decay=0.9, epsilon=1e-3)
    optimizer = fr.dynamics.GradientDescent(RATE, transformation=transformation)
    run = fr.train(network, A, y, optimizer, steps=5, record=("loss",))
    layers, mean = network.layers, 0.0
    size = sum(layer.size for layer in layers)
    for _ in range(5):
        gradient = jax.grad(explicit_loss)(layers, A.matrices, y)
        mean = 0.9 * mean + 0.1 * sum(float(jnp.sum(g**2)) for g in gradient) / size
        layers = descended(layers, gradient, RATE / (np.sqrt(mean) + 1e-3))
    assert_layers(run.network, layers)


KEY = jax.random.key(3)


def drawn(first, steps, count=50, batch=8, epochs=False, noise="gaussian"):
    first = jnp.asarray(first, jnp.int32)
    return draw_minibatches(KEY, first, steps, count, batch, epochs, noise, jnp.zeros(0).dtype)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [False, True])
def test_the_numbers_of_a_step_do_not_depend_on_the_stretch(epochs):
    whole = drawn(0, 200, epochs=epochs)
    for first in (1, 31, 32, 77):
        part = drawn(first, 64, epochs=epochs)
        np.testing.assert_array_equal(part.indices, whole.indices[first : first + 64])
        np.testing.assert_array_equal(part.errors, whole.errors[first : first + 64])


@pytest.mark.slow
def test_errors_are_normal_and_indices_uniform():
    found = drawn(0, 20_000)
    errors = np.asarray(found.errors).ravel()
    # 160,000 draws: four standard errors.
    assert abs(errors.mean()) < 4 / 400
    assert abs(errors.var() - 1) < 4 * 2**0.5 / 400
    assert abs((errors**4).mean() - 3) < 4 * 96**0.5 / 400
    assert abs(np.corrcoef(errors[:-1], errors[1:])[0, 1]) < 4 / 400
    counts = np.bincount(np.asarray(found.indices).ravel(), minlength=50)
    assert abs((counts - 3200) ** 2 / 3200).sum() < 49 + 5 * (2 * 49) ** 0.5
    assert abs(np.corrcoef(errors, np.asarray(found.indices).ravel())[0, 1]) < 4 / 400


@pytest.mark.slow
def test_rademacher_errors_are_signs():
    errors = np.asarray(drawn(0, 2000, noise="rademacher").errors)
    assert set(np.unique(errors)) == {-1.0, 1.0}
    assert abs(errors.mean()) < 4 / 16_000**0.5


@pytest.mark.slow
def test_epochs_use_every_measurement_once():
    batches = np.asarray(drawn(0, 60, count=48, epochs=True, noise=None).indices)
    orders = batches.reshape(10, 48)
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(48))
    assert any(not np.array_equal(orders[0], order) for order in orders[1:])


def test_equivalent_constants():
    np.testing.assert_allclose(
        fr.dynamics.equivalent_penalty(fr.LabelNoise(0.1, 2.0, 4)), 0.1 * 4 / 8
    )
    np.testing.assert_allclose(fr.dynamics.equivalent_penalty(fr.SAM(0.1, 0.3, 1)), 0.045)
    penalised = fr.LabelNoise(0.1, 2.0, 4, penalty=fr.Flatness(), strength=0.5)
    np.testing.assert_allclose(fr.dynamics.equivalent_penalty(penalised), 0.55)
    np.testing.assert_allclose(fr.dynamics.equivalent_time(penalised, 10), 0.55)
    assert fr.dynamics.equivalent_time(fr.dynamics.FlatFlow(0.2), 10) == 2.0
    assert fr.dynamics.equivalent_time(fr.dynamics.GradientFlow(0.2), 10) == 0.0
    A = fr.gaussian_measurements(jax.random.key(0), 20, (3, 3))
    np.testing.assert_allclose(
        fr.dynamics.equivalent_penalty(fr.LabelNoise(0.1, 2.0), A), 0.1 * 4 / 40
    )


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: fr.dynamics.GradientDescent(-1.0), "`learning_rate` must be positive and finite"),
        (
            lambda: fr.dynamics.GradientDescent(np.nan),
            "`learning_rate` must be positive and finite",
        ),
        (lambda: fr.dynamics.GradientDescent(np.ones((2, 2))), "`learning_rate` must be a number"),
        (
            lambda: fr.dynamics.GradientDescent(0.1, 0),
            "`batch_size` must be an integer of at least 1",
        ),
        (lambda: fr.dynamics.GradientDescent(0.1, strength=0.1), "pass both or neither"),
        (lambda: fr.dynamics.GradientDescent(0.1, penalty=fr.Flatness()), "pass both or neither"),
        (lambda: fr.dynamics.GradientDescent(0.1, epochs=True), "pass a `batch_size`"),
        (lambda: fr.LabelNoise(0.1, -1.0, 4), "`noise` must be at least 0"),
        (lambda: fr.LabelNoise(0.1, 1.0, 4, distribution="cauchy"), "`distribution` must be one"),
        (lambda: fr.SAM(0.1, np.inf), "`radius` must be at least 0 and finite"),
        (lambda: fr.dynamics.FlatFlow(0.0), "`time_step` must be positive"),
        (lambda: fr.dynamics.GradientFlow(0.1, tolerance=-1.0), "`tolerance` must be positive"),
        (lambda: fr.dynamics.equivalent_penalty(fr.SAM(0.1, 0.1, 4)), "only batches of one"),
        (lambda: fr.dynamics.equivalent_penalty(fr.LabelNoise(0.1, 0.1)), "pass `A`"),
        (
            lambda: fr.dynamics.equivalent_penalty(fr.dynamics.FlatFlow(0.1)),
            "use `equivalent_time`",
        ),
        (
            lambda: fr.dynamics.equivalent_penalty(
                fr.dynamics.GradientDescent(0.1, penalty=fr.WeightDecay(), strength=1.0)
            ),
            "which is no trace penalty",
        ),
        (
            lambda: fr.dynamics.equivalent_time(
                fr.SAM(0.1, 0.1, 1, transformation=optax.trace(0.9)), 3
            ),
            "no equivalent trace penalty is known",
        ),
    ],
)
def test_bad_input_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
