"""Averages over factorisations: conditional draws against dense algebra, what averaging gains."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from compiled_order import independent_factorisations
from flatrank.completion import FactorisationAverage
from flatrank.completion._buckets import line_buckets
from flatrank.completion.average._bucketed import draw_bucketed
from flatrank.completion.average._completion import folded_in
from flatrank.completion.average._compressed import compressed_lines
from flatrank.completion.average._draws import moments
from flatrank.completion.average._gibbs import drawn_noise, drawn_prior
from flatrank.completion.average._given import Given
from flatrank.completion.average._lines import draw_lines
from flatrank.completion.average._middle import middle
from flatrank.completion.average._model import number_of_draws
from flatrank.entries import Entries

NOISE = 0.3


def ratings(m=120, n=80, rank=3, share=0.3, seed=0):
    """rows, columns, values of a noisy low-rank table with biases, and the whole truth."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n)) / rank**0.5
    truth = 2 + truth + 0.5 * rng.standard_normal((m, 1)) + 0.5 * rng.standard_normal((1, n))
    rows, columns = np.nonzero(rng.random((m, n)) < share)
    values = truth[rows, columns] + NOISE * rng.standard_normal(len(rows))
    return rows, columns, values, truth


def averaged(draws=20, start=None, width=None, held=0.1, seed=0, data=None):
    rows, columns, values, truth = ratings() if data is None else data
    out = np.random.default_rng(seed).random(len(values)) < held
    model = FactorisationAverage(draws=draws, width=width, seed=seed, start=start)
    found = model.sample(Entries(rows, columns, values, truth.shape), out)
    return found, values.mean(), values.std()


def oracle_error(rank=3, sweeps=40):
    """Of alternating least squares that is told the rank and started from the truth."""
    rows, columns, values, truth = ratings()
    _, s, vt = np.linalg.svd(truth)
    k = rank + 2  # the biases are two directions more
    right = (np.sqrt(s[:k])[:, None] * vt[:k]).T
    for _ in range(sweeps):
        left = np.stack([
            np.linalg.lstsq(right[columns[rows == a]], values[rows == a])[0] for a in range(120)
        ])  # fmt: skip
        right = np.stack([
            np.linalg.lstsq(left[rows[columns == b]], values[columns == b])[0] for b in range(80)
        ])  # fmt: skip
    return np.sqrt(np.mean((left @ right.T - truth) ** 2))


@pytest.fixture(scope="module")
def found():
    return averaged()


def bucketed(rows, columns, values, shape, width):
    entries = Entries(rows, columns, values, shape)
    return line_buckets(entries, values, np.ones(len(rows), np.float32), axis=0, width=width)


def compressed(rows, columns, values, shape, width):
    entries = Entries(rows, columns, values, shape)
    return compressed_lines(entries, values, np.ones(len(rows), bool), axis=0)


@pytest.mark.parametrize("arranged", [bucketed, compressed])
@pytest.mark.parametrize("biased", [True, False])
def test_means_and_draws_of_lines_are_those_of_their_gaussians(arranged, biased):
    rng = np.random.default_rng(1)
    m, n, k = 30, 20, 3
    rows, columns = np.nonzero(rng.random((m, n)) < 0.4)
    values = rng.standard_normal(len(rows)).astype(np.float32)
    others = rng.standard_normal((n, k + 1)).astype(np.float32)
    others[:, -1] *= biased
    root = rng.standard_normal((k + 1, k + 1))
    precision = (root @ root.T + np.eye(k + 1)).astype(np.float32)
    centre = rng.standard_normal(k + 1).astype(np.float32)
    level, noise = (rng.random(size).astype(np.float32) + 0.5 for size in (m, n))
    lines = arranged(rows, columns, values, (m, n), k)

    def solved(normal, own=0.0, over=0.0):
        own = np.full((m, k + 1), own, np.float32)
        normal = normal.astype(np.float32)
        given = Given(others, own, centre, precision, level, noise, normal)
        return draw_lines(lines, given, biased=biased, over=over)

    factors = [solved(np.tile(e, (m, 1)))[1] for e in np.eye(k + 1)]
    mean, draw, squares = solved(np.zeros((m, k + 1)))
    np.testing.assert_allclose(mean, draw, atol=1e-6)
    # Overrelaxed: as far on the other side as the correlation says, and as much less spread.
    other, shifted, _ = solved(np.zeros((m, k + 1)), own=1.0, over=0.6)
    np.testing.assert_allclose(other, mean, atol=1e-6)
    where = slice(None) if biased else slice(-1)
    np.testing.assert_allclose(shifted[:, where], (mean - 0.6 * (1 - mean))[:, where], atol=1e-5)
    smaller = solved(np.tile(np.eye(k + 1)[0], (m, 1)), own=1.0, over=0.6)[1] - shifted
    np.testing.assert_allclose(smaller, 0.8 * (factors[0] - mean), atol=1e-5)
    features = np.column_stack([others[:, :-1], np.full(n, float(biased))])
    for a in range(m):
        seen = rows == a
        X, certainty = features[columns[seen]], level[a] * noise[columns[seen]]
        target = values[seen] - others[columns[seen], -1]
        system = (X.T * certainty) @ X + precision
        expected = np.linalg.solve(system, X.T @ (certainty * target) + precision @ centre)
        covariance = sum(np.outer(f[a] - mean[a], f[a] - mean[a]) for f in factors)
        inverse = np.linalg.inv(system)
        if not biased:
            expected[-1], inverse[-1], inverse[:, -1] = 0.0, 0.0, 0.0
        np.testing.assert_allclose(mean[a], expected, atol=1e-5)
        np.testing.assert_allclose(covariance, inverse, atol=1e-5)
        np.testing.assert_allclose(
            squares[a], noise[columns[seen]] @ (target - X @ expected) ** 2, rtol=1e-3
        )


@pytest.mark.slow
def test_overrelaxed_draws_have_the_same_distribution_and_average_better():
    rows, columns, values, truth = ratings(m=40, n=30, rank=1)
    unit = ((values - values.mean()) / values.std()).astype(np.float32)
    n, k = truth.shape[1], 2
    rng = np.random.default_rng(0)
    others = rng.standard_normal((n, k + 1), np.float32)
    lines = compressed(rows, columns, unit, truth.shape, k)
    prior = np.zeros(k + 1, np.float32), np.eye(k + 1, dtype=np.float32)
    noise = np.ones(len(truth), np.float32), np.ones(n, np.float32)

    def chain(over):
        own, draws = np.zeros((len(truth), k + 1), np.float32), []
        for _ in range(300):
            normal = rng.standard_normal(own.shape, np.float32)
            given = Given(others, own, *prior, *noise, normal)
            mean, own, _ = draw_lines(lines, given, biased=True, over=over)
            draws.append(own - mean)
        return np.stack(draws[20:])

    plain, over = chain(0.0), chain(0.9)
    np.testing.assert_allclose(over.std(), plain.std(), rtol=0.03)
    assert np.mean(over.mean(0) ** 2) < 0.2 * np.mean(plain.mean(0) ** 2)


@pytest.mark.slow
def test_machine_code_draws_what_xla_draws():
    rng = np.random.default_rng(2)
    # Lines without entries, with fewer than features and with more than are gathered at once.
    m, n, k = 70, 600, 9
    known = rng.random((m, n)) < np.geomspace(1e-3, 1, m)[:, None]
    rows, columns = np.nonzero(known)
    values = rng.standard_normal(len(rows)).astype(np.float32)
    normal, own = (rng.standard_normal((m, k + 1), np.float32) for _ in range(2))
    others, centre = rng.standard_normal((n, k + 1), np.float32), np.ones(k + 1, np.float32)
    noise = rng.random(m, np.float32), rng.random(n, np.float32)
    given = Given(others, own, centre, np.eye(k + 1, dtype=np.float32), *noise, normal)
    one, other = (
        draw_lines(arranged(rows, columns, values, (m, n), k), given, biased=True, over=0.9)
        for arranged in (bucketed, compressed)
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4)


def test_entries_are_compressed_line_by_line_and_stay_in_order():
    lines, others = np.asarray([2, 0, 2, 3, 0]), np.asarray([1, 5, 0, 2, 4])
    found = compressed(lines, others, np.arange(5.0), (5, 6), 1)
    np.testing.assert_array_equal(found.first, [0, 2, 2, 4, 5, 5])
    np.testing.assert_array_equal(found.others, [5, 4, 1, 0, 2])
    np.testing.assert_array_equal(found.values, [1, 4, 0, 2, 3])
    np.testing.assert_array_equal(found.degrees(), [2, 0, 2, 1, 0])


@pytest.mark.slow
@pytest.mark.parametrize("where", ["cpu", "gpu", "without Numba"])
def test_tables_are_arranged_as_the_machine_wants_them(monkeypatch, where):
    if where == "gpu":
        monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    if where != "cpu":
        monkeypatch.setitem(sys.modules, "flatrank.completion.average._machine_code", None)
    if where == "without Numba":
        monkeypatch.setitem(sys.modules, "numba", None)
    found, mean, spread = averaged()
    _, _, _, truth = ratings()
    grid = np.indices(truth.shape).reshape(2, -1)
    error = mean + spread * moments(found.draws, *grid)[0] - truth.ravel()
    assert np.sqrt(np.mean(error**2)) < oracle_error()


@pytest.mark.slow
def test_priors_are_drawn_from_the_normal_and_the_wishart_of_their_factors():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((7, 3), np.float32)
    several = [drawn_prior(factors, rng) for _ in range(4000)]
    means = np.stack([mean for mean, _ in several]).astype(float)
    precisions = np.stack([precision for _, precision in several]).astype(float)
    # One line of zeros is the prior's.
    with_zero = np.vstack([factors, np.zeros(3)])
    scatter = 8 * np.cov(with_zero.T, bias=True) + 0.2 * np.eye(3)
    wishart = (7 + 3 + 1) * np.linalg.inv(scatter)
    np.testing.assert_allclose(precisions.mean(0), wishart, rtol=0.05, atol=0.05)
    # Var(W_ii) of a Wishart is twice the square of its mean over the degrees of freedom.
    diagonals = np.diagonal(precisions, axis1=1, axis2=2)
    np.testing.assert_allclose(diagonals.var(0), 2 * np.diag(wishart) ** 2 / 11, rtol=0.15)
    # With means integrated over precisions: covariance scatter / (8 (degrees of freedom - 4)).
    np.testing.assert_allclose(means.mean(0), with_zero.mean(0), atol=0.02)
    np.testing.assert_allclose(np.cov(means.T), scatter / (8 * 7), rtol=0.15, atol=0.005)


def test_noise_levels_are_gamma_numbers():
    rng = np.random.default_rng(0)
    squares, degrees = np.asarray([2.0, 8.0, 0.0, 1.0, 5.0]), np.asarray([3.0, 8.0, 0.0, 2.0, 5.0])
    level = np.float32(2)
    several = [drawn_noise(squares, degrees, level, rng) for _ in range(4000)]
    noise = np.stack([found for found, _ in several]).astype(float)
    mean = (2 + degrees / 2) / (1 + squares / 2)
    np.testing.assert_allclose(noise.mean(0), mean, rtol=0.05)
    np.testing.assert_allclose(noise.var(0), mean / (1 + squares / 2), rtol=0.1)
    # 2 * sum of the precisions / gamma number of shape 11, whose inverse has the mean 1/10.
    levels = np.asarray([float(found) for _, found in several])
    np.testing.assert_allclose((levels / noise.sum(1)).mean(), 2 / 10, rtol=0.05)


@pytest.mark.slow
def test_xla_factorises_one_batch_at_a_time():
    # Rows of very unequal numbers of entries, for several buckets.
    rng = np.random.default_rng(0)
    m, n, q = 1500, 1000, 9
    rows, columns = np.nonzero(rng.random((m, n)) < np.geomspace(1e-3, 1, m)[:, None])
    lines = bucketed(rows, columns, np.ones(len(rows), np.float32), (m, n), q - 1)
    sizes = (n, q), (m, q), (q,), (q, q), (m,), (n,), (m, q)
    other, own, mean, precision, *noise, normal = (jnp.ones(size, jnp.float32) for size in sizes)
    given = Given(other, own, mean, precision, *noise, normal)
    lowered = draw_bucketed.lower(lines, given, jnp.float32(1), jnp.float32(0.9))
    text = lowered.compile().compiled.as_text()
    assert text.count('custom_call_target="lapack_') > 3
    assert independent_factorisations(text) == []


def test_the_average_is_near_the_truth_and_knows_the_noise(found):
    average, mean, spread = found
    _, _, _, truth = ratings()
    grid = np.indices(truth.shape).reshape(2, -1)
    error = mean + spread * moments(average.draws, *grid)[0] - truth.ravel()
    assert np.sqrt(np.mean(error**2)) < oracle_error()
    noise = spread * np.mean(average.draws.noise_precision**-0.5)
    np.testing.assert_allclose(noise, NOISE, rtol=0.1)


@pytest.mark.slow
def test_the_average_beats_the_best_single_penalty():
    rows, columns, values, truth = ratings(share=0.15)
    single = fr.MatrixCompleter(penalty="flatness", random_state=0)
    several = fr.MatrixCompleter(random_state=0)
    errors = [
        np.sqrt(np.mean((one.fit_entries(rows, columns, values, truth.shape).completion_.matrix()
                         - truth) ** 2))
        for one in (single, several)
    ]  # fmt: skip
    assert errors[1] < 0.95 * errors[0]


def test_the_middle_is_the_nearest_network_to_the_mean(found):
    average, _, _ = found
    draws = average.draws
    whole = np.mean(
        [r[:, :-1] @ c[:, :-1].T for r, c in zip(draws.rows, draws.columns, strict=True)], axis=0
    )
    u, s, vt = np.linalg.svd(whole)
    k = draws.rows.shape[2] - 1
    best = (u[:, :k] * s[:k]) @ vt[:k]
    nearest = np.asarray(middle(draws).network.matrix())
    assert np.linalg.norm(nearest - best) < 0.02 * np.linalg.norm(best)


def test_new_rows_are_folded_in_as_their_means(found):
    average, _, _ = found
    draws = average.draws
    rows, columns, values, truth = ratings()
    n = truth.shape[1]
    unit = ((values - values.mean()) / values.std()).astype(np.float32)
    first = rows == 0
    new = Entries(rows[first], columns[first], values[first], (1, n))
    folded = folded_in(draws, new, unit[first], biased=True)[0]
    total = np.zeros(n)
    for V, mean, prior, noise in zip(
        draws.columns, draws.row_mean, draws.row_precision, draws.noise_precision, strict=True
    ):
        X = np.column_stack([V[columns[first], :-1], np.ones(first.sum())])
        weighted = X.T * noise[columns[first]]
        right = weighted @ (unit[first] - V[columns[first], -1]) + prior @ mean
        x = np.linalg.solve(weighted @ X + prior, right)
        total += V[:, :-1] @ x[:-1] + x[-1] + V[:, -1]
    np.testing.assert_allclose(folded, total / len(draws.columns), atol=1e-3)


def test_the_same_seed_gives_the_same_draws(found):
    again = averaged()[0]
    for one, other in zip(found[0].draws, again.draws, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_draws_go_on_with_more_entries_and_lines(found):
    rows, columns, values, truth = ratings()
    few = rows < 100
    data = rows[few], columns[few], values[few], truth[:100]
    part = averaged(data=data)[0]
    whole, mean, spread = averaged(start=part.draws)
    assert whole.draws.rows.shape[1] == len(truth)
    grid = np.indices(truth.shape).reshape(2, -1)
    error = mean + spread * moments(whole.draws, *grid)[0] - truth.ravel()
    assert np.sqrt(np.mean(error**2)) < oracle_error()


def test_each_column_has_the_noise_that_it_was_given():
    # Many columns: what is uncertain of the rows would pass for noise of the sure columns.
    rows, columns, _, truth = ratings(m=400, n=100, share=0.6)
    levels = np.geomspace(0.1, 1.0, 100)
    values = truth[rows, columns] + levels[columns] * np.random.default_rng(1).standard_normal(
        len(rows)
    )
    average, _, spread = averaged(data=(rows, columns, values, truth))
    found = spread * np.mean(average.draws.noise_precision**-0.5, axis=0)
    np.testing.assert_allclose(found, levels, rtol=0.25)


@pytest.mark.slow
def test_directions_are_added_while_the_weakest_is_more_than_noise():
    for rank, width in ((3, 14), (20, 30)):
        found, _, _ = averaged(data=ratings(m=400, n=300, rank=rank, share=0.5))
        assert middle(found.draws).network.width == width


def test_fewer_draws_of_more_entries():
    assert [number_of_draws(10**k) for k in (1, 5, 6, 7)] == [40, 40, 13, 8]
    assert number_of_draws(800_000) == 16


def test_rows_without_an_entry_are_predicted_from_the_columns():
    rows, columns, values, truth = ratings()
    found, mean, spread = averaged(
        data=(rows[rows > 0], columns[rows > 0], values[rows > 0], truth)
    )
    nothing = np.zeros(truth.shape[1], int), np.arange(truth.shape[1])
    predicted = mean + spread * moments(found.draws, *nothing)[0]
    assert np.corrcoef(predicted, truth.mean(0))[0, 1] > 0.9
