"""Every form of measurements, on every machine, against a dense matrix of the measurements."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from flatrank.recovery._conjugate_gradients import conjugate_gradients
from flatrank.recovery._machine import HOST, XLA
from flatrank.recovery.factored import AbstractFactored, factored, machine_for

M, N, K = 9, 7, 3
RNG = np.random.default_rng(0)


def ensembles():
    at = RNG.choice(M * N, 40, replace=False)
    normal = RNG.standard_normal
    return {
        "entries": fr.EntryMeasurements(at // N, at % N, (M, N)),
        "entries of which one line is full": fr.EntryMeasurements(
            np.r_[np.zeros(N, int), 1:M], np.r_[:N, np.zeros(M - 1, int)], (M, N)
        ),
        "dense": fr.DenseMeasurements(normal((30, M, N))),
        "rank one": fr.RankOneMeasurements(normal((30, M)), normal((30, N))),
        "isotropic": fr.IsotropicMeasurements((M, N)),
    }


ENSEMBLES = ensembles()


@pytest.fixture(
    params=[(name, machine) for name in ENSEMBLES for machine in (HOST, XLA)],
    ids=lambda p: f"{p[0]}-{type(p[1]).__name__}",
)
def form(request):
    """The measurements in factors, the same as a dense matrix, and a layout's values in order."""
    name, machine = request.param
    A = ENSEMBLES[name]
    F = factored(A, K, machine, jnp.zeros(0).dtype)
    units = jnp.eye(M * N).reshape(M * N, M, N)
    return F, np.asarray(jax.vmap(A.apply)(units)).T


def jacobian(rows, Z):
    """d vec(P Q^T) in the order of rows of Z, row by row."""
    P, Q = Z[:M], Z[M:]
    units = np.eye((M + N) * K).reshape(-1, M + N, K)
    return np.stack([rows @ (u[:M] @ Q.T + P @ u[M:].T).ravel() for u in units], axis=1)


def same(F: AbstractFactored, found, expected, atol=1e-12):
    np.testing.assert_allclose(found, F.arranged(F.machine.xp.asarray(expected)), atol=atol)


def test_values_and_derivatives_are_those_of_the_matrix(form):
    F, rows = form
    xp = F.machine.xp
    Z, step = RNG.standard_normal((2, M + N, K))
    values = RNG.standard_normal(len(rows))
    J = jacobian(rows, Z)
    same(F, F.apply(xp.asarray(Z)), rows @ (Z[:M] @ Z[M:].T).ravel())
    derivative = F.linearized(xp.asarray(Z))
    same(F, derivative.product(xp.asarray(step)), J @ step.ravel())
    residual = F.arranged(xp.asarray(values))
    back = (values @ rows).reshape(M, N)
    expected = np.concatenate([back @ Z[M:], back.T @ Z[:M]])
    np.testing.assert_allclose(derivative.transpose(residual), expected, atol=1e-12)
    times, times_transposed = F.adjoint(residual)
    np.testing.assert_allclose(times(xp.asarray(Z[M:])), back @ Z[M:], atol=1e-12)
    np.testing.assert_allclose(times_transposed(xp.asarray(Z[:M])), back.T @ Z[:M], atol=1e-12)


def test_the_power_is_the_mean_square_over_matrices(form):
    F, rows = form
    xp = F.machine.xp
    assert float(F.power) == pytest.approx(np.sum(rows**2) / (M * N))
    Z = RNG.standard_normal((M + N, K))
    pairs = [np.outer(u, v).ravel() for u, v in zip(Z[:M].T, Z[M:].T, strict=True)]
    expected = [np.sum((rows @ pair) ** 2) for pair in pairs]
    np.testing.assert_allclose(
        F.square_norms(xp.asarray(Z[:M]), xp.asarray(Z[M:])), expected, rtol=1e-12
    )


@pytest.mark.parametrize("blocks", [False, True])
def test_normal_equations_are_solved(form, blocks):
    F, rows = form
    xp = F.machine.xp
    Z, right = RNG.standard_normal((2, M + N, K))
    ridge = np.array([0.5, 1.0, 2.0])
    J = jacobian(rows, Z)
    system = J.T @ J + np.diag(np.tile(ridge, M + N))
    expected = np.linalg.solve(system, right.ravel()).reshape(M + N, K)
    Z, ridge = xp.asarray(Z), xp.asarray(ridge)
    equations = F.normal_equations(Z, F.linearized(Z), ridge, blocks=blocks)
    found, steps = conjugate_gradients(F.machine, equations, xp.asarray(right), 1e-6, 300)
    # Entries on the host are solved in float32.
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    assert 1 < int(steps) < 300


def test_blocks_are_inverted(form):
    F, rows = form
    Z = RNG.standard_normal((M + N, K))
    ridge = np.array([0.5, 1.0, 2.0])
    found = F.inverse_blocks(F.machine.xp.asarray(Z), F.machine.xp.asarray(ridge))
    if found is None:
        return
    J = jacobian(rows, Z).reshape(len(rows), M + N, K)
    expected = np.linalg.inv(np.einsum("eai,eaj->aij", J, J) + np.diag(ridge))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_the_machine_is_the_host_where_values_are_known_on_a_cpu(monkeypatch):
    A = ENSEMBLES["entries"]
    y = jnp.ones(A.count)
    seen = []
    jax.jit(lambda y: seen.append(machine_for(A, y)) or y)(y)
    expected = HOST if jax.default_backend() == "cpu" else XLA
    assert (machine_for(A, y), *seen) == (expected, XLA)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert machine_for(A, y) is XLA
    assert machine_for(ENSEMBLES["dense"], y) is expected


@pytest.mark.slow
def test_the_path_is_the_same_on_both_machines(monkeypatch):
    rng = np.random.default_rng(1)
    P, Q = rng.standard_normal((40, 2)), rng.standard_normal((30, 2))
    at = rng.choice(1200, 350, replace=False)
    A = fr.EntryMeasurements(at // 30, at % 30, (40, 30))
    y = A.apply(jnp.asarray(P @ Q.T))
    host = fr.recover(A, y)
    monkeypatch.setattr("flatrank.recovery.path._path.machine_for", lambda *values: XLA)
    xla = fr.recover(A, y)
    for solution in (host, xla):
        assert solution.result == fr.recovery.Result.low_rank
        np.testing.assert_allclose(solution.matrix, P @ Q.T, atol=1e-10)
    assert abs(int(host.outer_steps) - int(xla.outer_steps)) <= 5
    np.testing.assert_allclose(host.penalty, xla.penalty, rtol=1e-9)
