"""Averages over factorisations: conditional draws against dense algebra, what averaging gains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from compiled_order import independent_factorisations
from flatrank.recover import posterior
from flatrank.recover.alternating import entry_table
from flatrank.recover.average import (
    average,
    entry_moments,
    folded_in,
    line_weights,
    smoothed_shares,
)
from flatrank.recover.buckets import line_buckets
from flatrank.recover.posterior import LineWeights, line_means_and_draws, standard_chances, sweep

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
    unit = ((values - values.mean()) / values.std()).astype(np.float32)
    out = np.random.default_rng(seed).random(len(unit)) < held
    found = average(
        rows, columns, unit, truth.shape, out, fr.Flatness(), 0.5, width, 32, True, draws, seed,
        lambda what, fraction: None, start,
    )  # fmt: skip
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


@pytest.mark.parametrize("biased", [True, False])
def test_means_and_draws_of_lines_are_those_of_their_gaussians(biased):
    rng = np.random.default_rng(1)
    m, n, k = 30, 20, 3
    rows, columns = np.nonzero(rng.random((m, n)) < 0.4)
    values = rng.standard_normal(len(rows)).astype(np.float32)
    others = rng.standard_normal((n, k + 1)).astype(np.float32)
    others[:, -1] *= biased
    root = rng.standard_normal((k + 1, k + 1))
    precision = (root @ root.T + np.eye(k + 1)).astype(np.float32)
    weights, noise = rng.random(m).astype(np.float32) + 0.5, np.float32(2.5)
    lines = line_buckets(rows, columns, values, np.ones(len(rows), np.float32), (m, n), k)

    def solved(normal):
        arrays = (jnp.asarray(x) for x in (others, precision, weights, noise))
        given = jnp.asarray(normal, jnp.float32)
        return line_means_and_draws(lines, *arrays, jnp.float32(biased), given)

    factors = [np.asarray(solved(np.tile(e, (m, 1)))[1]) for e in np.eye(k + 1)]
    mean, draw = (np.asarray(x) for x in solved(np.zeros((m, k + 1))))
    np.testing.assert_allclose(mean, draw, atol=1e-6)
    features = np.column_stack([others[:, :-1], np.full(n, float(biased))])
    for a in range(m):
        seen = rows == a
        X = features[columns[seen]]
        system = noise * X.T @ X + weights[a] * precision
        expected = np.linalg.solve(system, noise * X.T @ (values[seen] - others[columns[seen], -1]))
        covariance = sum(np.outer(f[a] - mean[a], f[a] - mean[a]) for f in factors)
        if not biased:
            expected[-1] = 0.0
            inverse = np.linalg.inv(system)
            inverse[-1], inverse[:, -1] = 0.0, 0.0
            np.testing.assert_allclose(covariance, inverse, atol=1e-5)
            continue
        np.testing.assert_allclose(mean[a], expected, atol=1e-5)
        np.testing.assert_allclose(covariance, np.linalg.inv(system), atol=1e-5)


def test_precisions_are_wishart_and_gamma():
    rng = np.random.default_rng(0)
    shape, width, count = (7, 5), 2, 11.0
    several = [standard_chances(rng, shape, count, width) for _ in range(800)]
    # E[A A^T] is the degrees of freedom times the identity, Var(gamma) its shape.
    for name, lines in (("row_precision", 7), ("column_precision", 5)):
        factors = np.stack([np.asarray(getattr(one, name)) for one in several])
        mean = np.mean(factors @ np.swapaxes(factors, 1, 2), axis=0)
        np.testing.assert_allclose(mean, (lines + width + 2) * np.eye(3), atol=0.6)
    noise = np.asarray([float(one.noise_precision) for one in several])
    np.testing.assert_allclose([noise.mean(), noise.var()], 1 + count / 2, rtol=0.2)


def test_a_sweep_factorises_one_batch_at_a_time():
    rows, columns, values, truth = ratings()
    table = entry_table(
        rows, columns, values.astype(np.float32), np.ones(len(rows), bool), truth.shape, 8
    )
    weights = line_weights(rows, columns, truth.shape, fr.Flatness(), 0.5, True)
    random = np.random.default_rng(0)
    state = posterior.first_state(truth.shape, 8, random)
    chances = standard_chances(random, truth.shape, float(len(rows)), 8)
    lowered = sweep.lower(table, weights, state, chances, jax.random.key(0))
    text = lowered.compile().compiled.as_text()
    assert text.count('custom_call_target="lapack_') > 3
    assert independent_factorisations(text) == []


def test_the_average_is_near_the_truth_and_knows_the_noise(found):
    average, mean, spread = found
    _, _, _, truth = ratings()
    grid = np.indices(truth.shape).reshape(2, -1)
    error = mean + spread * entry_moments(average.draws, *grid)[0] - truth.ravel()
    assert np.sqrt(np.mean(error**2)) < oracle_error()
    noise = spread * np.mean(average.draws.noise_precision**-0.5)
    np.testing.assert_allclose(noise, NOISE, rtol=0.1)


def test_the_average_beats_the_best_single_penalty():
    rows, columns, values, truth = ratings(share=0.15)
    single = fr.MatrixCompleter(draws=0, random_state=0)
    several = fr.MatrixCompleter(draws=40, random_state=0)
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
    middle = np.asarray(average.middle.network.matrix())
    assert np.linalg.norm(middle - best) < 0.02 * np.linalg.norm(best)


def test_new_rows_are_folded_in_as_their_means(found):
    average, _, _ = found
    draws = average.draws
    rows, columns, values, truth = ratings()
    n = truth.shape[1]
    unit = ((values - values.mean()) / values.std()).astype(np.float32)
    first = rows == 0
    lines = line_buckets(
        np.zeros(first.sum(), int), columns[first], unit[first],
        np.ones(first.sum(), np.float32), (1, n), draws.rows.shape[2] - 1,
    )  # fmt: skip
    shares = smoothed_shares(np.asarray([first.sum()]), len(rows) / len(truth), fr.Flatness(), 0.5)
    folded = folded_in(draws, lines, shares, True)[0]
    total = np.zeros(n)
    for V, prior, noise in zip(
        draws.columns, draws.row_precision, draws.noise_precision, strict=True
    ):
        X = np.column_stack([V[columns[first], :-1], np.ones(first.sum())])
        right = noise * X.T @ (unit[first] - V[columns[first], -1])
        x = np.linalg.solve(noise * X.T @ X + shares[0] * prior, right)
        total += V[:, :-1] @ x[:-1] + x[-1] + V[:, -1]
    np.testing.assert_allclose(folded, total / len(draws.noise_precision), atol=1e-3)


def test_the_same_seed_gives_the_same_draws(found):
    again = averaged()[0]
    for one, other in zip(found[0].draws, again.draws, strict=True):
        np.testing.assert_array_equal(one, other)


def test_draws_go_on_with_more_entries_and_lines(found):
    rows, columns, values, truth = ratings()
    few = rows < 100
    data = rows[few], columns[few], values[few], truth[:100]
    part = averaged(data=data)[0]
    whole, mean, spread = averaged(start=part.draws)
    assert whole.draws.rows.shape[1] == len(truth)
    grid = np.indices(truth.shape).reshape(2, -1)
    error = mean + spread * entry_moments(whole.draws, *grid)[0] - truth.ravel()
    assert np.sqrt(np.mean(error**2)) < oracle_error()


def test_smoothing_goes_from_the_number_of_entries_to_all_alike():
    degrees = np.asarray([0, 2, 4, 6])
    for smoothing, expected in (
        (0.0, [1e-3, 2 / 3, 4 / 3, 2.0]),
        (0.5, [0.5, 5 / 6, 7 / 6, 1.5]),
        (1.0, [1, 1, 1, 1]),
    ):
        np.testing.assert_allclose(
            smoothed_shares(degrees, 3.0, fr.Flatness(), smoothing), expected
        )
    np.testing.assert_allclose(smoothed_shares(degrees, 3.0, fr.WeightDecay(), 0.0), 1.0)
    weights = line_weights(
        np.asarray([0, 1, 1]), np.asarray([0, 0, 1]), (2, 2), fr.Flatness(), 0.0, False
    )
    assert isinstance(weights, LineWeights)
    np.testing.assert_allclose(weights.rows, [2 / 3, 4 / 3], rtol=1e-6)
    assert float(weights.biased) == 0.0
