"""Alternating minimisation against the objective written out, and tables against their truth."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from compiled_order import independent_factorisations
from flatrank.completion import SingleFactorisation
from flatrank.completion._biased import BiasedNetwork
from flatrank.completion._buckets import line_buckets
from flatrank.completion._width import default_width
from flatrank.completion.single._alternating import alternate
from flatrank.completion.single._bucketed import BucketedEntries, bucketed, with_all_entries
from flatrank.completion.single._lines import last_layer_problem, solve_lines
from flatrank.completion.single._objective import Objective
from flatrank.entries import Entries

PENALTIES = [fr.Flatness(), fr.WeightDecay()]


def problem(m=30, n=20, fraction=0.4, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(rng.random((m, n)) < fraction)
    values = rng.standard_normal(len(rows))
    weights = (rng.random(len(rows)) < 0.8).astype(float)
    return rows, columns, values, weights


def as_table(rows, columns, values, weights, shape, width=4):
    entries = Entries(rows, columns, values, shape)
    return BucketedEntries(
        line_buckets(entries, values, weights, axis=0, width=width),
        line_buckets(entries, values, weights, axis=1, width=width),
        jnp.asarray(weights.sum()),
    )


def random_model(shape, depth, width=4, seed=0):
    key, row_key, column_key = jax.random.split(jax.random.key(seed), 3)
    return BiasedNetwork(
        fr.DeepLinear.gaussian(key, shape, depth, width),
        jax.random.normal(row_key, shape[:1]),
        jax.random.normal(column_key, shape[1:]),
    )


def objective_written_out(model, penalty, strength, rows, columns, values, weights):
    """N (loss + strength * penalty) over the entries with weight one, the biases' share added."""
    used = weights > 0
    i, j = rows[used], columns[used]
    matrix = model.network.matrix() + model.row_bias[:, None] + model.column_bias[None]
    squares = jnp.sum((matrix[i, j] - values[used]) ** 2)
    A = fr.EntryMeasurements(i, j, model.network.shape)
    count = float(used.sum())
    if isinstance(penalty, fr.Flatness):
        biases = 2 * jnp.sum(model.row_bias[i] ** 2 + model.column_bias[j] ** 2)
        biases = biases / count
    else:
        biases = jnp.sum(model.row_bias**2) + jnp.sum(model.column_bias**2)
    return squares + strength * count * (penalty(model.network, A) + biases)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_objective_is_loss_plus_penalty(penalty, depth):
    data = problem()
    model = random_model((30, 20), depth)
    found = Objective(penalty, jnp.asarray(0.3))(model, as_table(*data, (30, 20)))
    np.testing.assert_allclose(found, objective_written_out(model, penalty, 0.3, *data), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("depth", "width"), [(2, 4), (2, 19), (3, 4), (4, 3)])
def test_rows_are_solved_exactly(penalty, depth, width):
    """The gradient with respect to the last layer and the row biases vanishes."""
    data = problem()
    table = as_table(*data, (30, 20), width)
    model = random_model((30, 20), depth, width)
    lines = last_layer_problem(model, Objective(penalty, jnp.asarray(0.3)), table.count)
    solved = solve_lines(table.by_row, lines)

    def of_rows(x):
        layers = (*model.network.layers[:-1], x[:, :-1])
        moved = BiasedNetwork(fr.DeepLinear(layers), x[:, -1], model.column_bias)
        return objective_written_out(moved, penalty, 0.3, *data)

    gradient, scale = jax.grad(of_rows)(solved), jax.grad(of_rows)(jnp.zeros_like(solved))
    assert float(jnp.max(jnp.abs(gradient))) < 1e-11 * float(jnp.max(jnp.abs(scale)))


@pytest.mark.slow
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.4])
def test_sweeps_never_raise_the_objective_and_end_at_a_stationary_point(penalty, depth, smoothing):
    data = problem()
    table = as_table(*data, (30, 20))
    strength = jnp.asarray(0.02 if isinstance(penalty, fr.Flatness) else 0.002)
    objective = Objective(penalty, strength, smoothing=smoothing)
    fit = alternate(
        random_model((30, 20), depth),
        table,
        objective,
        tolerance=jnp.asarray(1e-13),
        max_sweeps=jnp.asarray(3000),
    )
    history = np.asarray(fit.history)[: int(fit.sweeps)]
    assert (np.diff(history) <= 1e-12 * history[0]).all()
    gradient = jax.grad(lambda model: objective(model, table))(fit.model)
    largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient))
    assert largest < 1e-3


@pytest.mark.slow
def test_buckets_hold_every_entry_once():
    rng = np.random.default_rng(0)
    # Heavy-tailed degrees, so that several buckets and blocks are made.
    rows = np.repeat(np.arange(3000), np.minimum(rng.zipf(1.6, 3000), 800))
    columns = np.concatenate([rng.permutation(900)[:d] for d in np.bincount(rows)])
    values = np.arange(1.0, len(rows) + 1)
    entries = Entries(rows, columns, values, (3000, 900))
    lines = line_buckets(entries, values, np.ones(len(rows)), axis=0, width=32)
    assert len(lines.buckets) > 1
    assert max(bucket.others.shape[0] for bucket in lines.buckets) > 1
    held = np.concatenate([np.asarray(bucket.values).ravel() for bucket in lines.buckets])
    np.testing.assert_array_equal(np.sort(held[held > 0]), values)
    sums = [np.asarray(b.values).sum(2).reshape(*b.values.shape[:2], 1) for b in lines.buckets]
    np.testing.assert_allclose(
        np.asarray(lines.lines_of([jnp.asarray(s) for s in sums]))[:, 0],
        np.bincount(rows, values, minlength=3000),
    )
    padded = sum(bucket.others.size for bucket in lines.buckets)
    assert padded < 2.5 * len(rows)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("depth", [2, 3])
def test_noisy_low_rank_table_is_recovered_without_a_rank(penalty, depth):
    rng = np.random.default_rng(1)
    truth = 5 + rng.standard_normal((200, 3)) @ rng.standard_normal((3, 150))
    rows, columns = np.nonzero(rng.random(truth.shape) < 0.3)
    values = truth[rows, columns] + 0.1 * rng.standard_normal(len(rows))
    entries = Entries(rows, columns, values, truth.shape)
    completion = SingleFactorisation(penalty, depth).fit(entries)
    error = np.sqrt(np.mean((completion.matrix() - truth) ** 2))
    # The oracle, least squares on the true rank, has 0.1 * sqrt(3 * 347 / 9000) = 0.034; shrinkage
    # costs a factor of two, but not depth-3 weight decay, which hardly shrinks what it keeps.
    deep_decay = depth == 3 and isinstance(penalty, fr.WeightDecay)
    assert error < (0.05 if deep_decay else 0.085)
    assert 0.1 < completion.held_out_error < 0.15
    strengths = [step.strength for step in completion.path]
    assert strengths == sorted(strengths, reverse=True)
    assert completion.strength in strengths


@pytest.mark.slow
def test_units_of_the_data_do_not_matter():
    rows, columns, values, _ = problem(40, 30)
    plain, moved = (
        SingleFactorisation(fr.Flatness(), strength=0.05 * unit).fit(
            Entries(rows, columns, shift + unit * values, (40, 30))
        )
        for shift, unit in ((0, 1), (100, 1000))
    )
    np.testing.assert_allclose(moved.matrix(), 100 + 1000 * plain.matrix(), atol=5)


def test_default_width_is_what_the_entries_can_determine():
    assert default_width((100, 100), 199) == 1
    assert default_width((100, 100), 2 * 198) == 2
    assert default_width((1000, 1000), 10**6) == 32
    assert default_width((3, 1000), 10**6) == 3


@pytest.mark.slow
def test_progress_is_told():
    told = []
    rows, columns, values, _ = problem(40, 30)
    SingleFactorisation(fr.Flatness()).fit(
        Entries(rows, columns, values, (40, 30)),
        lambda what, fraction: told.append((what, fraction)),
    )
    assert told[0] == ("arranging the entries", 0.0)
    assert told[-1] == ("done", 1.0)
    assert any(what == "choosing the penalty strength" for what, _ in told)
    assert all(0 <= fraction <= 1 for _, fraction in told)


def test_the_limit_is_told_also_beyond_the_history():
    """A fit stopped by `max_sweeps` is never called converged, however long it was."""
    rows, columns, values, _ = problem(40, 30)
    for limit in (3, 300):
        model = SingleFactorisation(fr.Flatness(), strength=0.01, tolerance=-1.0, max_sweeps=limit)
        completion = model.fit(Entries(rows, columns, values, (40, 30)))
        assert completion.sweeps == limit
        assert not completion.converged
        assert len(completion.history) == min(limit, 256)


def test_entries_that_were_held_out_come_back_into_the_layout():
    rows, columns, values, shape = *problem(40, 30)[:3], (40, 30)
    used = np.random.default_rng(0).random(len(rows)) < 0.8
    some, every = (
        bucketed(Entries(rows, columns, values, shape), mask, 4)
        for mask in (used, np.ones_like(used))
    )
    found = with_all_entries(some)
    assert float(some.count) == used.sum()
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(every), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_full_smoothing_is_weight_decay_at_depth_two():
    """Where all lines are held alike, both penalties have the trace norm as their minimum."""
    rows, columns, values, shape = *problem(40, 30)[:3], (40, 30)
    table = as_table(
        rows, columns, values.astype(np.float32), np.ones(len(rows), np.float32), shape
    )
    key = jax.random.key(0)
    network = fr.DeepLinear.gaussian(key, shape, 2, 4, scale=0.3)
    layers = tuple(layer.astype(jnp.float32) for layer in network.layers)
    model = BiasedNetwork(
        fr.DeepLinear(layers), jnp.zeros(40, jnp.float32), jnp.zeros(30, jnp.float32)
    )
    m, n = shape
    strength = jnp.float32(0.02)
    # 2 strength (m n)^{1/2} ||W||_* and strength' ||W||_*, see `_threshold`.
    flat = fr.Flatness(), strength / (2 * (m * n) ** 0.5), jnp.float32(1.0)
    decay = fr.WeightDecay(), strength / (m * n), jnp.float32(0.0)
    objectives = [
        Objective(penalty, share, smoothing=smoothing, biased=False)
        for penalty, share, smoothing in (flat, decay)
    ]
    limits = {"tolerance": jnp.float32(0), "max_sweeps": jnp.asarray(1000)}
    ends = [alternate(model, table, objective, **limits).model for objective in objectives]
    assert float(jnp.linalg.norm(ends[0].network.matrix())) > 0.1
    values = [float(objective(end, table)) for end, objective in zip(ends, objectives, strict=True)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_alternation_factorises_one_batch_at_a_time(depth, monkeypatch):
    module = importlib.import_module("flatrank.completion.single._model")
    texts = []

    def spied(*arguments, **limits):
        texts.append(alternate.lower(*arguments, **limits).compile().compiled.as_text())
        return alternate(*arguments, **limits)

    alternate = module.alternate
    monkeypatch.setattr(module, "alternate", spied)
    rows, columns = np.nonzero(np.random.default_rng(0).random((40, 30)) < 0.5)
    values = np.sin(rows) * columns
    model = SingleFactorisation(fr.Flatness(), depth, strength=0.1)
    model.fit(Entries(rows, columns, values, (40, 30)))
    assert texts[0].count('custom_call_target="lapack_') > 3
    assert independent_factorisations(texts[0]) == []
