"""What the measurements determine of a matrix of its rank, and that nothing else is called recovered."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from flatrank.recovery import Determinacy, Result

RNG = np.random.default_rng(0)


def low_rank(m, n, rank, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))


def recovered(mask, truth, **options):
    A = fr.EntryMeasurements.from_mask(mask)
    y = truth[np.asarray(A.rows), np.asarray(A.columns)]
    return fr.recover(A, y, **options)


def null_entries(mask, rank, seed=1):
    """Whether each entry is determined at a random matrix of the rank, by a dense decomposition."""
    m, n = mask.shape
    rng = np.random.default_rng(seed)
    P, Q = rng.standard_normal((m, rank)), rng.standard_normal((n, rank))
    J = np.zeros((m, n, m + n, rank))
    for i in range(m):
        J[i, :, i] = Q
    for j in range(n):
        J[:, j, m + j] = P
    J = J.reshape(m * n, -1)
    _, s, vt = np.linalg.svd(J[mask.ravel()])
    null = vt[int(np.sum(s > 1e-10 * s[0])) :]
    return (np.linalg.norm(J @ null.T, axis=1) < 1e-8).reshape(m, n)


def uniform(m, n, count, seed, least=1):
    rng = np.random.default_rng(seed)
    while True:
        mask = np.zeros(m * n, bool)
        mask[rng.choice(m * n, count, replace=False)] = True
        mask = mask.reshape(m, n)
        if min(mask.sum(0).min(), mask.sum(1).min()) >= least:
            return mask


def keep_first(mask, row, count):
    """Leave the row its first `count` entries."""
    mask[row, np.flatnonzero(mask[row])[count:]] = False


def test_a_row_with_fewer_entries_than_the_rank_is_said_to_be_invented():
    truth = low_rank(60, 50, 4)
    mask = uniform(60, 50, 1100, 2, least=8)
    keep_first(mask, 7, 3)
    solution = recovered(mask, truth)
    assert solution.result == Result.partly_determined
    assert not bool(solution.successful)
    determined = solution.determined
    assert determined.status == Determinacy.partly
    assert np.flatnonzero(~determined.rows).tolist() == [7]
    assert determined.columns.all()
    table = determined.table()
    assert (table[np.arange(60) != 7]).all()
    assert (table[7] == mask[7]).all()
    assert determined.entries([7, 7, 3], [0, np.flatnonzero(mask[7])[0], 0]).tolist() == [
        bool(mask[7, 0]),
        True,
        True,
    ]
    np.testing.assert_allclose(np.asarray(solution.matrix)[table], truth[table], atol=1e-11)


@pytest.mark.parametrize("seed", range(8))
def test_entries_are_determined_as_a_dense_decomposition_says(seed):
    mask = uniform(14, 12, 62 + 2 * seed, seed)
    truth = low_rank(14, 12, 2, seed)
    solution = recovered(mask, truth)
    if int(solution.rank) != 2 or bool(solution.residual > 1e-12):
        assert not bool(solution.successful)
        return
    determined = solution.determined
    expected = null_entries(mask, 2)
    if determined.status == Determinacy.one_of_several:
        assert expected.all()
        return
    # What nothing confirms is not called determined.
    assert not (determined.table() & ~expected).any()
    assert (determined.status == Determinacy.yes) <= expected.all()
    if determined.status == Determinacy.yes:
        np.testing.assert_allclose(solution.matrix, truth, atol=1e-9)


def test_what_nothing_confirms_is_one_of_several():
    """A corner without its diagonal, glued to a full block: full Jacobian rank, and isolated others."""
    mask = np.zeros((20, 20), bool)
    mask[2:, 4:] = True
    mask[:4, :4] = ~np.eye(4, dtype=bool)
    solution = recovered(mask, low_rank(20, 20, 2))
    assert not bool(solution.successful)
    assert solution.determined.table()[4:, 4:].all()
    np.testing.assert_allclose(
        np.asarray(solution.matrix)[4:, 4:], low_rank(20, 20, 2)[4:, 4:], atol=1e-10
    )


def test_as_many_measurements_as_numbers_are_never_success():
    mask = uniform(5, 4, 14, 0)
    assert not bool(recovered(mask, low_rank(5, 4, 2)).successful)
    A = fr.DenseMeasurements(RNG.standard_normal((14, 5, 4)))
    solution = fr.recover(A, A.apply(jnp.asarray(low_rank(5, 4, 2))))
    assert not bool(solution.successful)


def test_lines_with_as_many_entries_as_the_rank_are_completed():
    truth = low_rank(40, 30, 3)
    mask = uniform(40, 30, 600, 1, least=6)
    keep_first(mask, 5, 3)
    solution = recovered(mask, truth)
    assert solution.result == Result.low_rank
    assert solution.determined.status == Determinacy.yes
    assert solution.determined.table().all()
    np.testing.assert_allclose(solution.matrix, truth, atol=1e-10)


@pytest.mark.parametrize("kind", ["dense", "rank one", "isotropic"])
def test_other_ensembles_determine_a_matrix_too(kind):
    truth = low_rank(9, 8, 2)
    A = {
        "dense": fr.DenseMeasurements(RNG.standard_normal((45, 9, 8))),
        "rank one": fr.RankOneMeasurements(
            RNG.standard_normal((45, 9)), RNG.standard_normal((45, 8))
        ),
        "isotropic": fr.IsotropicMeasurements((9, 8)),
    }[kind]
    solution = fr.recover(A, A.apply(jnp.asarray(truth)))
    assert solution.result == Result.low_rank, solution.message
    assert solution.determined.status == Determinacy.yes
    np.testing.assert_allclose(solution.matrix, truth, atol=1e-10)


def test_dense_measurements_of_a_part_determine_that_part():
    truth = low_rank(9, 8, 1)
    matrices = RNG.standard_normal((60, 9, 8))
    matrices[:, 4] = 0  # nothing sees row 4
    A = fr.DenseMeasurements(matrices)
    solution = fr.recover(A, A.apply(jnp.asarray(truth)))
    assert solution.result == Result.partly_determined
    assert np.flatnonzero(~solution.determined.rows).tolist() == [4]
    rest = np.arange(9) != 4
    np.testing.assert_allclose(np.asarray(solution.matrix)[rest], truth[rest], atol=1e-10)


def test_a_noisy_fit_says_which_part_is_arbitrary():
    truth = low_rank(40, 30, 2)
    mask = uniform(40, 30, 500, 1, least=6)
    keep_first(mask, 5, 1)
    noisy = truth + 1e-2 * RNG.standard_normal(truth.shape)
    solution = recovered(mask, noisy, noise=1e-2)
    assert solution.result == Result.partly_determined
    assert np.flatnonzero(~solution.determined.rows).tolist() == [5]


def test_the_flattest_matrix_says_whether_it_is_determined():
    truth = low_rank(8, 8, 1)
    A = fr.DenseMeasurements(RNG.standard_normal((45, 8, 8)))
    solution = fr.recover(A, A.apply(jnp.asarray(truth)), 2, "flatness")
    assert bool(solution.successful)
    assert solution.determined.status == Determinacy.yes


@pytest.mark.slow
def test_under_jit_success_is_determined_as_well():
    truth = low_rank(12, 10, 1)
    mask = uniform(12, 10, 70, 1, least=4)
    A = fr.EntryMeasurements.from_mask(mask)
    y = jnp.asarray(truth[mask])
    solve = eqx.filter_jit(lambda y: fr.recover(A, y))
    assert bool(solve(y).successful)
    keep_first(mask, 3, 1)
    mask[:, 2] &= np.arange(12) == 3  # a column that only a row of two entries sees
    mask[3, :3] = [False, False, True]
    B = fr.EntryMeasurements.from_mask(mask)
    blind = eqx.filter_jit(lambda y: fr.recover(B, y))(jnp.asarray(truth[mask]))
    assert not bool(blind.successful)


@pytest.mark.parametrize("under_jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_data_in_float32_are_decided_too(under_jit):
    truth = low_rank(12, 10, 1).astype(np.float32)
    # Under `jit` 4 of 40 such ensembles stay undecided: float32 has not the digits to settle.
    matrices = np.random.default_rng(0).standard_normal((60, 12, 10)).astype(np.float32)
    A = fr.DenseMeasurements(matrices)
    y = A.apply(jnp.asarray(truth))
    solve = lambda y: fr.recover(A, y)  # noqa: E731
    solution = (eqx.filter_jit(solve) if under_jit else solve)(y)
    assert solution.matrix.dtype == jnp.float32
    assert solution.result == Result.low_rank, solution.message


def test_entries_that_are_none_are_named():
    solution = recovered(uniform(8, 7, 45, 0, least=3), low_rank(8, 7, 1))
    with pytest.raises(ValueError, match=r"outside 0\.\.7"):
        solution.determined.entries([8], [0])
    with pytest.raises(ValueError, match="lengths 2 and 1"):
        solution.determined.entries([0, 1], [0])


def test_a_limit_of_time_returns_the_best_so_far():
    truth = low_rank(200, 200, 5)
    solution = recovered(uniform(200, 200, 3200, 0, least=5), truth, max_seconds=0.02)
    assert solution.result == Result.time_limit
    assert not bool(solution.successful)
    assert bool(jnp.all(jnp.isfinite(solution.matrix)))
    with pytest.raises(ValueError, match="`max_seconds` must be"):
        recovered(np.ones((3, 3), bool), low_rank(3, 3, 1), max_seconds=-1.0)
    A = fr.IsotropicMeasurements((3, 3))
    solve = jax.jit(lambda y: fr.recover(A, y, max_seconds=9).matrix)
    with pytest.raises(ValueError, match="cannot be stopped"):
        solve(jnp.ones(9))
    with pytest.raises(ValueError, match="cannot be stopped"):
        recovered(np.ones((3, 3), bool), low_rank(3, 3, 1), penalty="flatness", max_seconds=9)


def test_the_keyboard_returns_the_best_so_far():
    heard = []

    def on_step(what, fraction):
        heard.append(fraction)
        if len(heard) == 10:
            raise KeyboardInterrupt

    truth = low_rank(60, 50, 3)
    solution = recovered(uniform(60, 50, 900, 0, least=5), truth, on_step=on_step)
    assert solution.result == Result.interrupted
    assert len(heard) == 10
    assert bool(jnp.all(jnp.isfinite(solution.matrix)))


def coverage(seed, noise):
    """The part of determined entries that intervals of 90% hold, on a random problem."""
    rng = np.random.default_rng(seed)
    m, n, rank = (int(rng.integers(*bounds)) for bounds in ((25, 60), (25, 60), (1, 4)))
    truth = low_rank(m, n, rank, seed)
    mask = rng.random((m, n)) < min(0.9, 2.5 * rank * (m + n - rank) / (m * n))
    mask[np.arange(m), rng.integers(0, n, m)] = True
    mask[rng.integers(0, m, n), np.arange(n)] = True
    if seed % 2:
        mask[3] = np.arange(n) < 1
    sigma = noise * float(np.sqrt(np.mean(truth**2)))
    solution = recovered(mask, truth + sigma * rng.standard_normal((m, n)), noise=sigma)
    errors = solution.standard_errors()
    assert (np.isfinite(errors) == solution.determined.table()).all()
    if int(solution.rank) == rank:  # blind lines are marked, and no other entry is
        assert (np.isfinite(errors) == null_entries(mask, rank)).all()
    held = np.abs(np.asarray(solution.matrix) - truth) <= 1.645 * errors
    return held[np.isfinite(errors)]


@pytest.mark.parametrize("noise", [1e-3, 0.1])
def test_intervals_of_90_percent_hold_90_percent(noise):
    held = np.concatenate([coverage(seed, noise) for seed in range(10)])
    assert 0.88 <= held.mean() <= 0.92


def test_standard_errors_are_those_of_the_jacobian():
    """Dense, rank-one and entry measurements, against a pseudo-inverse that is written out."""
    truth, sigma = low_rank(8, 7, 2), 1e-3
    mask = uniform(8, 7, 45, 3, least=4)
    normal = RNG.standard_normal
    for A in (
        fr.EntryMeasurements.from_mask(mask),
        fr.DenseMeasurements(normal((45, 8, 7))),
        fr.RankOneMeasurements(normal((45, 8)), normal((45, 7))),
    ):
        y = np.asarray(A.apply(jnp.asarray(truth))) + sigma * normal(45)
        solution = fr.recover(A, y, noise=sigma)
        u, _, vt = np.linalg.svd(np.asarray(solution.matrix))
        U, V = u[:, :2], vt[:2].T
        units = np.eye(30).reshape(30, 15, 2)
        moves = np.stack([z[:8] @ V.T + U @ z[8:].T for z in units])
        J = np.stack([np.asarray(A.apply(jnp.asarray(move))) for move in moves], axis=1)
        covariance = np.linalg.pinv(J.T @ J, rcond=1e-9)
        tangents = moves.reshape(30, -1)
        expected = sigma * np.sqrt(np.einsum("ue,uv,ve->e", tangents, covariance, tangents))
        found = solution.standard_errors()
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4)
        some = solution.standard_errors([0, 3], [1, 6])
        np.testing.assert_allclose(some, found[[0, 3], [1, 6]], rtol=1e-12)


def test_standard_errors_by_solves_are_those_by_an_inverse(monkeypatch):
    truth = low_rank(20, 15, 2)
    solution = recovered(
        uniform(20, 15, 180, 3, least=4), truth + 1e-3 * RNG.standard_normal((20, 15)), noise=1e-3
    )
    expected = solution.standard_errors([0, 3], [1, 6])
    monkeypatch.setattr("flatrank.recovery.determined._standard_errors._DENSE", 0)
    np.testing.assert_allclose(solution.standard_errors([0, 3], [1, 6]), expected, rtol=1e-5)
    # One solve for each of a million entries would take hours.
    with pytest.raises(MemoryError, match="pass `rows` and `columns`"):
        solution.standard_errors()


def test_standard_errors_need_noise_and_a_decision():
    mask = uniform(8, 7, 45, 0, least=3)
    with pytest.raises(ValueError, match="recover with `noise`"):
        recovered(mask, low_rank(8, 7, 1)).standard_errors()
    noisy = low_rank(8, 7, 1) + 0.1 * RNG.standard_normal((8, 7))
    flattest = recovered(mask, noisy, depth=2, penalty="flatness", noise=0.1)
    with pytest.raises(ValueError, match="undecided"):
        flattest.standard_errors()
