"""No compiled program has two loops that do not wait for each other (decision 3)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from compiled_order import independent_factorisations, independent_loops
from flatrank.flatness import general
from flatrank.recovery._degrees_of_freedom import determined_rank
from flatrank.recovery._machine import XLA
from flatrank.recovery._step_limits import StepLimits
from flatrank.recovery.factored import factored
from flatrank.recovery.path._homotopy import PathSettings, start_width
from flatrank.recovery.path._least_squares import fit_above_noise


def test_independent_loops_are_found():
    def two(x):
        one = jax.lax.fori_loop(0, 50, lambda _, a: jnp.sin(a @ a), x)
        other = jax.lax.fori_loop(0, 50, lambda _, a: jnp.cos(a @ a), x)
        return one, other

    text = jax.jit(two).lower(jnp.ones((4, 4))).compile().as_text()
    assert len(independent_loops(text)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["entries", "dense"])
def test_the_path_of_weight_decay_has_one_loop_at_a_time(kind):
    if kind == "entries":
        at = np.random.default_rng(0).choice(2500, 900, replace=False)
        A = fr.EntryMeasurements(at // 50, at % 50, (50, 50))
    else:
        A = fr.gaussian_measurements(jax.random.key(0), 300, (20, 20))
    y = jnp.ones(A.count)
    limit = determined_rank(A, None)
    F = factored(A, start_width(A.shape, limit), XLA, y.dtype)
    settings = PathSettings(2 / 3, limit, 2e-16, StepLimits(400, 3000))
    arguments = (F, y, jax.random.key(0), jnp.asarray(0.1), settings)
    text = eqx.filter_jit(fit_above_noise).lower(*arguments).compile().compiled.as_text()
    assert text.count(" while(") > 4
    assert independent_loops(text) == []


@pytest.mark.slow
def test_lanczos_has_one_loop_at_a_time():
    A = fr.gaussian_measurements(jax.random.key(0), 100, (20, 14))
    network = fr.DeepLinear.gaussian(jax.random.key(1), (20, 14), 2)
    data = (A, jnp.ones(100))
    arguments = (fr.loss, network, data, 2, jax.random.key(0), None)
    text = general._largest.lower(*arguments).compile().compiled.as_text()
    assert " while(" in text
    assert independent_loops(text) == []


def test_independent_factorisations_are_found():
    def two(x):
        inside = jax.lax.fori_loop(0, 5, lambda _, a: jnp.linalg.cholesky(a) + 2 * x, 2 * x)
        return jnp.linalg.cholesky(x), inside

    text = jax.jit(two).lower(jnp.stack([jnp.eye(4)] * 3)).compile().as_text()
    assert len(independent_factorisations(text)) == 1
    alone = jax.jit(two).lower(jnp.eye(4)).compile().as_text()
    assert independent_factorisations(alone) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "penalty"), [("entries", fr.WeightDecay()), ("dense", fr.Flatness())]
)
def test_many_recoveries_factorise_one_batch_at_a_time(kind, penalty):
    if kind == "entries":
        at = np.random.default_rng(0).choice(144, 100, replace=False)
        A = fr.EntryMeasurements(at // 12, at % 12, (12, 12))
    else:
        A = fr.gaussian_measurements(jax.random.key(0), 80, (12, 10))

    def several(ys):
        return jax.vmap(lambda y: fr.recover(A, y, depth=3, penalty=penalty).matrix)(ys)

    text = jax.jit(several).lower(jnp.ones((3, A.count))).compile().as_text()
    assert text.count('custom_call_target="lapack_') > 3
    assert independent_factorisations(text) == []
    assert independent_loops(text) == []
