"""The training loop: pieces, many runs, transformations, records, divergence, checkpoints."""

import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatrank as fr
from compiled_order import independent_factorisations, independent_loops
from flatrank.dynamics._loop import Plan, Problem
from flatrank.dynamics._quantities import QUANTITIES

# The package's `train` is the function.
module = importlib.import_module("flatrank.dynamics._train")
NOISE = fr.LabelNoise(0.01, 0.1, 3)
KEY = jax.random.key(0)


def equal(one, other):
    leaves = zip(
        jax.tree.leaves((one.network, one.history)),
        jax.tree.leaves((other.network, other.history)),
        strict=True,
    )
    return all(np.array_equal(a, b, equal_nan=True) for a, b in leaves)


def trained(problem, optimizer=NOISE, network=None, **arguments):
    A, y, start, _ = problem
    arguments = {"steps": 300, "key": KEY, "record_every": 50} | arguments
    return fr.train(network or start, A, y, optimizer, **arguments)


@pytest.mark.slow
def test_records_are_what_they_say(problem):
    A, y, network, truth = problem
    run = trained(problem, steps=120, record=list(QUANTITIES), truth=truth)
    np.testing.assert_array_equal(run.history["step"], [0, 50, 100, 120])
    assert list(run.history)[:2] == ["step", "time"]
    end = run.network
    for name, quantity in QUANTITIES.items():
        for k, at in ((0, network), (-1, end)):
            np.testing.assert_allclose(
                run.history[name][k], quantity(at, A, y), rtol=1e-9, atol=1e-12
            )
    error = jnp.linalg.norm(end.matrix() - truth) / jnp.linalg.norm(truth)
    np.testing.assert_allclose(run.history["test_error"][-1], error, rtol=1e-12)
    np.testing.assert_allclose(run.history["time"][-1], 120 * 0.01**2 * 0.1**2 / 6)
    assert run.message == "All steps were taken."


@pytest.mark.slow
def test_own_quantities(problem):
    run = trained(problem, record={"corner": lambda network, A, y: network.matrix()[0, 0]})
    np.testing.assert_allclose(run.history["corner"][-1], run.network.matrix()[0, 0], rtol=1e-12)


@pytest.mark.slow
def test_what_is_recorded_does_not_change_the_run(problem):
    rare, often = trained(problem, record_every=300), trained(problem, record_every=7)
    for a, b in zip(rare.network.layers, often.network.layers, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_pieces_are_bit_for_bit_the_whole(problem, monkeypatch):
    whole = trained(problem)
    seen = []
    monkeypatch.setattr(module, "_CALL", 0.0)  # every call of the program takes one step
    assert equal(whole, trained(problem, on_step=lambda *told: seen.append(told)))
    assert seen[0] == ("step 1 of 300", 1 / 300)
    assert [fraction for _, fraction in seen] == [k / 300 for k in range(1, 301)]


def test_the_callback_of_release_0_1_hears_the_steps(problem):
    seen = []
    with pytest.warns(FutureWarning, match="`callback` is called `on_step` now"):
        trained(problem, callback=seen.append)
    assert seen[-1] == 300
    with pytest.raises(TypeError, match="unexpected keyword argument 'callbacks'"):
        trained(problem, callbacks=seen.append)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [NOISE, fr.SAM(0.01, 0.05, 1), fr.dynamics.GradientFlow(0.01)]
)
def test_many_runs_equal_the_loop(problem, optimizer):
    keys = jax.random.split(KEY, 3)
    many = trained(problem, optimizer, key=keys)
    for k, key in enumerate(keys):
        one = trained(problem, optimizer, key=key)
        np.testing.assert_allclose(many.history["trace"][k], one.history["trace"], rtol=1e-10)
        for a, b in zip(many.network.layers, one.network.layers, strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_learning_rates_noise_levels_and_starts_in_one_call(problem):
    rates, levels = np.asarray([0.01, 0.02]), np.asarray([0.1, 0.3])
    starts = jax.vmap(lambda key: fr.DeepLinear.gaussian(key, (5, 4), 3, scale=0.3))(
        jax.random.split(KEY, 2)
    )
    many = trained(problem, fr.LabelNoise(rates, levels, 3), starts)
    assert many.history["time"].shape == many.history["loss"].shape == (2, 7)
    for k in range(2):
        start = jax.tree.map(lambda x, k=k: x[k], starts)
        one = trained(problem, fr.LabelNoise(float(rates[k]), float(levels[k]), 3), start)
        np.testing.assert_allclose(many.history["loss"][k], one.history["loss"], rtol=1e-9)
        np.testing.assert_allclose(many.history["time"][k], one.history["time"], rtol=1e-12)


@pytest.mark.slow
def test_groups_of_runs_change_nothing(problem, monkeypatch):
    keys = jax.random.split(KEY, 6)
    together = trained(problem, key=keys)
    monkeypatch.setattr(module, "_GROUP_BYTES", 1)
    jax.clear_caches()
    apart = trained(problem, key=keys)
    np.testing.assert_allclose(together.history["loss"], apart.history["loss"], rtol=1e-9)


@pytest.mark.slow
def test_jit_vmap_and_forward_differentiation_from_outside(problem):
    def end(rate):
        return trained(problem, fr.LabelNoise(rate, 0.1, 3), steps=20).history["trace"][-1]

    rates = jnp.asarray([0.01, 0.02])
    loop = jnp.stack([end(float(rate)) for rate in rates])
    np.testing.assert_allclose(jax.vmap(end)(rates), loop, rtol=1e-11)
    np.testing.assert_allclose(jax.jit(end)(rates[0]), loop[0], rtol=1e-11)
    slope = jax.jvp(end, (rates[0],), (jnp.ones(()),))[1]
    step = 1e-6
    difference = (end(0.01 + step) - end(0.01 - step)) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


@pytest.mark.slow
def test_a_run_ends_where_until_says(problem):
    descent = fr.dynamics.GradientDescent(0.05)
    run = trained(problem, descent, steps=5000, record_every=10, until={"loss": 1e-6})
    assert run.history["loss"][-1] <= 1e-6 < run.history["loss"][-2]
    assert len(run.history["step"]) < 500
    assert run.message == "What `until` asks was reached."
    again = trained(problem, descent, steps=5000, record_every=10, until={"loss": 1e-6})
    assert equal(run, again)


@pytest.mark.slow
def test_runs_that_have_reached_it_wait_for_the_others(problem):
    descent = fr.dynamics.GradientDescent(np.asarray([0.05, 0.02]))
    arguments = {"steps": 5000, "record_every": 10, "until": {"loss": 1e-4}}
    both = trained(problem, descent, **arguments)
    for k, rate in enumerate((0.05, 0.02)):
        one = trained(problem, fr.dynamics.GradientDescent(rate), **arguments)
        records = len(one.history["step"])
        np.testing.assert_allclose(
            both.history["loss"][k, :records], one.history["loss"], rtol=1e-9
        )
        assert np.isnan(both.history["loss"][k, records:]).all()
        for many, single in zip(both.network.layers, one.network.layers, strict=True):
            np.testing.assert_allclose(many[k], single, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_start_that_is_not_finite_is_told(problem):
    A, y, network, _ = problem
    huge = jax.tree.map(lambda layer: 1e200 * layer, network)
    with pytest.raises(fr.dynamics.DivergenceError, match="not finite at the start") as e:
        fr.train(huge, A, y, fr.dynamics.GradientDescent(0.1), steps=10)
    assert int(e.value.run.diverged_at) == 0
    assert len(e.value.run.history["loss"]) == 0
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), network, huge)
    with pytest.warns(UserWarning, match="1 of 2 runs diverged; in run 1 .* at the start"):
        runs = fr.train(both, A, y, fr.dynamics.GradientDescent(0.01), steps=10, record_every=5)
    assert np.isfinite(runs.history["loss"][0]).all()


def test_whole_numbers_can_be_recorded(problem):
    record = {"large": lambda network, A, y: jnp.sum(jnp.abs(network.matrix()) > 0.1)}
    with pytest.raises(fr.dynamics.DivergenceError) as e:
        trained(problem, fr.dynamics.GradientDescent(5.0), record=record, record_every=1)
    history = e.value.run.history
    assert len(history["large"]) == len(history["step"]) <= int(e.value.run.diverged_at) + 1
    assert np.array_equal(history["large"], np.round(history["large"]))


@pytest.mark.slow
def test_every_start_of_flat_flow_must_interpolate(problem):
    A, y, network, _ = problem
    flat = fr.recover(A, y, 3, fr.Flatness()).network
    network = fr.DeepLinear.gaussian(KEY, A.shape, 3, flat.width)
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), flat, network)
    with pytest.raises(ValueError, match="does not interpolate"):
        fr.train(both, A, y, fr.dynamics.FlatFlow(0.01), steps=2)


@pytest.mark.slow
def test_truth_and_flat_flow_work_under_jit(problem):
    A, y, _, truth = problem
    flat = fr.recover(A, y, 3, fr.Flatness()).network

    def run(time_step):
        flow = fr.dynamics.FlatFlow(time_step)
        return fr.train(flat, A, y, flow, steps=2, truth=truth, record_every=1)

    np.testing.assert_allclose(
        jax.jit(lambda dt: run(dt).history["test_error"])(0.01),
        run(0.01).history["test_error"],
        rtol=1e-6,
    )


@pytest.mark.slow
def test_divergence_names_the_step_and_the_learning_rate(problem):
    with pytest.raises(
        fr.dynamics.DivergenceError, match=r"not finite at step \d+ .*above 2 / largest"
    ) as e:
        trained(problem, fr.dynamics.GradientDescent(5.0), record_every=1)
    run = e.value.run
    assert all(np.isfinite(values).all() for values in run.history.values())
    assert run.history["step"][-1] <= int(run.diverged_at) <= run.history["step"][-1] + 1
    assert all(bool(jnp.isfinite(layer).all()) for layer in run.network.layers)
    kept = trained(problem, fr.dynamics.GradientDescent(5.0), throw=False)
    assert kept.result == fr.dynamics.TrainingResult.diverged


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 1000])
def test_divergence_by_noise_or_penalty_is_told_apart(problem, every):
    noisy = fr.LabelNoise(0.02, 1e6, 1)
    with pytest.raises(
        fr.dynamics.DivergenceError, match="below 2 / largest eigenvalue of the loss"
    ):
        trained(problem, noisy, record_every=every, steps=1000)
    heavy = fr.dynamics.GradientDescent(1e-3, penalty=fr.Flatness(), strength=1e3)
    with pytest.raises(fr.dynamics.DivergenceError, match="lower `learning_rate` or `strength`"):
        trained(problem, heavy, record_every=every, steps=1000)


@pytest.mark.slow
def test_one_diverged_run_among_others_is_told(problem):
    rates = np.asarray([0.01, 5.0, 0.02])
    with pytest.warns(UserWarning, match="1 of 3 runs diverged; in run 1 the loss was not finite"):
        run = trained(problem, fr.dynamics.GradientDescent(rates))
    np.testing.assert_array_equal(np.asarray(run.diverged_at) >= 0, [False, True, False])
    assert np.isfinite(run.history["loss"][[0, 2]]).all()
    assert "2 of 3 runs: All steps were taken." in run.message


@pytest.mark.slow
def test_an_interrupted_run_goes_on_bit_for_bit(problem, tmp_path):
    whole = trained(problem, steps=2000, key=jax.random.split(KEY, 2))

    class KilledError(Exception):
        pass

    def kill(what, fraction):
        if fraction > 0.35:
            raise KilledError

    arguments = {"steps": 2000, "key": jax.random.split(KEY, 2), "checkpoint": tmp_path / "run"}
    with pytest.raises(KilledError):
        trained(problem, on_step=kill, checkpoint_minutes=0.0, **arguments)
    heard = []

    def hear(what, fraction):
        heard.append(fraction)

    resumed = trained(problem, on_step=hear, **arguments)
    assert heard[0] > 1 / 2000
    assert equal(whole, resumed)
    heard.clear()
    assert equal(whole, trained(problem, on_step=hear, **arguments))
    assert heard == []


@pytest.mark.slow
def test_checkpoints_of_another_run_are_refused(problem, tmp_path):
    trained(problem, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"holds another run \(other optimizer\)"):
        trained(problem, fr.LabelNoise(0.01, 0.2, 3), checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"other key, record_every, steps"):
        trained(problem, checkpoint=tmp_path, key=jax.random.key(1), steps=10, record_every=5)
    for other in (
        fr.LabelNoise(0.01, 0.1, 4),
        fr.LabelNoise(0.01, 0.1, 3, distribution="rademacher"),
        fr.LabelNoise(0.01, 0.1, 3, transformation=optax.trace(0.1)),
    ):
        with pytest.raises(ValueError, match=r"holds another run \(other optimizer\)"):
            trained(problem, other, checkpoint=tmp_path)


@pytest.mark.slow
def test_what_functions_close_over_tells_runs_apart(problem, tmp_path):
    def entry(i):
        return {"entry": lambda network, A, y: network.matrix()[i, i]}

    def with_momentum(momentum):
        return fr.dynamics.GradientDescent(0.01, transformation=optax.trace(momentum))

    first = trained(problem, with_momentum(0.9), record=entry(0), checkpoint=tmp_path)
    again = trained(problem, with_momentum(0.9), record=entry(0), checkpoint=tmp_path)
    assert equal(first, again)
    for momentum, i, name in ((0.1, 0, "optimizer"), (0.9, 1, "record")):
        with pytest.raises(ValueError, match=rf"other {name}"):
            trained(problem, with_momentum(momentum), record=entry(i), checkpoint=tmp_path)


@pytest.mark.slow
def test_keys_in_the_memory_of_a_transformation_are_saved(problem, tmp_path):
    noisy = fr.dynamics.GradientDescent(
        0.01, transformation=optax.add_noise(0.1, 0.5, jax.random.key(0))
    )
    run = trained(problem, noisy, checkpoint=tmp_path)
    assert equal(run, trained(problem, noisy, checkpoint=tmp_path))


@pytest.mark.slow
def test_checkpoints_are_made_between_records_too(problem, tmp_path):
    heard = []
    arguments = {"steps": 3000, "record_every": 3000, "until": {"loss": 0.0}}
    trained(problem, on_step=lambda *told: heard.append(told), checkpoint=tmp_path, **arguments)
    assert len(heard) > 2
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="name a folder"):
        trained(problem, checkpoint=tmp_path / "file")


@pytest.mark.parametrize(
    ("optimizer", "arguments", "sentence"),
    [
        (NOISE, {"key": None}, "`key` is None and the optimiser draws"),
        (NOISE, {"steps": 0}, "`steps` must be an integer of at least 1"),
        (NOISE, {"steps": 2**30 + 1}, "steps are counted up to"),
        (NOISE, {"record": ["los"]}, "`record` has 'los': known are loss, trace"),
        (NOISE, {"record": ["test_error"]}, "`truth` is None"),
        (NOISE, {"record": ()}, "`record` is empty"),
        (NOISE, {"record": ["step"]}, "which every history has"),
        (NOISE, {"truth": jnp.ones((2, 2))}, "`truth` must be a matrix of shape"),
        (NOISE, {"until": {"time": 1.0}}, "`until` bounds 'time', which `record` does not name"),
        (fr.dynamics.FlatFlow(0.1), {}, "does not interpolate"),
        (fr.LabelNoise(0.1, 0.1, 40, epochs=True), {}, "an epoch has no full batch"),
        (
            fr.LabelNoise(np.ones(2), 0.1, 3),
            {"key": jax.random.split(KEY, 3)},
            r"different numbers of runs: `optimizer` \[2\], `key` \[3\]",
        ),
    ],
)
def test_bad_input_is_named(problem, optimizer, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        trained(problem, optimizer, **arguments)


def test_another_data_type_is_named(problem):
    A, y, network, _ = problem
    single = jax.tree.map(lambda w: w.astype(jnp.float32), network)
    with pytest.raises(TypeError, match="`network` has data type float32"):
        fr.train(single, A, y, NOISE, steps=3, key=KEY)


@pytest.mark.slow
def test_float32_stays_float32(problem):
    A, y, network, _ = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tuple(problem))
    run = fr.train(network, A, y, NOISE, steps=30, key=KEY)
    assert {layer.dtype for layer in run.network.layers} == {jnp.dtype("float32")}
    assert run.history["loss"].dtype == np.float32


@pytest.mark.slow
def test_every_ensemble(ensemble):
    A = ensemble(5, 4, 12)
    network = fr.DeepLinear.gaussian(KEY, (5, 4), 2, scale=0.3)
    y = A.apply(jnp.ones((5, 4)))
    optimizer = fr.LabelNoise(1e-3, 0.01, 3)
    if isinstance(A, fr.IsotropicMeasurements):  # its measurements cannot be told apart
        optimizer = fr.dynamics.GradientDescent(1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = fr.train(network, A, y, optimizer, steps=500, key=KEY)
    assert run.history["loss"][-1] < 0.9 * run.history["loss"][0]


def compiled(problem, optimizer, names, runs):
    A, y, network, _ = problem
    optimizer = jax.tree.map(jnp.asarray, optimizer)
    quantities = tuple((name, QUANTITIES[name]) for name in names)
    key = KEY if runs is None else jax.random.split(KEY, runs)
    plan, data = Plan(100, 10, quantities, ()), Problem(A, y, optimizer, key, None)
    axes = None if runs is None else module._axes(data)
    state = module._first(plan, data, network, axes)
    ends = (jnp.asarray(0, jnp.int32), jnp.asarray(100, jnp.int32))
    return module._advance.lower(plan, data, state, *ends, axes).compile().compiled.as_text()


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [False, True])
def test_the_program_has_one_loop_at_a_time(problem, epochs):
    optimizer = fr.LabelNoise(0.01, 0.1, 3, epochs=epochs)
    text = compiled(problem, optimizer, ("loss", "trace", "largest_eigenvalue"), None)
    assert text.count(" while(") > 3
    assert independent_loops(text) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [NOISE, fr.dynamics.FlatFlow(1e-3)], ids=["label noise", "flow"]
)
def test_many_runs_factorise_one_batch_at_a_time(problem, optimizer):
    text = compiled(problem, optimizer, QUANTITIES, 3)
    assert text.count('custom_call_target="lapack_') > 3
    assert independent_factorisations(text) == []
