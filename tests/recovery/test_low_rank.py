"""Weight decay of depth three and more: the rank is found, near the limit, ill conditioned, noisy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import flatrank as fr
from flatrank.problems import low_rank_matrix
from flatrank.recovery import Auto, Lagrangian
from flatrank.recovery._degrees_of_freedom import determined_rank
from flatrank.recovery._machine import XLA
from flatrank.recovery._step_limits import StepLimits
from flatrank.recovery.factored import factored
from flatrank.recovery.path._homotopy import PathSettings, homotopy, start_width


def relative_error(found, truth):
    return float(jnp.linalg.norm(found - truth) / jnp.linalg.norm(truth))


def entries(seed, shape, rank, oversampling):
    """Uniform entries, at least 2 * rank in each row and column so that they determine the matrix."""
    rng = np.random.default_rng(seed)
    m, n = shape
    count = int(oversampling * rank * (m + n - rank))
    while True:
        mask = np.zeros(m * n, bool)
        mask[rng.choice(m * n, count, replace=False)] = True
        mask = mask.reshape(m, n)
        if min(mask.sum(0).min(), mask.sum(1).min()) >= 2 * rank:
            return fr.EntryMeasurements.from_mask(mask)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4])
def test_missing_entries_near_the_limit(depth):
    truth = low_rank_matrix(jax.random.key(0), (120, 100), 4)
    A = entries(0, (120, 100), 4, 1.9)
    solution = fr.recover(A, A.apply(truth), depth, fr.WeightDecay())
    assert solution.result == fr.recovery.Result.low_rank
    assert int(solution.rank) == 4
    assert relative_error(solution.matrix, truth) <= 1e-12
    assert solution.network.depth == depth


@pytest.mark.slow
def test_condition_number_1e5():
    u, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (100, 5)))
    v, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (90, 5)))
    truth = (u * jnp.logspace(0, -5, 5)[None]) @ v.T
    A = entries(1, (100, 90), 5, 2.6)
    solution = fr.recover(A, A.apply(truth), 3, fr.WeightDecay())
    assert int(solution.rank) == 5
    assert relative_error(solution.matrix, truth) <= 1e-12
    found = jnp.linalg.svd(solution.matrix)[1][:5]
    np.testing.assert_allclose(found, jnp.logspace(0, -5, 5), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "rank one"])
def test_other_ensembles(kind):
    truth = low_rank_matrix(jax.random.key(2), (20, 18), 2)
    count = 130
    if kind == "dense":
        A = fr.gaussian_measurements(jax.random.key(3), count, (20, 18))
    else:
        left, right = (
            jax.random.normal(jax.random.key(k), (count, d)) for k, d in ((4, 20), (5, 18))
        )
        A = fr.RankOneMeasurements(left, right)
    solution = fr.recover(A, A.apply(truth), 3, fr.WeightDecay())
    assert solution.result == fr.recovery.Result.low_rank
    assert relative_error(solution.matrix, truth) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_float32_data_of_any_scale_is_solved_in_float32(scale):
    truth = low_rank_matrix(jax.random.key(0), (60, 50), 2).astype(jnp.float32)
    A = entries(2, (60, 50), 2, 3.0)
    solution = fr.recover(A, A.apply(truth) * jnp.float32(scale), 3, fr.WeightDecay())
    assert solution.matrix.dtype == jnp.float32
    assert solution.result == fr.recovery.Result.low_rank
    assert relative_error(solution.matrix / jnp.float32(scale), truth) <= 1e-4


@pytest.mark.slow
def test_jit_and_vmap_equal_the_loop():
    A = entries(3, (30, 25), 1, 3.0)
    truths = jnp.stack([low_rank_matrix(jax.random.key(i), (30, 25), 1) for i in range(2)])
    ys = jax.vmap(A.apply)(truths)
    solve = lambda y: fr.recover(A, y, 3, fr.WeightDecay()).matrix  # noqa: E731
    np.testing.assert_allclose(eqx.filter_jit(jax.vmap(solve))(ys), truths, atol=1e-9)


@pytest.mark.slow
def test_a_matrix_that_is_not_determined_is_not_called_recovered():
    """Half of the entries of a matrix of full rank: no low-rank matrix has them."""
    truth = jax.random.normal(jax.random.key(0), (12, 10))
    A = entries(4, (12, 10), 2, 1.5)
    solution = fr.recover(
        A, A.apply(truth), 3, fr.WeightDecay(), method=Auto(lagrangian=Lagrangian(100))
    )
    assert solution.result != fr.recovery.Result.low_rank
    assert not bool(solution.successful)
    assert relative_error(solution.matrix, truth) > 0.1


@pytest.mark.slow
def test_a_matrix_of_full_rank_seen_whole_is_recovered():
    truth = jax.random.normal(jax.random.key(0), (7, 6))
    A = fr.IsotropicMeasurements((7, 6))
    solution = fr.recover(A, A.apply(truth), 3, fr.WeightDecay())
    assert bool(solution.successful), solution.message
    assert relative_error(solution.matrix, truth) <= 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("noise", [1e-6, 1e-3, 0.1])
@pytest.mark.parametrize("kind", ["entries", "dense"])
def test_noisy_recovery_is_as_good_as_an_oracle_that_knows_the_rank(kind, noise):
    truth = low_rank_matrix(jax.random.key(0), (40, 30), 2)
    if kind == "entries":
        A = entries(5, (40, 30), 2, 3.0)
    else:
        A = fr.gaussian_measurements(jax.random.key(1), 400, (40, 30))
    clean = A.apply(truth)
    sigma = noise * float(jnp.sqrt(jnp.mean(clean**2)))
    y = clean + sigma * jax.random.normal(jax.random.key(2), clean.shape)

    # Least squares on the true rank from the truth, by an independent solver.
    u, s, vt = (np.asarray(x) for x in jnp.linalg.svd(truth, full_matrices=False))
    start = np.concatenate([(u[:, :2] * s[:2] ** 0.5).ravel(), (vt[:2].T * s[:2] ** 0.5).ravel()])
    product = lambda x: jnp.reshape(x[:80], (40, 2)) @ jnp.reshape(x[80:], (30, 2)).T  # noqa: E731
    residual = jax.jit(lambda x: A.apply(product(x)) - y)
    jacobian = jax.jit(jax.jacobian(residual))
    oracle = scipy.optimize.least_squares(
        lambda x: np.asarray(residual(x)), start, jac=lambda x: np.asarray(jacobian(x)), xtol=1e-12
    )
    best = relative_error(product(jnp.asarray(oracle.x)), truth)

    known = fr.recover(A, y, 3, fr.WeightDecay(), noise=sigma)
    unknown = fr.recover(A, y, 3, fr.WeightDecay(), noise="auto")
    for solution in (known, unknown):
        assert solution.result == fr.recovery.Result.converged, solution.message
        assert int(solution.rank) == 2
        assert relative_error(solution.matrix, truth) <= 1.01 * best
    np.testing.assert_allclose(unknown.noise, sigma, rtol=0.2)


@pytest.mark.slow
def test_automatic_noise_of_exact_measurements_interpolates():
    truth = low_rank_matrix(jax.random.key(0), (40, 30), 2)
    A = entries(5, (40, 30), 2, 3.0)
    solution = fr.recover(A, A.apply(truth), 3, fr.WeightDecay(), noise="auto")
    assert relative_error(solution.matrix, truth) <= 1e-12
    assert jnp.isnan(solution.noise)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("penalty", "noise"), [(fr.Flatness(), None), (fr.WeightDecay(), None), (fr.Flatness(), 0.05)]
)
def test_progress_is_told_of_every_outer_step(penalty, noise):
    truth = low_rank_matrix(jax.random.key(8), (12, 12), 1)
    A = fr.gaussian_measurements(jax.random.key(9), 90, (12, 12))
    heard = []
    on_step = lambda what, fraction: heard.append((fraction, what))  # noqa: E731
    solution = fr.recover(A, A.apply(truth), 3, penalty, noise=noise, on_step=on_step)
    jax.effects_barrier()
    steps, limit = int(solution.outer_steps), len(solution.residual_history)
    heard.sort()
    np.testing.assert_allclose([fraction for fraction, _ in heard], np.arange(1, steps + 1) / limit)
    assert [what for _, what in heard] == [
        f"step {k + 1}, residual {float(solution.residual_history[k]):.1e}" for k in range(steps)
    ]


def test_nothing_of_the_size_of_the_matrix_is_formed():
    shape, rank = (500, 400), 1
    A = entries(7, shape, rank, 5.0)
    y = jnp.ones(A.count)
    limit = determined_rank(A, 2)
    F = factored(A, start_width(shape, limit), XLA, y.dtype)
    settings = PathSettings(2 / 3, limit, 2e-16, StepLimits(400, 3000))
    jaxpr = jax.make_jaxpr(lambda y: homotopy(F, y, jax.random.key(0), settings).X)(y)

    def largest(jaxpr):
        sizes = [v.aval.size for e in jaxpr.eqns for v in e.outvars if hasattr(v.aval, "size")]
        inner = [
            largest(getattr(p, "jaxpr", p))
            for e in jaxpr.eqns
            for value in e.params.values()
            for p in (value if isinstance(value, tuple | list) else (value,))
            if hasattr(getattr(p, "jaxpr", p), "eqns")
        ]
        return max([0, *sizes, *inner])

    assert 1000 < largest(jaxpr.jaxpr) < shape[0] * shape[1]


def test_bad_noise_is_named():
    A = fr.IsotropicMeasurements((3, 3))
    with pytest.raises(ValueError, match="'auto' or None, found 'automatic'"):
        fr.recover(A, jnp.ones(9), noise="automatic")
    with pytest.raises(ValueError, match="estimate the noise outside"):
        jax.jit(lambda y: fr.recover(A, y, noise="auto").matrix)(jnp.ones(9))
