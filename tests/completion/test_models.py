"""Saved models predict bit for bit as before; any other file ends in one sentence."""

import json
import os
from pathlib import Path

import numpy as np
import pandas
import polars
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from flatrank import (
    Flatness,
    MatrixCompleter,
    TripletCompleter,
    WeightDecay,
    load_model,
    save_model,
)

RNG = np.random.default_rng(0)
TABLE = 3 + np.outer(RNG.standard_normal(30), RNG.standard_normal(12))
X = np.where(RNG.random(TABLE.shape) < 0.6, TABLE, np.nan)
ROWS, COLUMNS = np.nonzero(~np.isnan(X))
VALUES = X[ROWS, COLUMNS]
HOLES = np.nonzero(np.isnan(X))


@pytest.fixture(scope="module")
def by_index():
    return MatrixCompleter(random_state=0).fit(X)


@pytest.fixture(scope="module")
def by_ids():
    return TripletCompleter(completer=MatrixCompleter(strength=0.01, random_state=0)).fit(
        {"user": np.array([f"ü{i}" for i in ROWS]), "item": COLUMNS, "rating": VALUES}
    )


@pytest.fixture(scope="module")
def written(by_ids, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_model(path, by_ids)
    return path.read_bytes()


def again(tmp_path, completer):
    save_model(tmp_path / "m.safetensors", completer)
    return load_model(tmp_path / "m.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    "completer",
    [
        MatrixCompleter(random_state=0),
        MatrixCompleter(penalty="flatness", random_state=0),
        MatrixCompleter(3, WeightDecay(), 0.01, random_state=np.int64(0)),
        MatrixCompleter(penalty=Flatness(), strength=np.float64(0.01), width=2, biases=False),
    ],
    ids=["draws", "path", "depth 3", "no biases"],
)
def test_all_that_was_fitted_comes_back_bit_for_bit(tmp_path, completer):
    fitted = completer.fit(X)
    loaded = again(tmp_path, fitted)
    np.testing.assert_array_equal(loaded.predict_entries(*HOLES), fitted.predict_entries(*HOLES))
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    if fitted.strength == "auto":
        np.testing.assert_array_equal(
            loaded.predict_interval(*HOLES), fitted.predict_interval(*HOLES)
        )
    np.testing.assert_array_equal(loaded.recommend(np.arange(5)), fitted.recommend(np.arange(5)))
    assert loaded.get_params() == completer.get_params()
    public = {name for name in vars(fitted) if name.endswith("_") and not name.startswith("_")}
    assert {name for name in vars(loaded) if name.endswith("_")} == public
    assert getattr(loaded.completion_, "path", ()) == getattr(fitted.completion_, "path", ())
    assert type(loaded.completion_) is type(fitted.completion_)
    for name, value in vars(fitted.completion_).items():
        assert type(getattr(loaded.completion_, name)) is type(value), name


@pytest.mark.slow
def test_a_loaded_model_takes_in_new_entries(tmp_path, by_ids):
    loaded = again(tmp_path, by_ids)
    new = {"user": ["ü1", "somebody"], "item": [5, 5], "rating": [9.0, 1.0]}
    loaded.partial_fit(new)
    pairs = {"user": ["somebody", "ü1"], "item": [1, 2]}
    other = again(tmp_path, by_ids).partial_fit(new)
    np.testing.assert_array_equal(loaded.predict(pairs), other.predict(pairs))
    assert "somebody" in loaded.row_ids_.tolist()


IDS = {
    "integers": np.arange(30, dtype=np.int16),
    "unsigned": np.arange(2**63, 2**63 + 30, dtype=np.uint64),
    "floats": np.linspace(0, 1, 30),
    "strings": np.array([f"日本 {k}\x00\n" * (k + 1) for k in range(30)]),
    "surrogates": np.array([f"\ud800{k}" for k in range(30)], object),
    "objects": np.array(["", *(f"ü{k}" for k in range(29))], object),
    "scalars": np.fromiter((np.int32(k) for k in range(30)), object, 30),
    "integer objects": np.fromiter(range(30), object, 30),
    "days": np.arange("2024-01-01", "2024-01-31", dtype="datetime64[D]"),
    "nanoseconds": np.arange(30).astype("datetime64[ns]"),
    "big-endian": np.arange(30, dtype=">i4"),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_come_back_with_their_type(tmp_path, kind):
    ids = IDS[kind]
    frame = {"user": ids[ROWS], "item": COLUMNS % 2 == 0, "rating": VALUES}
    frame = {name: column[COLUMNS < 2] for name, column in frame.items()}
    fitted = TripletCompleter(completer=MatrixCompleter(strength=0.01, random_state=0)).fit(frame)
    loaded = again(tmp_path, fitted)
    assert loaded.row_ids_.dtype == fitted.row_ids_.dtype
    assert loaded.row_ids_.tolist() == fitted.row_ids_.tolist()
    assert loaded.column_ids_.dtype == bool
    np.testing.assert_array_equal(loaded.predict(frame), fitted.predict(frame))


@pytest.mark.parametrize("form", [pandas.DataFrame, polars.DataFrame])
def test_recommendations_come_back_in_the_library_of_the_table(tmp_path, form):
    frame = form({"user": [f"u{i}" for i in ROWS], "item": COLUMNS, "rating": VALUES})
    fitted = TripletCompleter(completer=MatrixCompleter(strength=0.01, random_state=0)).fit(frame)
    found, expected = again(tmp_path, fitted).recommend(["u3"]), fitted.recommend(["u3"])
    assert type(found) is form
    assert found.equals(expected)


def test_the_names_of_a_frames_columns_come_back(tmp_path):
    frame = pandas.DataFrame(X, columns=[f"c{j}" for j in range(12)])
    fitted = MatrixCompleter(strength=0.01, random_state=0).fit(frame)
    loaded = again(tmp_path, fitted)
    assert loaded.feature_names_in_.tolist() == list(frame.columns)
    pandas.testing.assert_frame_equal(
        loaded.set_output(transform="pandas").transform(frame),
        fitted.set_output(transform="pandas").transform(frame),
    )


def test_the_file_is_safetensors_and_json(tmp_path, written, by_ids):
    (tmp_path / "m.safetensors").write_bytes(written)
    with safetensors.safe_open(tmp_path / "m.safetensors", framework="numpy") as file:
        metadata = file.metadata()
        bias = file.get_tensor("model.completer_.completion_.row_bias")
    np.testing.assert_array_equal(bias, by_ids.completer_.completion_.row_bias)
    assert metadata["format"] == "flatrank model"
    assert json.loads(metadata["model"])["object"] == "TripletCompleter"


@pytest.mark.slow
def test_what_a_file_cannot_hold_is_named_and_nothing_is_written(tmp_path, by_index):
    path = tmp_path / "m.safetensors"
    with pytest.raises(NotFittedError):
        save_model(path, MatrixCompleter())
    with pytest.raises(ValueError, match=r"ends in '.pkl': flatrank writes .safetensors"):
        save_model(tmp_path / "m.pkl", by_index)
    with pytest.raises(FileNotFoundError, match="is not a directory"):
        save_model(tmp_path / "none" / "m.safetensors", by_index)
    random = MatrixCompleter(strength=0.01, random_state=np.random.RandomState(0)).fit(X)
    with pytest.raises(
        ValueError, match=r"model.random_state is a numpy.*`random_state` as an int"
    ):
        save_model(path, random)
    completer = TripletCompleter(completer=MatrixCompleter(strength=0.01))
    for ids, words in (
        ([(k,) for k in ROWS], "Python objects of type tuple"),
        ([k if k % 2 else str(k) for k in ROWS.tolist()], "Python objects of type int, str"),
        ([2**70 + int(k) for k in ROWS], "more than 64 bits"),
        (ROWS.astype("S"), "array of .S2"),
        (ROWS.astype("m8[s]"), "array of timedelta64"),
    ):
        column = ids if isinstance(ids, np.ndarray) else np.fromiter(ids, object, len(ids))
        completer.fit({"user": column, "item": COLUMNS, "rating": VALUES})
        with pytest.raises(ValueError, match=words):
            save_model(path, completer)
    assert os.listdir(tmp_path) == []


def rewritten(path, **metadata):
    with safetensors.safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        old = file.metadata()
    new = {name: value for name, value in (old | metadata).items() if value is not None}
    safetensors.numpy.save_file(tensors, path, new)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"version": "3"}, r"version 3 of the format, and this flatrank reads up to version 2"),
        ({"version": "one"}, "version one of the format"),
        ({"version": None}, "version none of the format"),
        ({"format": None}, "holds something other than a flatrank model"),
        ({"format": "pt"}, "holds something other than a flatrank model"),
        ({"model": "{}"}, "is damaged, its checksum differs"),
        ({"sha256": None}, "is damaged, its checksum differs"),
    ],
)
def test_other_files_are_named(tmp_path, written, metadata, words):
    path = tmp_path / "m.safetensors"
    path.write_bytes(written)
    rewritten(path, **metadata)
    with pytest.raises(ValueError, match=words) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        "nothing",
        "3",
        "{}",
        '{"object": "os.system", "fields": {}}',
        '{"object": "Flatness", "fields": {}}',
        '{"object": "MatrixCompleter", "fields": {"rank": 3}}',
        '{"object": "MatrixCompleter", "fields": {"depth": 2}}',
        '{"object": "MatrixCompleter", "fields": {}, "fitted": {"x_": {"array": "none"}}}',
        '{"tuple": ' * 5000,
        '{"tuple": [' * 5000 + "]}" * 5000,
    ],
)
def test_a_description_of_something_else_is_named(tmp_path, written, model):
    from flatrank.completion._models import _digest

    path = tmp_path / "m.safetensors"
    path.write_bytes(written)
    tensors = safetensors.numpy.load_file(path)
    rewritten(path, model=model, sha256=_digest(model, tensors))
    with pytest.raises(ValueError, match="does not describe a completer") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_model(tmp_path / "none.safetensors")


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(tmp_path, written, monkeypatch):
    (tmp_path / "m.safetensors").write_bytes(written)
    monkeypatch.setattr("flatrank._checks.free_memory", lambda: 10)
    with pytest.raises(MemoryError, match="GiB are free"):
        load_model(tmp_path / "m.safetensors")


def refused(path):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load_model(path)
    return str(path) in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "m.safetensors"
    path.write_bytes(content)
    assert refused(path)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_damage_is_noticed(tmp_path_factory, written, by_ids, data):
    path = tmp_path_factory.mktemp("fuzz") / "m.safetensors"
    at = data.draw(st.integers(0, len(written) - 1))
    damage = data.draw(st.sampled_from(["cut", "flip", "insert"]))
    if damage == "cut":
        content = written[:at]
    elif damage == "flip":
        content = (
            written[:at] + bytes([written[at] ^ data.draw(st.integers(1, 255))]) + written[at + 1 :]
        )
    else:
        content = written[:at] + data.draw(st.binary(min_size=1, max_size=9)) + written[at:]
    path.write_bytes(content)
    refusal = None
    try:
        loaded = load_model(path)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert str(path) in refusal
    else:
        # What the file says is the same, in other words: another escape in its header.
        pair = {"user": ["ü1"], "item": [5]}
        np.testing.assert_array_equal(loaded.predict(pair), by_ids.predict(pair))


OLD = Path(__file__).parent / "release_0_1"
WITH_PATH = ("average", "flattest")


@pytest.mark.parametrize("name", [*WITH_PATH, "given", "triplets"])
def test_models_of_release_0_1_predict_as_they_did(name, tmp_path):
    """Files and predictions were written by release 0.1; `given` has depth 3 and a given strength."""
    rows, columns = np.indices((12, 8)).reshape(2, -1)
    model = load_model(OLD / f"{name}.safetensors")
    expected = np.load(OLD / "predictions.npz")
    # The file of this release says the same.
    save_model(tmp_path / "again.safetensors", model)
    for one in (model, load_model(tmp_path / "again.safetensors")):
        if name == "triplets":
            frame = {"user": np.char.add("u", rows.astype(str)), "item": columns}
            np.testing.assert_allclose(one.predict(frame), expected[name], rtol=1e-6)
            continue
        known = one.entries_
        X = known.filled(np.full(known.shape, np.nan))
        np.testing.assert_allclose(one.predict_entries(rows, columns), expected[name], rtol=1e-6)
        # `flattest` has a strength of 2e-8, at which a row's system loses its digits in float32: what
        # 0.1 wrote is 4e-3 from the solution in float64, and two kinds of processors differ by 1e-3.
        rtol = 1e-2 if name == "flattest" else 1e-5
        np.testing.assert_allclose(one.transform(X), expected[f"{name}, transformed"], rtol=rtol)
        if name in WITH_PATH:
            np.testing.assert_allclose(
                one.predict_interval(rows, columns, 0.8), expected[f"{name}, interval"], rtol=1e-5
            )
