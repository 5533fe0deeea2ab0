"""Methods are values, solutions have fields, old names warn and work, wrong types get a sentence."""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from flatrank.cli.sense import sense
from flatrank.problems import low_rank_matrix
from flatrank.recovery import AbstractMethod, Lagrangian, Path


@pytest.fixture(scope="module")
def problem():
    """An 8 x 8 matrix of rank one: measurements, values, truth."""
    truth = low_rank_matrix(jax.random.key(0), (8, 8), 1)
    A = fr.gaussian_measurements(jax.random.key(1), 45, (8, 8))
    return A, A.apply(truth), truth


def equal(one, other):
    return all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


@pytest.mark.slow
def test_auto_takes_the_path_where_it_fits_and_says_so(problem):
    A, y, _ = problem
    chosen = fr.recover(A, y, 3, fr.WeightDecay())
    assert chosen.method == Path()
    assert chosen.bias == fr.WeightDecay()
    assert equal(chosen, fr.recover(A, y, 3, fr.WeightDecay(), method=Path()))
    assert equal(chosen, fr.recover(A, y, 3, fr.WeightDecay(), method=Path))
    flat = fr.recover(A, y, 2, fr.Flatness())
    assert (flat.method, flat.bias) == (Lagrangian(), fr.Flatness())
    assert equal(flat, fr.recover(A, y, 2, fr.Flatness(), method=Lagrangian()))


@pytest.mark.slow
def test_the_lagrangian_solves_what_the_path_does(problem):
    A, y, truth = problem
    solution = fr.recover(A, y, 3, fr.WeightDecay(), method=Lagrangian())
    assert solution.method == Lagrangian()
    assert bool(solution.successful), solution.message
    np.testing.assert_allclose(solution.matrix, truth, atol=1e-9)


@pytest.mark.slow
def test_a_matrix_of_full_rank_is_interpolated_at_a_rank_that_is_not_determined():
    A = fr.gaussian_measurements(jax.random.key(1), 40, (8, 8))
    y = A.apply(jax.random.normal(jax.random.key(2), (8, 8)))
    solution = fr.recover(A, y, 3, fr.WeightDecay())
    assert solution.result == fr.recovery.Result.undetermined
    assert solution.method == Path()
    np.testing.assert_allclose(A.apply(solution.matrix), y, atol=1e-6)
    assert int(solution.rank) * (16 - int(solution.rank)) > 40
    assert not solution.determined.table().any()


@pytest.mark.slow
def test_limits_bind(problem):
    A, y, _ = problem
    short = fr.recover(A, y, 3, fr.WeightDecay(), method=Path(max_steps=4))
    assert (int(short.outer_steps), len(short.residual_history)) == (4, 4)
    assert not bool(short.successful)
    short = fr.recover(A, y, 2, fr.Flatness(), method=Lagrangian(2, 3))
    assert (int(short.outer_steps), int(short.inner_steps)) == (2, 6)
    with pytest.raises(ValueError, match="`max_steps` must be an integer of at least 1"):
        Path(max_steps=0)
    with pytest.raises(ValueError, match="`max_inner_steps` must be an integer of at least 1"):
        Lagrangian(max_inner_steps=0)


UNFIT = [
    ({"penalty": fr.Flatness()}, "`penalty` is Flatness(): pass penalty=WeightDecay()"),
    ({"depth": 2}, "`depth` is 2: pass depth=3 or more"),
    ({"strength": 0.1}, "`strength` was given: pass `noise` or neither"),
    ({"start": fr.DeepLinear.gaussian(jax.random.key(0), (8, 8), 3)}, "leave `start` out"),
]


@pytest.mark.parametrize(("change", "words"), UNFIT)
def test_a_method_that_does_not_fit_says_what_does(problem, change, words):
    A, y, _ = problem
    arguments = {"depth": 3, "penalty": fr.WeightDecay(), "method": Path()} | change
    with pytest.raises(ValueError, match="`method` is Path") as caught:
        fr.recover(A, y, **arguments)
    assert words in str(caught.value)
    assert "or choose method=Lagrangian()" in str(caught.value)


def test_another_method_is_one_class(problem):
    class LeastSquares(AbstractMethod):
        """The least-norm interpolator, which no penalty has chosen."""

        def unfit(self, problem):
            return None if problem.noise is None else "`noise` was given: leave it out."

        def solve(self, problem):
            flat = problem.A.matrices.reshape(problem.A.count, -1)
            matrix = jnp.linalg.lstsq(flat, problem.y)[0].reshape(problem.A.shape)
            return fr.recovery.solution(
                problem.A,
                fr.DeepLinear.balanced(matrix, problem.depth),
                result=fr.recovery.Result.converged,
                method=self,
                bias=problem.penalty,
                residual=jnp.asarray(0.0),
                outer_steps=jnp.asarray(1),
                inner_steps=jnp.asarray(1),
                residual_history=jnp.zeros(1),
            )

    A, y, _ = problem
    solution = fr.recover(A, y, 2, fr.Flatness(), method=LeastSquares())
    np.testing.assert_allclose(A.apply(solution.matrix), y)
    assert int(solution.rank) == 0
    assert all(jnp.isnan(v) for v in (solution.gap, solution.strength, solution.noise))
    with pytest.raises(ValueError, match="leave it out"):
        fr.recover(A, y, 2, fr.Flatness(), method=LeastSquares(), noise=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("penalty", "depth"), [(fr.WeightDecay(), 3), (fr.Flatness(), 2)])
def test_fields_pass_through_jit_and_vmap(problem, penalty, depth):
    A, y, _ = problem
    ys = jnp.stack([y, 2 * y])
    batch = eqx.filter_jit(jax.vmap(lambda y: fr.recover(A, y, depth, penalty)))(ys)
    assert batch.bias == penalty
    assert batch.method == (Path() if depth == 3 else Lagrangian())
    assert batch.successful.tolist() == [True, True]
    assert batch.rank.tolist() == [1, 1]
    for k in range(2):
        alone = fr.recover(A, ys[k], depth, penalty)
        np.testing.assert_allclose(batch.penalty[k], alone.penalty, rtol=1e-9)
        seen = np.isfinite(batch.residual_history[k]).sum()
        assert seen == int(batch.outer_steps[k]) == int(alone.outer_steps)
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    # Under `jit` Lagrangian does not ask whether the minimiser is determined.
    assert bool(alone.result == fr.recovery.Result.low_rank)
    assert depth == 2 or one.message == alone.message


@pytest.mark.slow
def test_a_solution_certifies_the_penalty_it_was_found_with(problem):
    A, y, _ = problem
    solution = fr.recover(A, y, 2, fr.WeightDecay())
    assert equal(fr.certificate(solution, A, y), fr.certificate(solution, A, y, "weight-decay"))
    assert not equal(fr.certificate(solution, A, y), fr.certificate(solution, A, y, "flatness"))
    assert fr.certificate(solution, np.asarray(A.matrices), y.tolist()).gap < 1e-6
    with pytest.raises(TypeError, match="does not know its penalty"):
        fr.certificate(solution.network, A, y)
    with pytest.raises(TypeError, match="`solution` is a int"):
        fr.certificate(3, A, y)


@pytest.mark.slow
def test_words_classes_arrays_lists_and_legacy_keys_are_understood(problem):
    A, y, _ = problem
    expected = fr.recover(A, y, 3, fr.WeightDecay(), key=jax.random.key(5))
    matrices = np.asarray(A.matrices)
    for change in (
        {"penalty": "weight-decay"},
        {"penalty": fr.WeightDecay},
        {"A": matrices},
        {"A": matrices.tolist(), "y": y.tolist()},
        {"key": jax.random.PRNGKey(5)},
        {"key": np.asarray(jax.random.PRNGKey(5))},
    ):
        arguments = {"A": A, "y": y, "depth": 3, "penalty": fr.WeightDecay()}
        arguments |= {"key": jax.random.key(5)} | change
        assert equal(expected.network, fr.recover(**arguments).network), change
    start = fr.recover(A, y, 2, "flatness")
    assert bool(fr.recover(A, y, 2, "flatness", start=start).successful)


WRONG = [
    ({"A": 3}, TypeError, "`A` is a int: pass measurements"),
    ({"A": "A.npy"}, TypeError, "`A` is a str: pass measurements"),
    ({"A": np.ones((3, 3))}, ValueError, "`A` has 2 axes: pass measurements"),
    ({"A": [[[1.0]], [[1.0, 2.0]]]}, TypeError, "`A` is a list of unequal parts"),
    ({"A": [[["x"]]]}, TypeError, "`A` has data type"),
    ({"y": None}, TypeError, "`y` must be an array of numbers, found None"),
    ({"y": [[1.0], [1.0, 2.0]]}, TypeError, "`y` is a list that is no array"),
    ({"y": "values"}, TypeError, "`y` must be an array of numbers"),
    ({"penalty": "nuclear"}, ValueError, "`penalty` is 'nuclear'; known are"),
    ({"penalty": 0.1}, TypeError, "pass Flatness() or WeightDecay()"),
    ({"method": "newton"}, ValueError, "`method` is 'newton': pass 'auto'"),
    ({"method": 3}, TypeError, "`method` is a int: pass 'auto'"),
    ({"noise": "loud"}, ValueError, "'auto' or None, found 'loud'"),
    ({"noise": [1.0, 2.0]}, TypeError, "`noise` must be one number"),
    ({"strength": object}, TypeError, "`strength` must be one number"),
    ({"strength": float("inf")}, ValueError, "`strength` must be positive and finite"),
    ({"tolerance": "small"}, TypeError, "`tolerance` must be one number"),
    ({"tolerance": -1e-9}, ValueError, "`tolerance` must be positive"),
    ({"key": 0}, TypeError, "pass jax.random.key(0), found 0"),
    ({"key": np.ones(2)}, TypeError, "found an array of type float64 and shape (2,)"),
    ({"key": jax.random.split(jax.random.key(0))}, ValueError, "found (2,) of them"),
    ({"start": np.eye(8)}, TypeError, "`start` is a ndarray: pass a DeepLinear"),
    (
        {"start": fr.DeepLinear.gaussian(jax.random.key(0), (8, 7), 2)},
        ValueError,
        "`start` has an end-to-end matrix of shape (8, 7)",
    ),
    ({"steps": 3}, TypeError, "unexpected keyword argument 'steps'"),
]


@pytest.mark.parametrize(("change", "error", "words"), WRONG)
def test_wrong_types_get_a_sentence(problem, change, error, words):
    A, y, _ = problem
    with pytest.raises(error) as caught:
        fr.recover(**({"A": A, "y": y} | change))
    assert words in str(caught.value)


@pytest.mark.slow
def test_names_of_the_release_before_warn_and_work(problem):
    A, y, _ = problem
    heard = []
    with pytest.warns(FutureWarning) as warnings:
        old = fr.recover(
            A,
            y,
            2,
            fr.Flatness(),
            max_outer_steps=7,
            max_inner_steps=50,
            callback=lambda step, residual: heard.append((step, residual)),
        )
    words = " ".join(str(warning.message) for warning in warnings)
    assert "`max_outer_steps` is called `method=Lagrangian(max_outer_steps=...)` now" in words
    assert "`callback` is called `on_step` now" in words
    new = fr.recover(A, y, 2, fr.Flatness(), method=Lagrangian(7, 50))
    assert old.method == Lagrangian(7, 50)
    assert equal(old, new)
    jax.effects_barrier()
    assert [step for step, _ in sorted(heard)] == list(range(int(new.outer_steps)))
    told = [residual for _, residual in sorted(heard)]
    np.testing.assert_allclose(told, new.residual_history[: len(told)])
    with pytest.warns(FutureWarning, match=r"`solution.rank`"):
        stats = new.stats
    assert stats["gradient_steps"] is new.inner_steps
    assert set(stats) == {
        *("residual", "penalty", "gradient_steps", "outer_steps", "residual_history"),
        *("rank", "gap", "strength", "noise"),
    }
    with (
        pytest.warns(FutureWarning),
        pytest.raises(TypeError, match="settings of `method` now and both were given"),
    ):
        fr.recover(A, y, 2, fr.Flatness(), method=Path(), max_outer_steps=7)
    with pytest.raises(TypeError, match="`callback` is called `on_step` now and both were given"):
        fr.recover(A, y, on_step=lambda *_: None, callback=lambda *_: None)


@pytest.mark.slow
def test_library_and_command_line_have_the_same_defaults():
    here, there = (inspect.signature(inspect.unwrap(f)).parameters for f in (fr.recover, sense))
    assert here["depth"].default == there["depth"].default == 4
    assert here["penalty"].default == there["penalty"].default == "weight-decay"
    A = fr.IsotropicMeasurements((5, 4))
    solution = fr.recover(A, A.apply(jnp.ones((5, 4))))
    assert (solution.network.depth, solution.bias, int(solution.rank)) == (4, fr.WeightDecay(), 1)
