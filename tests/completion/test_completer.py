"""MatrixCompleter as scikit-learn and its users know estimators."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_info

from flatrank import Flatness, MatrixCompleter, WeightDecay
from flatrank.completion import AverageCompletion


# Some checks use sparse tables with empty rows, about which the completer rightly warns.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*of X have no observed entry")
# Nothing is excluded. scikit-learn itself skips its array-API check unless SCIPY_ARRAY_API is set.
@parametrize_with_checks([MatrixCompleter(strength=0.1, random_state=0)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    truth = 3 + rng.standard_normal((120, 2)) @ rng.standard_normal((2, 40))
    noisy = truth + 0.05 * rng.standard_normal(truth.shape)
    return truth, np.where(rng.random(truth.shape) < 0.4, noisy, np.nan)


@pytest.fixture(scope="module")
def fitted(table):
    return MatrixCompleter(random_state=0).fit(table[1])


def hidden_error(filled, truth, X):
    hidden = np.isnan(X)
    return np.sqrt(np.mean((filled - truth)[hidden] ** 2)) / np.std(truth)


@pytest.mark.slow
def test_holes_are_filled_and_observed_entries_kept(table, fitted):
    truth, X = table
    filled = fitted.transform(X)
    seen = ~np.isnan(X)
    np.testing.assert_array_equal(filled[seen], X[seen])
    assert hidden_error(filled, truth, X) < 0.05
    assert fitted.held_out_error_ < 0.15
    assert fitted.effective_rank_ < 4


@pytest.mark.slow
def test_new_rows_need_no_new_fit(table):
    truth, X = table
    completer = MatrixCompleter(random_state=0).fit(X[:80])
    filled = completer.transform(X[80:])
    assert hidden_error(filled, truth[80:], X[80:]) < 0.08
    one_by_one = np.concatenate([completer.transform(X[i : i + 1]) for i in (80, 81)])
    np.testing.assert_allclose(one_by_one, filled[:2], rtol=1e-4, atol=1e-4)


def test_rows_without_an_entry_get_the_columns_levels(table, fitted):
    truth, _ = table
    filled = fitted.transform(np.full((2, 40), np.nan))
    np.testing.assert_array_equal(filled[0], filled[1])
    assert np.corrcoef(filled[0], truth.mean(0))[0, 1] > 0.8


def test_training_rows_fold_in_to_what_was_fitted(table, fitted):
    _, X = table
    rows, columns = np.nonzero(np.isnan(X))
    folded = fitted.transform(X)[rows, columns]
    assert np.std(folded - fitted.predict_entries(rows, columns)) < 0.02


@pytest.mark.parametrize(
    "form",
    [scipy.sparse.csr_array, scipy.sparse.coo_array, np.ma.masked_invalid, pandas.DataFrame],
)
def test_forms_of_input_agree(table, form):
    _, X = table
    if form in (scipy.sparse.csr_array, scipy.sparse.coo_array):
        rows, columns = np.nonzero(~np.isnan(X))
        given = form((X[rows, columns], (rows, columns)), shape=X.shape)
    else:
        given = form(X)
    expected = MatrixCompleter(strength=0.01, random_state=0).fit_transform(X)
    found = MatrixCompleter(strength=0.01, random_state=0).fit_transform(given)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_stored_zero_is_an_observed_zero():
    X = scipy.sparse.csr_array(([0.0, 1.0, 2.0, 3.0], ([0, 0, 1, 1], [0, 1, 0, 1])), shape=(2, 3))
    with pytest.warns(UserWarning, match="1 column"):
        filled = MatrixCompleter(strength=0.01).fit_transform(X)
    assert filled[0, 0] == 0


def test_empty_lines_are_completed_from_the_others_with_a_warning(table):
    truth, X = table
    X = X.copy()
    X[3], X[:, 5] = np.nan, np.nan
    with pytest.warns(UserWarning, match="no observed entry") as caught:
        filled = MatrixCompleter(strength=0.01, random_state=0).fit_transform(X)
    told = " ".join(str(warning.message) for warning in caught)
    assert "1 row(s) of X have no observed entry" in told
    assert "1 column(s) of X have no observed entry" in told
    assert np.isfinite(filled).all()
    # An empty row is predicted by the columns' own levels.
    columns = np.delete(np.arange(40), 5)
    assert np.corrcoef(filled[3, columns], truth[:, columns].mean(0))[0, 1] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("strength", ["auto", 0.01])
def test_small_and_constant_tables(strength):
    constant = np.full((5, 4), 7.0)
    constant[0, 1] = constant[3, 2] = np.nan
    for X, expected in (
        (constant, np.full((5, 4), 7.0)),
        (np.array([[2.0, np.nan], [2.0, 2.0]]), np.full((2, 2), 2.0)),
    ):
        filled = MatrixCompleter(strength=strength, random_state=0).fit_transform(X)
        np.testing.assert_allclose(filled, expected, rtol=1e-5)
    for X in (np.array([[1.0, np.nan]]), np.array([[1.0], [np.nan]])):
        with pytest.warns(UserWarning, match="no observed entry"):
            filled = MatrixCompleter(strength=strength, random_state=0).fit_transform(X)
        np.testing.assert_allclose(filled, 1.0, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["flatness", "weight-decay", Flatness(), WeightDecay()])
@pytest.mark.parametrize("depth", [2, 3])
def test_penalties_and_depths(table, penalty, depth):
    truth, X = table
    filled = MatrixCompleter(depth, penalty, random_state=0).fit_transform(X)
    assert hidden_error(filled, truth, X) < 0.06


@pytest.mark.slow
def test_works_in_pipelines_and_searches(table):
    _, X = table
    pipeline = make_pipeline(StandardScaler(), MatrixCompleter(strength=0.01, random_state=0))
    assert np.isfinite(pipeline.fit_transform(X)).all()
    search = GridSearchCV(
        MatrixCompleter(random_state=0), {"strength": [0.01, 3.0]}, cv=2, error_score="raise"
    ).fit(X)
    assert search.best_params_ == {"strength": 0.01}
    assert clone(MatrixCompleter(depth=3)).depth == 3
    frame = MatrixCompleter(strength=0.01).set_output(transform="pandas").fit_transform(X)
    assert frame.shape == X.shape


@pytest.mark.slow
def test_same_seed_same_result(table):
    _, X = table
    first, again = (MatrixCompleter(random_state=7).fit(X) for _ in range(2))
    assert first.strength_ == again.strength_
    np.testing.assert_array_equal(first.transform(X), again.transform(X))


X = np.array([[1.0, np.nan, 2.0], [3.0, 4.0, np.nan]])
BAD = [
    (MatrixCompleter(), np.full((2, 3), np.nan), "no observed entry"),
    (MatrixCompleter(), np.where(np.isnan(X), np.inf, X), "infinity"),
    (MatrixCompleter(), X.astype(complex), "Complex data not supported"),
    (MatrixCompleter(), X * 1e200, "divide them by a constant"),
    (MatrixCompleter(depth=1), X, "`depth` must be an integer of at least 2, found 1"),
    (
        MatrixCompleter(penalty="flat"),
        X,
        "`penalty` is 'flat'; known are 'flatness', 'weight-decay'",
    ),
    (
        MatrixCompleter(strength=-1.0),
        X,
        "`strength` must be 'auto' or a positive number, found -1.0",
    ),
    (MatrixCompleter(strength="best"), X, "`strength` must be 'auto'"),
    (MatrixCompleter(width=0), X, "`width` must be an integer of at least 1, found 0"),
    (MatrixCompleter(validation_fraction=1.5), X, "`validation_fraction` must be between"),
]


@pytest.mark.parametrize(("completer", "X", "words"), BAD)
def test_bad_input_is_named_with_its_remedy(completer, X, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        completer.fit(X)
    assert words in str(caught.value)


def test_bad_indices_are_named(fitted):
    with pytest.raises(ValueError, match=r"`rows` has indices in 0..120, outside 0..119"):
        fitted.predict_entries([0, 120], [0, 0])
    with pytest.raises(ValueError, match="`rows` has 2 indices and `columns` has 1"):
        fitted.predict_entries([0, 1], [0])
    with pytest.raises(ValueError, match="more than once"):
        MatrixCompleter().fit_entries(np.array([0, 0]), np.array([1, 1]), np.ones(2), (2, 2))


def test_a_result_that_does_not_fit_is_refused_before_it_is_made(fitted, monkeypatch):
    monkeypatch.setattr("flatrank._checks.free_memory", lambda: 1000)
    with pytest.raises(MemoryError, match="transform fewer rows at a time"):
        fitted.transform(np.full((120, 40), 1.0))
    with pytest.raises(MemoryError, match=r"use predict\(rows, columns\)"):
        fitted.completion_.matrix()


def test_a_table_that_does_not_fit_is_refused_before_any_allocation():
    with pytest.raises(MemoryError, match=r"Fitting 1 entries of a 1000000000 x 1000000000 table"):
        MatrixCompleter().fit_entries(np.array([0]), np.array([0]), np.ones(1), (10**9, 10**9))


@pytest.mark.parametrize("draws", [None, 0])
def test_intervals_cover_what_they_say(table, draws):
    truth, X = table
    completer = MatrixCompleter(random_state=0, draws=draws).fit(X)
    rows, columns = np.nonzero(np.isnan(X))
    noisy = truth[rows, columns] + 0.05 * np.random.default_rng(5).standard_normal(len(rows))
    for coverage in (0.5, 0.9):
        lower, upper = completer.predict_interval(rows, columns, coverage)
        assert (lower < upper).all()
        assert abs(np.mean((lower <= noisy) & (noisy <= upper)) - coverage) < 0.08
    middle = completer.predict_entries(rows, columns)
    np.testing.assert_allclose(0.5 * (lower + upper), middle, rtol=1e-9)


def test_intervals_need_held_out_entries_and_a_probability(table, fitted):
    given = MatrixCompleter(strength=0.1).fit(table[1])
    with pytest.raises(ValueError, match="No entries were held out"):
        given.predict_interval([0], [0])
    with pytest.raises(ValueError, match="`coverage` must be between 0 and 1, found 90"):
        fitted.predict_interval([0], [0], 90.0)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [None, 0])
def test_recommendations_are_the_largest_unseen_predictions(table, draws):
    X = table[1].copy()
    X[3, 1:] = 2.0  # one column left to recommend
    X[3, 0] = np.nan
    completer = MatrixCompleter(random_state=0, draws=draws).fit(X)
    best, scores = completer.recommend([7, 3], n=5)
    everything = completer.completion_.matrix()
    unseen = np.where(np.isnan(X[7]), everything[7], -np.inf)
    np.testing.assert_array_equal(best[0], np.argsort(-unseen)[:5])
    np.testing.assert_allclose(scores[0], np.sort(unseen)[::-1][:5])
    assert best[1].tolist() == [0, -1, -1, -1, -1]
    assert np.isnan(scores[1, 1:]).all()
    every, _ = completer.recommend([7], n=40, exclude_seen=False)
    np.testing.assert_array_equal(every[0], np.argsort(-everything[7]))
    with pytest.raises(ValueError, match=r"`rows` has indices in 120..120, outside 0..119"):
        completer.recommend([120])


@pytest.mark.slow
@pytest.mark.parametrize("draws", [None, 0])
def test_more_entries_are_taken_in_and_old_ones_replaced(table, draws):
    truth, X = table
    first = np.where(np.arange(120)[:, None] < 100, X, np.nan)[:100]
    completer = MatrixCompleter(random_state=0, draws=draws).fit(first)
    rows, columns = np.nonzero(~np.isnan(X[100:]))
    completer.partial_fit_entries(rows + 100, columns, X[rows + 100, columns])
    assert completer.completion_.network.shape == (120, 40)
    filled = completer.transform(X)
    assert hidden_error(filled, truth, X) < 0.06
    a, b = completer.entries_.rows[0], completer.entries_.columns[0]
    completer.partial_fit_entries([a], [b], [9.0])
    at = (completer.entries_.rows == a) & (completer.entries_.columns == b)
    assert completer.entries_.values[at].tolist() == [9.0]
    assert len(completer.entries_.values) == np.sum(~np.isnan(X))
    with pytest.raises(ValueError, match="smaller than the fitted table's"):
        completer.partial_fit_entries([0], [0], [1.0], shape=(10, 40))


def test_draws_and_smoothing_are_checked(table):
    for arguments, sentence in (
        ({"draws": -1}, "`draws` must be None or an integer of at least 0, found -1"),
        ({"draws": 5, "depth": 3}, "averages are over depth 2"),
        ({"draws": 5, "strength": 0.1}, "averages are over depth 2"),
        ({"draws": 5, "penalty": "flatness"}, "averages are over depth 2"),
        ({"smoothing": 1.5}, "`smoothing` must be between 0 and 1, found 1.5"),
    ):
        with pytest.raises(ValueError, match=sentence):
            MatrixCompleter(**arguments).fit(table[1])


@pytest.mark.slow
def test_new_columns_are_features_too(table):
    _, X = table
    frame = pandas.DataFrame(X[:, :30], columns=[f"c{k}" for k in range(30)])
    completer = MatrixCompleter(random_state=0, draws=2).fit(frame)
    rows, columns = np.nonzero(~np.isnan(X[:, 30:]))
    completer.partial_fit_entries(rows, columns + 30, X[rows, columns + 30])
    assert completer.n_features_in_ == 40
    assert not hasattr(completer, "feature_names_in_")
    assert completer.transform(X).shape == (120, 40)
    with pytest.raises(ValueError, match="30 features"):
        completer.transform(X[:, :30])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*of X have no observed entry")
def test_the_keys_of_old_entries_do_not_overflow():
    # 60,000 x 60,000 has more entries than a 32-bit integer counts.
    rows, columns = np.array([0, 50_000, 59_999]), np.array([0, 50_000, 1])
    completer = MatrixCompleter(strength=0.1, width=1, random_state=0)
    completer.fit_entries(rows, columns, np.array([1.0, 2.0, 3.0]), (60_000, 60_000))
    completer.partial_fit_entries([50_000], [50_000], [4.0])
    assert sorted(completer.entries_.values) == [1.0, 3.0, 4.0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*of X have no observed entry")
def test_one_entry_first_and_averages_after(table):
    _, X = table
    rows, columns = np.nonzero(~np.isnan(X))
    completer = MatrixCompleter(random_state=0, draws=2)
    completer.fit_entries(rows[:1], columns[:1], X[rows[:1], columns[:1]], (1, 40))
    with pytest.raises(ValueError, match="No entries were held out, which intervals need"):
        completer.predict_interval([0], [0])
    completer.partial_fit_entries(rows[1:], columns[1:], X[rows[1:], columns[1:]])
    assert isinstance(completer.completion_, AverageCompletion)
    assert np.isfinite(completer.held_out_error_)


@pytest.mark.slow
def test_values_are_numbers_one_for_each_entry():
    rows, columns = np.arange(40) // 8, np.arange(40) % 8
    values = np.random.default_rng(0).integers(-100, 100, 40)
    completer = MatrixCompleter(random_state=0, draws=2)
    expected = completer.fit_entries(rows, columns, values, (5, 8)).predict_entries([1], [2])
    narrow = completer.fit_entries(rows, columns, values.astype(np.int8), (5, 8))
    assert isinstance(narrow.completion_, AverageCompletion)
    np.testing.assert_array_equal(narrow.predict_entries([1], [2]), expected)
    for wrong in (values[:, None], values[1:]):
        with pytest.raises(ValueError, match="give one value for each entry"):
            completer.fit_entries(rows, columns, wrong, (5, 8))
    with pytest.raises(ValueError, match="give one value for each entry"):
        completer.partial_fit_entries([0], [0], [[1.0]])
    for factor in (1e-40, 1e40):
        with pytest.raises(ValueError, match="multiply or divide them by a constant"):
            completer.fit_entries(rows, columns, factor * values, (5, 8))


@pytest.mark.slow
def test_a_constant_table_has_intervals_of_no_width():
    X = np.full((6, 5), 7.0)
    X[0, 0] = np.nan
    completer = MatrixCompleter(random_state=0).fit(X)
    np.testing.assert_allclose(completer.predict_interval([0], [0]), 7.0, rtol=1e-6)


@pytest.mark.slow
def test_without_biases_an_unknown_row_has_none(table):
    _, X = table
    completer = MatrixCompleter(random_state=0, draws=2, biases=False).fit(X)
    assert not completer.completion_.draws.row_mean[:, -1].any()
    assert not completer.completion_.draws.column_mean[:, -1].any()


@pytest.mark.slow
@pytest.mark.parametrize("draws", [4, 0])
def test_fits_in_several_threads_at_once_are_what_each_is_alone(table, draws):
    _, X = table

    def fitted(seed):
        completer = MatrixCompleter(random_state=seed, draws=draws, width=3, max_sweeps=3)
        return completer.fit(X[:, :20]).transform(X[:10, :20])

    alone = [fitted(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fitted, range(4)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_the_number_of_blas_threads_is_given_back(table):
    before = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    with ThreadPoolExecutor(3) as pool:
        list(
            pool.map(
                lambda seed: MatrixCompleter(draws=2, random_state=seed).fit(table[1]), (0, 1, 2)
            )
        )
    after = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert after == before


def test_names_of_release_0_1_work_and_say_what_they_are_called_now(table):
    with pytest.warns(FutureWarning, match="`alpha` is called `strength` now"):
        old = MatrixCompleter(alpha=0.01, random_state=0).fit(table[1])
    new = MatrixCompleter(strength=0.01, random_state=0).fit(table[1])
    np.testing.assert_array_equal(old.transform(table[1]), new.transform(table[1]))
    for name, value in (
        ("alpha_", new.strength_),
        ("rows_", new.entries_.rows),
        ("columns_", new.entries_.columns),
        ("values_", new.entries_.values),
    ):
        with pytest.warns(FutureWarning, match=f"`{name}` is called"):
            np.testing.assert_array_equal(getattr(new, name), value)
