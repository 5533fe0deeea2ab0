"""What the user reads who passes the wrong type: cases of every day, and all that hypothesis finds."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import flatrank as fr

A = fr.gaussian_measurements(jax.random.key(0), 20, (4, 3))
TRUTH = np.outer(np.arange(1.0, 5.0), np.ones(3))
Y = A.apply(TRUTH)
NETWORK = fr.DeepLinear.balanced(TRUTH, 2)


@pytest.fixture(scope="module")
def solution():
    """From a word, an array and a list."""
    return fr.recover(np.asarray(A.matrices), Y.tolist(), penalty="flatness")


@pytest.mark.slow
def test_hypothesis_finds_no_wrong_type_without_a_sentence():
    script = Path(__file__).with_name("wrong_types.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr[-2000:]


def test_words_and_classes_stand_for_penalties(solution):
    assert solution.successful
    assert isinstance(solution.bias, fr.Flatness)
    # Traced only.
    found = jax.eval_shape(
        lambda y: fr.recover(A, y, penalty=fr.WeightDecay, method=fr.recovery.Lagrangian), Y
    )
    assert isinstance(found.bias, fr.WeightDecay)
    descent = fr.dynamics.GradientDescent(0.1, penalty="weight-decay", strength=0.1)
    assert isinstance(descent.penalty, fr.WeightDecay)


def test_an_array_stands_for_dense_measurements():
    matrices = np.asarray(A.matrices)
    for form in (matrices, matrices.tolist(), matrices.astype(">f8")):
        np.testing.assert_allclose(fr.loss(NETWORK, form, Y), 0, atol=1e-20)
        np.testing.assert_allclose(
            fr.trace_of_hessian(NETWORK, form), fr.trace_of_hessian(NETWORK, A), rtol=1e-12
        )
    descent = fr.dynamics.GradientDescent(1e-3)
    assert fr.train(NETWORK, matrices, Y, descent, steps=2).history["step"][-1] == 2


def test_solutions_and_networks_stand_for_networks_and_matrices(solution):
    flat = fr.flatten(solution, A)
    np.testing.assert_allclose(flat.matrix(), solution.matrix, atol=1e-6)
    expected = fr.induced_regularizer(solution.matrix, A, 2)
    for given in (solution, solution.network):
        np.testing.assert_allclose(fr.induced_regularizer(given, A, 2), expected, rtol=1e-10)
        np.testing.assert_allclose(A.apply(given), A.apply(solution.matrix), rtol=1e-10)
        assert int(fr.norms.numerical_rank(given, 1e-6)) == 1
    run = fr.train(solution, A, Y, fr.dynamics.GradientDescent(1e-3), steps=2, truth=solution)
    assert run.history["test_error"][0] == 0
    assert float(fr.loss(run, A, Y)) < 1e-8


def test_keys_of_before_are_taken_everywhere():
    old, new = jax.random.PRNGKey(3), jax.random.key(3)
    for draw in (
        lambda key: fr.gaussian_measurements(key, 2, (2, 2)).matrices,
        lambda key: fr.DeepLinear.gaussian(key, (3, 2), 2).matrix(),
        lambda key: fr.problems.low_rank_matrix(key, (3, 2), 1),
        lambda key: fr.problems.draw_truth(key, (3, 2), 1)[0],
        lambda key: fr.flatness.spectral_density(NETWORK, A, Y, key=key, probes=2, points=2).nodes,
        lambda key: fr.theory.rip_constant(A, 1, key=key, starts=2, steps=2).lower,
        lambda key: fr.train(
            NETWORK, A, Y, fr.LabelNoise(1e-3, noise=1.0), steps=2, key=key
        ).history["loss"],
    ):
        np.testing.assert_array_equal(draw(old), draw(new))


def test_functions_still_trace():
    slope = jax.jit(jax.grad(lambda M: fr.induced_regularizer(M, A, 3)))(TRUTH + np.eye(4, 3))
    assert slope.shape == (4, 3)
    networks = jax.tree.map(lambda x: jax.numpy.stack([x, 2 * x]), NETWORK)
    traces = jax.vmap(lambda network: fr.trace_of_hessian(network, A))(networks)
    np.testing.assert_allclose(traces[0], fr.trace_of_hessian(NETWORK, A), rtol=1e-12)
    values = jax.vmap(A.apply)(jax.numpy.stack([TRUTH, 2 * TRUTH]))
    np.testing.assert_allclose(values[1], 2 * Y, rtol=1e-12)


SENTENCES = {
    "a matrix as network": (
        lambda: fr.flatten(TRUTH, A),
        "`network` is a ndarray: pass a DeepLinear, such as DeepLinear.balanced(matrix, depth=2) for a "
        "matrix, or a Solution.",
    ),
    "swapped": (
        lambda: fr.loss(A, NETWORK, Y),
        "`network` is a DenseMeasurements: pass a DeepLinear, such as DeepLinear.balanced(matrix, "
        "depth=2) for a matrix, or a Solution.",
    ),
    "a network as measurements": (
        lambda: fr.trace_of_hessian(NETWORK, NETWORK),
        "`A` is a DeepLinear: pass measurements, such as EntryMeasurements.from_mask(mask) for seen "
        "entries, or an array of shape (N, m, n).",
    ),
    "many networks": (
        lambda: fr.flatten(jax.tree.map(lambda x: x[None], NETWORK), A),
        "`network` has layers of 3 axes, those of many networks at once: take one, "
        "`jax.tree.map(lambda x: x[0], network)`, or all by `jax.vmap`.",
    ),
    "text as values": (
        lambda: fr.loss(NETWORK, A, "y"),
        "`y` must be an array of numbers, found 'y': pass numbers.",
    ),
    "unequal rows": (
        lambda: fr.induced_regularizer([[1], [2, 3]], A, 2),
        "`matrix` is a list that is no array: pass numbers, in rows of the same length.",
    ),
    "a key as matrix": (
        lambda: fr.norms.nuclear_norm(jax.random.key(0)),
        "`matrix` must be an array of numbers, found a random key: pass numbers.",
    ),
    "a number as key": (
        lambda: fr.DeepLinear.gaussian(0, (3, 2), 2),
        "`key` must be one random key: pass jax.random.key(0), found 0.",
    ),
    "masked values": (
        lambda: fr.loss(NETWORK, A, np.ma.masked_equal(np.arange(20.0), 3)),
        "`y` has masked values: remove them, or fill them by `.filled(...)`.",
    ),
    "a matrix as layers": (
        lambda: fr.DeepLinear(TRUTH),
        "`layers` must be a tuple of matrices, W_1 first, found an array of type float64 and shape "
        "(4, 3): for one matrix pass (matrix,), or use DeepLinear.balanced(matrix, depth).",
    ),
    "a word as shape": (
        lambda: fr.IsotropicMeasurements("34"),
        "`shape` must be a pair (rows, columns), found '34': pass for example (60, 40).",
    ),
    "a class as optimiser": (
        lambda: fr.train(NETWORK, A, Y, fr.SAM, steps=1),
        "`optimizer` must be an optimiser, found the class SAM: pass for example GradientDescent(0.01).",
    ),
    "a set of bounds": (
        lambda: fr.train(
            NETWORK, A, Y, fr.dynamics.GradientDescent(0.1), steps=1, until={"loss", 1}
        ),
        "`until` must map quantities to their bounds, as {'loss': 1e-6}, found {",
    ),
    "a number as record": (
        lambda: fr.train(NETWORK, A, Y, fr.dynamics.GradientDescent(0.1), steps=1, record=1),
        "`record` must name quantities, such as ('loss', 'trace'), or map names to functions of "
        "(network, A, y), found 1.",
    ),
    "no function": (
        lambda: fr.flatness.general.dense_hessian(1.0, np.ones(3)),
        "`loss` must be a function of (model, *data), found 1.0.",
    ),
    "a word as order": (
        lambda: fr.norms.schatten_norm(TRUTH, "2"),
        "`p` must be one number, found '2': pass 1 for the nuclear norm, 2 for Frobenius.",
    ),
    "a word as confidence": (
        lambda: fr.theory.gaussian_risk_factor(3, 2, 9, "high"),
        "`confidence` must be one number, found 'high': pass one between 0 and 1.",
    ),
    "an ensemble that is none": (
        lambda: fr.problems.draw_measurements(jax.random.key(0), "rows", (3, 2), 2),
        "`ensemble` must be one of ['gaussian', 'entries', 'rank-one'], found 'rows'.",
    ),
    "no run": (
        lambda: fr.plots.training({"loss": [1.0]}),
        "`run` is {'loss': [1.0]}: pass what `flatrank.train` returns.",
    ),
    "a number as path": (
        lambda: fr.load_model(3),
        "`path` must be a path, found 3: pass text or a Path.",
    ),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_wrong_types_get_a_sentence(case):
    call, sentence = SENTENCES[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value).startswith(sentence)


DATES = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"])
TABLES = {
    "text": (
        pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": ["x", "2", "3"]}),
        "X: column 'b' has a value that is not a number, 'x': convert it to numbers, and leave missing "
        "values empty.",
    ),
    "dates": (
        pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": DATES}),
        "X: column 'b' has datetime64[",
    ),
    "dates alone": (pd.DataFrame({"b": DATES}), "X: column 'b' has datetime64["),
    "duplicate names": (
        pd.DataFrame(np.eye(3), columns=["a", "b", "a"]),
        "X has 2 columns 'a': rename one.",
    ),
    "text in a list": (
        [[1.0, "x"], [2.0, 3.0]],
        "X must be a table, found [[1.0, 'x'], [2.0, 3.0]]: pass an array of numbers (m, n), with NaN "
        "for what is missing.",
    ),
    "text in an array of objects": (
        np.array([[1.0, "x"], [2.0, 3.0]], object),
        "X: column 1 has a value that is not a number, 'x': convert it to numbers, and leave missing "
        "values empty.",
    ),
    "unequal rows": (
        [[1.0], [2.0, 3.0]],
        "X is a list that is no table: pass an array of numbers (m, n), with NaN for what is missing.",
    ),
    "nothing": (
        None,
        "X must be a table, found None: pass an array of numbers (m, n), with NaN for what is missing.",
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_are_no_numbers_name_the_column(case):
    table, sentence = TABLES[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        fr.MatrixCompleter().fit(table)
    assert str(caught.value).startswith(sentence)


def test_frames_of_numbers_in_any_form_are_tables():
    table = np.outer(np.arange(1.0, 6.0), np.ones(4))
    plain = fr.MatrixCompleter(strength=0.1, max_sweeps=1, random_state=0).fit(table)
    frame = pd.DataFrame(table, columns=list("abcd"))
    frame["b"] = frame["b"].astype("Int64")
    frame["c"] = frame["c"].astype(object)
    frame["d"] = frame["d"].astype("category")
    found = fr.MatrixCompleter(strength=0.1, max_sweeps=1, random_state=0).fit(frame)
    np.testing.assert_allclose(found.transform(frame), plain.transform(table), rtol=1e-6)


def test_questions_to_a_fitted_table_name_their_arguments():
    completer = fr.MatrixCompleter(draws=0, random_state=0).fit(np.outer([1.0, 2, 3], [1.0, 2, 4]))
    for call, sentence in (
        (
            lambda: completer.predict_interval([0], [0], coverage="x"),
            "`coverage` must be one number",
        ),
        (lambda: completer.predict_entries("ab", [0]), "`rows` must be an array of numbers, found"),
        (lambda: completer.partial_fit_entries(["a"], [0], [1.0]), "`rows` has data type <U1"),
        (
            lambda: completer.fit_entries([0], [0], [[1], [2, 3]], (2, 2)),
            "`values` is a list that",
        ),
        (lambda: fr.TripletCompleter().fit(3), "The table is a builtins.int: pass a pandas"),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert str(caught.value).startswith(sentence)
