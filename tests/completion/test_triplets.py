"""TripletCompleter: the same numbers as the completer by index, and ids as they went in."""

import datetime
import decimal

import numpy as np
import pandas
import polars
import pyarrow
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from flatrank import MatrixCompleter, TripletCompleter
from flatrank.completion import SingleCompletion

FORMS = {
    "dict": dict,
    "pandas": pandas.DataFrame,
    "polars": polars.DataFrame,
    "pyarrow": pyarrow.table,
}
COMPLETER = MatrixCompleter(strength=0.01, random_state=0)


@pytest.fixture(scope="module")
def ratings():
    """30 users x 12 items, half of the pairs in a shuffled order, and the whole table."""
    rng = np.random.default_rng(0)
    table = 3 + np.outer(rng.standard_normal(30), rng.standard_normal(12))
    rows, columns = np.nonzero(rng.random(table.shape) < 0.6)
    order = rng.permutation(len(rows))
    rows, columns = rows[order], columns[order]
    frame = {
        "user": np.array([f"user {i}" for i in rows], object),
        "item": 100 + 10 * columns,
        "rating": table[rows, columns],
    }
    return frame, rows, columns, table


@pytest.fixture(scope="module")
def fitted(ratings):
    return TripletCompleter(completer=COMPLETER).fit(ratings[0])


@pytest.fixture(scope="module")
def averaged(ratings):
    """With the default strength, which is chosen on held-out entries: intervals need them."""
    return TripletCompleter(completer=MatrixCompleter(random_state=0)).fit(ratings[0])


def columns_of(frame):
    if isinstance(frame, dict):
        return frame
    if isinstance(frame, pyarrow.Table):
        return frame.to_pydict()
    return {name: frame[name].to_list() for name in frame.columns}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_table_is_completed_as_by_index(ratings, form):
    frame, rows, columns, _ = ratings
    # Numbered as they first come: what the index interface is given here.
    number = [
        {one: k for k, one in enumerate(dict.fromkeys(side.tolist()))} for side in (rows, columns)
    ]
    i = np.array([number[0][one] for one in rows.tolist()])
    j = np.array([number[1][one] for one in columns.tolist()])
    by_index = clone(COMPLETER).fit_entries(i, j, frame["rating"], (len(number[0]), len(number[1])))
    given = FORMS[form](frame)
    completer = TripletCompleter(completer=COMPLETER).fit(given)
    np.testing.assert_array_equal(completer.predict(given), by_index.predict_entries(i, j))
    reverse = {name: column[::-1] for name, column in frame.items()}
    np.testing.assert_array_equal(
        completer.predict(FORMS[form](reverse)), by_index.predict_entries(i, j)[::-1]
    )
    assert completer.row_ids_.tolist() == [f"user {one}" for one in number[0]]
    assert completer.column_ids_.tolist() == [100 + 10 * one for one in number[1]]


def test_holes_are_predicted(ratings, fitted):
    _, _, _, table = ratings
    i, j = np.indices(table.shape).reshape(2, -1)
    predicted = fitted.predict({"user": [f"user {k}" for k in i], "item": 100 + 10 * j})
    error = predicted - table.ravel()
    assert np.sqrt(np.mean(error**2)) < 0.3 * np.std(table)


DAYS = np.arange("2024-01-01", "2024-01-31", dtype="datetime64[D]")
IDS = {
    "integers": np.arange(30, dtype=np.int16),
    "unsigned": np.arange(2**63, 2**63 + 30, dtype=np.uint64),
    "floats": np.linspace(0, 1, 30),
    "strings": np.array([f"ü{k}" for k in range(30)]),
    "objects": np.array([f"ü{k}" for k in range(30)], object),
    "days": DAYS,
    "nanoseconds": DAYS.astype("datetime64[ns]"),
    "tuples": np.fromiter((("a", k) for k in range(30)), object, 30),
    "mixed": np.fromiter((k if k % 2 else f"{k}" for k in range(30)), object, 30),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_come_back_with_their_type(ratings, kind):
    frame, rows, _, _ = ratings
    ids = IDS[kind]
    completer = TripletCompleter(completer=COMPLETER).fit(frame | {"user": ids[rows]})
    assert completer.row_ids_.dtype == ids.dtype
    assert set(completer.row_ids_.tolist()) == set(ids.tolist())
    found = completer.recommend(ids[:3], n=2)
    assert found["user"].dtype == ids.dtype
    assert found["user"].tolist() == [one for one in ids[:3].tolist() for _ in range(2)]
    assert found["item"].dtype == np.int64


FRAMES = {
    "pandas": [
        pandas.Series([f"u{k}" for k in range(30)]),
        pandas.Series([f"u{k}" for k in range(30)], dtype="category"),
        pandas.Series(range(30), dtype="Int64"),
        pandas.Series(pandas.to_datetime(DAYS)).dt.tz_localize("Europe/Berlin"),
    ],
    "polars": [
        polars.Series([f"u{k}" for k in range(30)]),
        polars.Series([f"u{k}" for k in range(30)], dtype=polars.Categorical),
        polars.Series(range(30), dtype=polars.UInt8),
        polars.Series(DAYS),
        polars.Series(DAYS.astype("datetime64[us]")).dt.replace_time_zone("Europe/Berlin"),
    ],
    "pyarrow": [
        pyarrow.array([f"u{k}" for k in range(30)], pyarrow.large_string()),
        pyarrow.array([f"u{k}" for k in range(30)]).dictionary_encode(),
        pyarrow.array(range(30), pyarrow.int8()),
        pyarrow.array(DAYS.astype("datetime64[us]"), pyarrow.timestamp("us", "Europe/Berlin")),
    ],
}


@pytest.mark.parametrize(
    ("form", "ids"), [(form, ids) for form, columns in FRAMES.items() for ids in columns]
)
def test_frames_come_back_as_the_library_and_types_that_went_in(ratings, form, ids):
    frame, rows, columns, _ = ratings
    taken = {"pandas": lambda: ids.iloc[rows].reset_index(drop=True), "polars": lambda: ids[rows]}
    user = taken.get(form, lambda: ids.take(pyarrow.array(rows)))()
    given = FORMS[form]({"user": user, "item": columns, "rating": frame["rating"]})
    completer = TripletCompleter(completer=COMPLETER).fit(given)
    found = completer.recommend(user[:3], n=4)
    assert type(found) is type(given)
    assert list(columns_of(found)) == ["user", "item", "score"]
    assert set(columns_of(found)["user"]) == set(
        user[:3].to_pylist() if form == "pyarrow" else user[:3]
    )
    if form == "pyarrow":
        assert found.schema.field("user").type == given.schema.field("user").type
    else:
        assert found["user"].dtype == given["user"].dtype


@pytest.mark.slow
@pytest.mark.parametrize("strength", ["fitted", "averaged"])
def test_an_unknown_id_is_predicted_from_what_is_known(strength, request):
    fitted = request.getfixturevalue(strength)
    fit = fitted.completer_.completion_
    bias = dict(zip(fitted.column_ids_.tolist(), fit.column_bias, strict=True))
    row_bias = dict(zip(fitted.row_ids_, fit.row_bias, strict=True))
    pairs = {"user": ["nobody", "user 3", "nobody"], "item": [110, -1, -1]}
    with pytest.warns(
        UserWarning, match=r"^2 'user' and 2 'item' id\(s\) were not fitted"
    ) as caught:
        predicted = fitted.predict(pairs)
    assert len(caught) == 1
    if isinstance(fit, SingleCompletion):
        expected = fit.mean + np.array([bias[110], row_bias["user 3"], 0])
        np.testing.assert_allclose(predicted, expected)
    # The same as the exact fit of a row without an entry.
    empty = fitted.completer_.transform(np.full((1, 12), np.nan))
    column = fitted.column_ids_.tolist().index(110)
    np.testing.assert_allclose(predicted[0], empty[0, column], rtol=1e-5)


def test_intervals_of_known_pairs_are_the_completers(ratings, averaged):
    fitted, frame = averaged, ratings[0]
    lower, upper = fitted.predict_interval(frame, coverage=0.8)
    i = [fitted.row_ids_.tolist().index(one) for one in frame["user"]]
    j = [fitted.column_ids_.tolist().index(one) for one in frame["item"]]
    expected = fitted.completer_.predict_interval(np.array(i), np.array(j), 0.8)
    np.testing.assert_array_equal((lower, upper), expected)


@pytest.mark.slow
@pytest.mark.parametrize("unknown", [("user",), ("item",), ("user", "item")])
def test_intervals_of_unknown_ids_cover_what_they_should(unknown):
    rng = np.random.default_rng(1)
    table = (
        3
        + rng.standard_normal((80, 1))
        + 0.5 * rng.standard_normal(60)
        + rng.standard_normal((80, 60))
    )
    i, j = np.nonzero(rng.random(table.shape) < 0.5)
    frame = {"user": i, "item": j, "rating": table[i, j]}
    new = (i >= 40) & ("user" in unknown) | (j >= 30) & ("item" in unknown)
    completer = TripletCompleter(completer=MatrixCompleter(random_state=0))
    completer.fit({name: column[~new] for name, column in frame.items()})
    chosen = ((i >= 40) == ("user" in unknown)) & ((j >= 30) == ("item" in unknown))
    test = {name: column[chosen] for name, column in frame.items()}
    with pytest.warns(UserWarning, match="were not fitted"):
        lower, upper = completer.predict_interval(test, coverage=0.8)
    assert (lower < upper).all()
    covered = np.mean((lower <= test["rating"]) & (test["rating"] <= upper))
    assert abs(covered - 0.8) < 0.08


def test_recommendations_are_the_largest_unseen_values(ratings, fitted):
    frame, _, _, _ = ratings
    found = fitted.recommend(np.array(["user 4", "user 0"], object), n=5)
    for user in ("user 4", "user 0"):
        seen = set(frame["item"][frame["user"] == user])
        left = [item for item in fitted.column_ids_.tolist() if item not in seen]
        scores = fitted.predict({"user": [user] * len(left), "item": left})
        best = np.argsort(-scores)[:5]
        mine = found["user"] == user
        assert found["item"][mine].tolist() == [left[k] for k in best]
        np.testing.assert_allclose(found["score"][mine], scores[best], rtol=1e-6)
    assert found["user"].tolist()[0] == "user 4"
    everything = fitted.recommend(["user 4"], n=100, exclude_seen=False)
    assert sorted(everything["item"]) == sorted(fitted.column_ids_)


def test_a_new_user_is_recommended_what_is_liked_by_all(fitted):
    with pytest.warns(UserWarning, match="1 'user'"):
        found = fitted.recommend(["nobody"], n=3)
    with pytest.warns(UserWarning, match="12 'user'"):
        scores = fitted.predict({"user": ["nobody"] * 12, "item": fitted.column_ids_})
    assert found["item"].tolist() == fitted.column_ids_[np.argsort(-scores)[:3]].tolist()
    np.testing.assert_array_equal(found["score"], np.sort(scores)[::-1][:3])


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("pandas", "category"),
        ("pandas", "int8"),
        ("polars", polars.Int8),
        ("pyarrow", pyarrow.int8()),
    ],
)
def test_an_unknown_id_that_the_fitted_type_cannot_hold_comes_back(ratings, form, kind):
    frame, rows, _, _ = ratings
    user = {
        "pandas": lambda: pandas.Series(rows, dtype=kind),
        "polars": lambda: polars.Series(rows, dtype=kind),
        "pyarrow": lambda: pyarrow.array(rows, kind),
    }[form]()
    completer = TripletCompleter(completer=COMPLETER).fit(FORMS[form](frame | {"user": user}))
    with pytest.warns(UserWarning, match="1 'user'"):
        found = completer.recommend([1000, 3], n=1)
    assert columns_of(found)["user"] == [1000, 3]


@pytest.mark.slow
def test_new_entries_and_new_ids_are_taken_in(ratings):
    frame, rows, _, _ = ratings
    old = rows < 25
    completer = TripletCompleter(completer=COMPLETER)
    completer.fit({name: column[old] for name, column in frame.items()})
    before = completer.row_ids_.tolist()
    completer.partial_fit({name: column[~old] for name, column in frame.items()})
    assert completer.row_ids_.tolist()[: len(before)] == before
    assert len(completer.row_ids_) == 30
    error = completer.predict(frame) - frame["rating"]
    assert np.sqrt(np.mean(error[~old] ** 2)) < 0.3 * np.std(frame["rating"])
    # A known pair's value is replaced, and counts once.
    pair = {"user": frame["user"][:1], "item": frame["item"][:1]}
    completer.partial_fit(pair | {"rating": [8.0]})
    assert len(completer.completer_.entries_.values) == len(rows)
    assert 8.0 in completer.completer_.entries_.values
    # A hole changes nothing.
    predicted = completer.predict(frame)
    completer.partial_fit(pair | {"rating": [np.nan]})
    np.testing.assert_array_equal(completer.predict(frame), predicted)


def test_partial_fit_first_is_a_fit(ratings, fitted):
    frame, _, _, _ = ratings
    first = TripletCompleter(completer=COMPLETER).partial_fit(frame)
    np.testing.assert_array_equal(first.predict(frame), fitted.predict(frame))


@pytest.mark.slow
def test_a_new_id_keeps_the_type_or_is_refused(ratings):
    frame, _, _, _ = ratings
    completer = TripletCompleter(completer=COMPLETER).fit(frame)
    completer.partial_fit({"user": ["user 1"], "item": [7.0], "rating": [3.0]})
    assert completer.column_ids_.dtype == np.int64
    assert completer.column_ids_[-1] == 7
    for new in ([7.5], ["x"], [datetime.date(2020, 1, 1)]):
        with pytest.raises(
            ValueError, match=r"ids in column 'item' are .* cannot all be held as int64"
        ):
            completer.partial_fit({"user": ["user 1"], "item": new, "rating": [3.0]})
    # Longer strings than before are whole.
    short = {
        "user": np.array(list("aabb")),
        "item": ["user 0", "user 1"] * 2,
        "rating": np.arange(4.0),
    }
    grown = TripletCompleter(completer=COMPLETER).fit(short)
    grown.partial_fit({"user": ["a longer one"], "item": ["user 1"], "rating": [1.0]})
    assert "a longer one" in grown.row_ids_.tolist()


@pytest.mark.slow
def test_holes_are_dropped_but_their_ids_are_learned(ratings):
    frame, _, _, _ = ratings
    more = {
        "user": [*frame["user"], "silent", "user 1"],
        "item": [*frame["item"], 110, 999],
        "rating": [*frame["rating"], None, np.nan],
    }
    with pytest.warns(UserWarning, match="no observed entry"):
        completer = TripletCompleter(completer=COMPLETER).fit(more)
    assert len(completer.completer_.entries_.values) == len(frame["rating"])
    assert "silent" in completer.row_ids_.tolist()
    assert 999 in completer.column_ids_.tolist()


def test_numbers_of_any_type_are_values(ratings):
    frame, _, _, _ = ratings
    whole = np.round(frame["rating"])
    expected = TripletCompleter(completer=COMPLETER).fit(frame | {"rating": whole}).predict(frame)
    for values in (
        whole.astype(int),
        [decimal.Decimal(int(value)) for value in whole],
        np.ma.masked_array(whole, mask=False),
        pandas.Series(whole, dtype="Int64"),
    ):
        found = TripletCompleter(completer=COMPLETER).fit(frame | {"rating": values}).predict(frame)
        np.testing.assert_array_equal(found, expected)


def test_structured_arrays_are_tables(ratings, fitted):
    frame, _, _, _ = ratings
    kinds = [("user", object), ("item", int), ("rating", float)]
    array = np.empty(len(frame["rating"]), kinds)
    for name in frame:
        array[name] = frame[name]
    found = TripletCompleter(completer=COMPLETER).fit(array).predict(array)
    np.testing.assert_array_equal(found, fitted.predict(frame))


def line(**columns):
    return {"user": ["a", "b"], "item": [1, 2], "rating": [1.0, 2.0]} | columns


BAD = [
    (line(user=["a", None]), "1 line(s) have no 'user': remove them"),
    (line(user=np.array(["a", np.nan], object)), "1 line(s) have no 'user'"),
    (line(item=[1.0, np.nan]), "1 line(s) have no 'item'"),
    (line(item=np.array(["2020-01-01", "NaT"], "datetime64[D]")), "1 line(s) have no 'item'"),
    (pandas.DataFrame(line(item=pandas.array([1, None], "Int64"))), "1 line(s) have no 'item'"),
    (polars.DataFrame(line(user=["a", None])), "1 line(s) have no 'user'"),
    (
        line(user=["a", "a"], item=[1, 1]),
        "user 'a' and item 1 appear together 2 times (1 such pair(s))",
    ),
    (line(rating=[1.0, np.inf]), "1 infinite value(s), the first for user 'b' and item 2"),
    (line(rating=["1", "2"]), "column 'rating' has <U1 values"),
    (line(rating=np.array([1.0, "x"], object)), "a value that is not a number, 'x'"),
    (line(rating=[1.0, 2j]), "a value that is not a number, 2j"),
    (line(rating=DAYS[:2]), "column 'rating' has datetime64[D] values"),
    (line(rating=[np.nan, None]), "no value in column 'rating' (of 2 line(s))"),
    (line(user=[], item=[], rating=[]), "no value in column 'rating' (of 0 line(s))"),
    (line(user=[["a"], ["b"]]), "column 'user' has ids that cannot be told apart"),
    (line(user=["a"]), "different lengths ('user' 1, 'item' 2, 'rating' 2)"),
    (line(item=np.ones((2, 2))), "'item' has 2 axes"),
    (
        {"user": ["a"], "thing": [1], "rating": [1.0]},
        "no column 'item'; it has 'user', 'thing', 'rating'",
    ),
    (
        pandas.DataFrame([["a", 1, 1, 2.0]], columns=["user", "item", "item", "rating"]),
        "2 columns 'item'",
    ),
]


@pytest.mark.parametrize(("frame", "words"), BAD)
def test_bad_tables_are_named_with_their_remedy(frame, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        TripletCompleter(completer=COMPLETER).fit(frame)
    assert words in str(caught.value)


def test_bad_questions_are_named(fitted):
    with pytest.raises(ValueError, match="no column 'item'"):
        fitted.predict({"user": ["user 1"]})
    with pytest.raises(ValueError, match=r"1 line.* have no 'item'"):
        fitted.predict({"user": ["user 1"], "item": [None]})
    with pytest.raises(ValueError, match="they are strings, and the fitted ones are numbers"):
        fitted.predict({"user": ["user 1"], "item": ["110"]})
    with pytest.raises(ValueError, match="coverage"):
        fitted.predict_interval({"user": ["user 1"], "item": [110]}, coverage=1.5)
    with pytest.raises(ValueError, match="No entries were held out, which intervals need"):
        fitted.predict_interval({"user": ["user 1"], "item": [110]})
    with pytest.raises(ValueError, match=r"1 line.* have no 'user'"):
        fitted.recommend([None])
    with pytest.raises(ValueError, match="`n` must be an integer of at least 1, found 0"):
        fitted.recommend(["user 1"], n=0)
    with pytest.raises(TypeError, match=r"LazyFrame: call .collect\(\) first"):
        fitted.predict(polars.LazyFrame({"user": ["user 1"], "item": [110]}))
    with pytest.raises(TypeError, match="pass a pandas or polars DataFrame"):
        fitted.predict(3)
    with pytest.raises(NotFittedError):
        TripletCompleter().predict({"user": ["user 1"], "item": [110]})


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"row": 3}, "`row` must be the name of a column, found 3"),
        ({"row": "item"}, "must be three names"),
        ({"completer": "best"}, "`completer` must be a MatrixCompleter, found 'best'"),
    ],
)
def test_bad_parameters_are_named(parameters, words):
    with pytest.raises(ValueError, match=words):
        TripletCompleter(**parameters).fit(line())


def test_a_frame_with_a_score_of_its_own_is_not_mixed_up(ratings):
    frame, _, _, _ = ratings
    renamed = {"user": frame["user"], "score": frame["item"], "rating": frame["rating"]}
    completer = TripletCompleter(column="score", completer=COMPLETER).fit(renamed)
    with pytest.raises(ValueError, match="column 'score', as your ids have"):
        completer.recommend(["user 1"])


def test_parameters_are_scikit_learns(ratings, fitted):
    completer = TripletCompleter("u", "i", "r", MatrixCompleter(depth=3))
    copy = clone(completer)
    assert copy.get_params()["completer__depth"] == 3
    assert copy.completer is not completer.completer
    copy.set_params(completer__depth=4, row="v")
    assert (copy.completer.depth, copy.row) == (4, "v")
    assert completer.completer.depth == 3
    # Each default is its own.
    TripletCompleter().set_params(completer__depth=7)
    assert TripletCompleter().completer.depth == 2
    assert not hasattr(clone(fitted), "completer_")
    assert not hasattr(COMPLETER, "completion_")
