"""flatrank complete --save and flatrank predict: the same numbers as in Python, ids as they went in."""

import os
import sqlite3

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from command import flatrank
from flatrank import MatrixCompleter, load_model, save_model
from flatrank.cli import app

LONG = ("--row", "user", "--column", "item", "--value", "rating")


def invoke(*arguments):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def read(path):
    return duckdb.sql(f"SELECT * FROM '{path}'").fetchnumpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A wide and a long table, completed, with their models."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    table = 3 + np.outer(rng.standard_normal(30), rng.standard_normal(12))
    X = np.where(rng.random(table.shape) < 0.6, table, np.nan)
    np.save(folder / "x.npy", X)
    rows, columns = np.nonzero(~np.isnan(X))
    with (folder / "ratings.csv").open("w") as file:
        file.write("user,item,rating\n")
        file.writelines(f"{i:03},{j},{X[i, j]}\n" for i, j in zip(rows, columns, strict=True))
    done = flatrank(
        "complete", "ratings.csv", *LONG, "--output", "filled.parquet",
        "--save", "long.safetensors", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Model: long.safetensors" in done.stdout
    done = flatrank(
        "complete", "x.npy", "--output", "filled.npy",
        "--save", "wide.safetensors", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, X


@pytest.fixture
def folder(made, monkeypatch):
    monkeypatch.chdir(made[0])
    return made[0]


@pytest.mark.slow
def test_what_is_predicted_by_ids_is_what_was_completed(folder, made, tmp_path):
    (folder / "pairs.csv").write_text("when,item,user\n1,3,007\n2,0,029\n3,11,000\n")
    done = flatrank(
        "predict", "long.safetensors", "pairs.csv", "--output", tmp_path / "p.csv", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "user,item,prediction,lower,upper"
    assert [line.rsplit(",", 3)[0] for line in lines[1:]] == ["007,3", "029,0", "000,11"]
    found = np.array([line.split(",")[2:] for line in lines[1:]], float)
    filled = read(folder / "filled.parquet")
    _, X = made
    for (user, item), (prediction, lower, upper) in zip(
        [(7, 3), (29, 0), (0, 11)], found, strict=True
    ):
        assert lower < prediction < upper
        if np.isnan(X[user, item]):
            there = (filled["user"] == f"{user:03}") & (filled["item"] == item)
            np.testing.assert_allclose(prediction, filled["rating"][there], rtol=1e-6)


@pytest.mark.slow
def test_a_model_of_a_wide_table_takes_indices(folder, made, tmp_path):
    _, X = made
    rows, columns = np.nonzero(np.isnan(X))
    pairs = {"row": rows, "column": columns}
    with duckdb.connect() as connection:
        connection.register("pairs", pairs)
        connection.execute(f"COPY (SELECT * FROM pairs) TO '{tmp_path / 'pairs.parquet'}'")
    done = invoke(
        "predict", "wide.safetensors", tmp_path / "pairs.parquet", "--output", tmp_path / "p.parquet",
        "--coverage", "0.5",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = read(tmp_path / "p.parquet")
    assert list(found) == ["row", "column", "prediction", "lower", "upper"]
    np.testing.assert_array_equal(found["row"], rows)
    expected = np.load("filled.npy")[rows, columns]
    np.testing.assert_allclose(found["prediction"], expected, rtol=1e-6)
    bounds = load_model("wide.safetensors").predict_interval(rows, columns, 0.5)
    np.testing.assert_array_equal((found["lower"], found["upper"]), bounds)


@pytest.mark.slow
def test_unknown_ids_are_counted_once_and_predicted(folder, tmp_path):
    (tmp_path / "pairs.tsv").write_text("user\titem\nnobody\t3\n001\t99\n")
    done = flatrank(
        "predict", "long.safetensors", tmp_path / "pairs.tsv", "--output", tmp_path / "p.tsv",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("1 'user' and 1 'item' id(s) were not fitted") == 1
    model = load_model("long.safetensors").completer_.completion_
    found = read(tmp_path / "p.tsv")
    assert found["user"].tolist() == ["nobody", "001"]
    item = load_model("long.safetensors").column_ids_.tolist().index(3)
    expected = model.predict_partly(np.array([-1]), np.array([item]))
    np.testing.assert_allclose(found["prediction"][0], expected[0])
    assert abs(expected[0] - model.mean) > 1e-3


@pytest.mark.slow
def test_a_model_without_held_out_entries_says_that_it_has_no_intervals(folder, tmp_path):
    model = tmp_path / "m.safetensors"
    save_model(model, MatrixCompleter(strength=0.01).fit(np.load("x.npy")))
    (tmp_path / "pairs.csv").write_text("row,column\n0,0\n29,11\n")
    done = flatrank("predict", model, "pairs.csv", "--output", "p.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lower and upper are left empty" in done.stderr
    found = read(tmp_path / "p.parquet")
    assert np.isfinite(found["prediction"]).all()
    assert np.ma.getmaskarray(found["lower"]).all()


PAIRS = {
    "good.csv": "user,item\n001,3\n",
    "named.csv": "person,item\n001,3\n",
    "missing.csv": "user,item\n001,\n",
    "words.csv": "user,item\n001,three\n",
    "halves.csv": "user,item\n001,3.5\n",
    "ragged.csv": "user,item\n001\n",
    "empty.csv": "",
    "outside.csv": "row,column\n30,0\n",
    "pairs.txt": "user,item\n001,3\n",
    "other.safetensors": "nothing like it",
}
BAD = [
    (("none.safetensors", "good.csv"), "none.safetensors is not a file"),
    (("other.safetensors", "good.csv"), "is not a whole .safetensors file"),
    (("long.safetensors", "none.csv"), "none.csv is not a file"),
    (("long.safetensors", "pairs.txt"), "flatrank reads .csv, .tsv, .parquet"),
    (
        ("long.safetensors", "named.csv"),
        "no column 'user', as the model has; it has 'person', 'item'",
    ),
    (("long.safetensors", "missing.csv"), "1 line(s) have no 'item'"),
    (
        ("long.safetensors", "words.csv"),
        "column 'item' has 'three', and the ids of the model are BIGINT",
    ),
    (("long.safetensors", "halves.csv"), "column 'item' has '3.5'"),
    (("long.safetensors", "ragged.csv"), "could not be read"),
    (("long.safetensors", "empty.csv"), "is empty"),
    (("long.safetensors", "good.csv", "--coverage", "1.5"), "`coverage` must be between 0 and 1"),
    (("wide.safetensors", "outside.csv"), "indices in 30..30, outside 0..29"),
    (("wide.safetensors", "good.csv"), "no column 'row'"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_bad_input_ends_in_a_sentence_and_touches_nothing(folder, arguments, words):
    for name, text in PAIRS.items():
        (folder / name).write_text(text)
    (folder / "out.csv").write_bytes(b"old")
    before = sorted(os.listdir(folder))
    done = invoke("predict", *arguments, "--output", "out.csv")
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(folder)) == before
    assert (folder / "out.csv").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("output", "words"), [("p.npy", "flatrank writes"), ("none/p.csv", "is not a directory")]
)
def test_the_output_is_looked_at_before_any_work(folder, output, words):
    done = invoke("predict", "none.safetensors", "none.csv", "--output", output)
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_place_for_the_model_is_looked_at_before_any_work(folder):
    done = invoke("complete", "none.npy", "--output", "o.npy", "--save", "m.pkl")
    assert done.exit_code == 2
    assert "flatrank writes .safetensors" in done.stderr


@pytest.fixture
def databases(folder, tmp_path):
    """The long table, and another table, in SQLite and in DuckDB."""
    with duckdb.connect(str(tmp_path / "r.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE ratings AS SELECT user AS who, item, rating, item < 6 AS early "
            "FROM 'ratings.csv'"
        )
        connection.execute("CREATE TABLE other AS SELECT 1 AS one")
        lines = connection.execute("SELECT * FROM ratings").fetchall()
    for name in ("r.sqlite", "r.db"):
        connection = sqlite3.connect(tmp_path / name)
        connection.execute(
            "CREATE TABLE ratings (who TEXT, item INTEGER, rating REAL, early INTEGER)"
        )
        connection.execute("CREATE TABLE other (one INTEGER)")
        connection.executemany("INSERT INTO ratings VALUES (?, ?, ?, ?)", lines)
        connection.commit()
        connection.close()
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r.sqlite", "r.db", "r.duckdb", "ratings.csv"])
def test_a_query_gives_the_table_to_complete(folder, databases, name):
    source = folder / name if name == "ratings.csv" else databases / name
    query = "SELECT who AS user, item, rating FROM ratings WHERE early -- only some"
    if name == "ratings.csv":
        query = "SELECT user, item, rating FROM input WHERE item < 6"
    before = source.read_bytes()
    done = invoke(
        "complete", source, "--sql", query, *LONG, "--output", databases / "o.parquet",
        "--save", databases / "m.safetensors", "--strength", "0.01",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = read(databases / "o.parquet")
    assert sorted(set(found["item"])) == [0, 1, 2, 3, 4, 5]
    assert sorted(set(found["user"]))[:2] == ["000", "001"]
    _, seen = np.unique(found["observed"], return_counts=True)
    given = read(folder / "ratings.csv")
    assert seen[1] == np.sum(given["item"] < 6)
    observed = {
        (user, item): rating
        for user, item, rating, known in zip(*found.values(), strict=True)
        if known
    }
    for user, item, rating in zip(*given.values(), strict=True):
        assert observed.get((user, item), rating) == rating
    assert load_model(databases / "m.safetensors").column_ids_.tolist() == [0, 1, 2, 3, 4, 5]
    assert source.read_bytes() == before


BAD_SQL = [
    (("r.sqlite",), "r.sqlite has 2 tables (other, ratings): say what to read by SQL"),
    (("r.duckdb",), "r.duckdb has 2 tables (other, ratings): say what to read by SQL"),
    (("r.sqlite", "--sql", "SELECT x FROM ratings"), "no such column: x): correct the SQL"),
    (("r.duckdb", "--sql", "SELECT x FROM ratings"), "correct the SQL"),
    (("r.sqlite", "--sql", "DROP TABLE ratings"), "correct the SQL"),
    (("r.duckdb", "--sql", "DROP TABLE ratings"), "correct the SQL"),
    (("r.sqlite", "--sql", "SELECT 1) ; DELETE FROM ratings WHERE (1"), "correct the SQL"),
    (("r.sqlite", "--sql", "SELECT who, item FROM ratings"), "no column 'user'"),
    (("r.duckdb", "--sql", "SELECT 1 AS user, 2 AS item, 'x' AS rating"), "not a number, 'x'"),
    (("r.sqlite", "--sql", "SELECT 1 AS user, 2 AS item, 'x' AS rating"), "not a number, 'x'"),
    (("junk.db",), "could not be opened"),
    (("x.npy", "--sql", "SELECT 1"), "has no columns to select"),
    (("ratings.csv", "--sql", "SELECT * FROM ratings"), "correct the SQL"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_SQL)
def test_bad_queries_are_named_and_change_nothing(folder, databases, arguments, words):
    (databases / "junk.db").write_bytes(b"junk" * 1000)
    name, *rest = arguments
    source = databases / name if (databases / name).exists() else folder / name
    before = source.read_bytes()
    done = invoke("complete", source, *rest, *LONG, "--output", databases / "o.parquet")
    assert done.exit_code == 2
    assert words in done.stderr
    assert source.read_bytes() == before
    assert not (databases / "o.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_the_only_table_of_a_database_needs_no_query(made, tmp_path, kind):
    _, X = made
    path = tmp_path / f"wide.{kind}"
    module = {"sqlite": sqlite3, "duckdb": duckdb}[kind]
    connection = module.connect(str(path))
    connection.execute("CREATE TABLE wide (" + ", ".join(f"c{j} DOUBLE" for j in range(12)) + ")")
    lines = [[None if np.isnan(value) else value for value in row] for row in X.tolist()]
    connection.executemany("INSERT INTO wide VALUES (" + ", ".join("?" * 12) + ")", lines)
    connection.commit()
    connection.close()
    done = invoke("complete", path, "--output", tmp_path / "o.npy")
    assert done.exit_code == 0, done.output
    filled = np.load(made[0] / "filled.npy")
    np.testing.assert_allclose(np.load(tmp_path / "o.npy"), filled, rtol=1e-5)
