"""Tables come back from files as they went in; bad files end in one sentence."""

import importlib.util
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flatrank.data import (
    WRITABLE,
    atomically,
    check_writable,
    indian_pines,
    read_table,
    write_completed,
)
from flatrank.entries import LongForm

X = np.array([[1.5, np.nan, -2.0], [np.nan, 4.0, 5e-7]])
LONG = LongForm("user", "item", "rating")


def dense(table):
    array = np.full(table.shape, np.nan)
    array[table.rows, table.columns] = table.values
    return array


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", X)
    (tmp_path / "x.csv").write_text("1.5,,-2\nnan,4,5e-7\n")
    (tmp_path / "header.csv").write_text('a,"b, c",d\n1.5,,-2\nNaN,4,5e-7\n')
    (tmp_path / "semicolon.csv").write_text("1.5;;-2\n;4;5e-7\n")
    (tmp_path / "x.tsv").write_text("1.5\t\t-2\n\t4\t5e-7\n")
    duckdb.sql(
        f"COPY (SELECT * FROM (VALUES (1.5, NULL, -2), (NULL, 4, 5e-7)) t(a, b, c)) "
        f"TO '{tmp_path / 'x.parquet'}'"
    )
    return tmp_path


@pytest.mark.parametrize(
    "name", ["x.npy", "x.npz", "x.csv", "header.csv", "semicolon.csv", "x.tsv", "x.parquet"]
)
def test_wide_tables(folder, name):
    np.testing.assert_array_equal(dense(read_table(folder / name)), X)


def test_header_is_kept_even_if_it_looks_like_ours(folder):
    (folder / "c.csv").write_text("c0,c1\n1,2\n")
    table = read_table(folder / "c.csv")
    write_completed(folder / "o.csv", table, lambda: np.ones((1, 2)))
    assert (folder / "o.csv").read_text().splitlines() == ["c0,c1", "1.0,1.0"]


def test_header_is_kept(folder):
    assert list(read_table(folder / "header.csv").column_names) == ["a", "b, c", "d"]


def test_stored_entries_of_a_sparse_archive_are_observed(tmp_path):
    stored = scipy.sparse.csr_array(([0.0, 2.0], ([0, 1], [1, 2])), shape=(2, 3))
    scipy.sparse.save_npz(tmp_path / "s.npz", stored)
    table = read_table(tmp_path / "s.npz")
    assert sorted(zip(table.rows, table.columns, table.values, strict=True)) == [
        (0, 1, 0.0),
        (1, 2, 2.0),
    ]


def test_triplets_with_ids_of_any_type(tmp_path):
    (tmp_path / "t.csv").write_text("rating,item,user,when\n3,x,7,1\n4,y,2,1\n,x,2,1\n")
    table = read_table(tmp_path / "t.csv", LONG)
    assert list(table.row_names) == [2, 7]
    assert list(table.column_names) == ["x", "y"]
    np.testing.assert_array_equal(dense(table), [[np.nan, 4], [3, np.nan]])


@pytest.mark.parametrize("suffix", WRITABLE)
def test_what_is_written_reads_back(folder, suffix):
    table = read_table(folder / "header.csv")
    whole = np.arange(6.0).reshape(2, 3) / 7
    write_completed(folder / f"out{suffix}", table, lambda: whole)
    if suffix == ".npz":
        with np.load(folder / "out.npz") as archive:
            np.testing.assert_array_equal(archive["matrix"], whole)
            assert list(archive["column_names"]) == ["a", "b, c", "d"]
    else:
        again = read_table(folder / f"out{suffix}")
        np.testing.assert_array_equal(dense(again), whole)
        if suffix != ".npy":
            assert list(again.column_names) == ["a", "b, c", "d"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_long_tables_are_written_long_with_their_ids(tmp_path, suffix):
    (tmp_path / "t.csv").write_text("user,item,rating\n7,x,3\n2,y,4\n")
    table = read_table(tmp_path / "t.csv", LONG)
    out = tmp_path / f"out{suffix}"
    write_completed(out, table, lambda: np.array([[1.0, 4.0], [3.0, 2.0]]))
    found = duckdb.sql(f"SELECT user, item, rating, observed FROM '{out}'").fetchall()
    assert found == [
        (2, "x", 1.0, False),
        (2, "y", 4.0, True),
        (7, "x", 3.0, True),
        (7, "y", 2.0, False),
    ]


BAD = {
    "ragged.csv": (b"1,2,3\n4,5\n", "CSV Error on Line: 2"),
    "words.csv": (b"a,b\n1,x\n", "column b has 1 value(s) that are not numbers, such as 'x'"),
    "index.csv": (b",a,b\n0,1,2\n", "no name for column 1"),
    "twice.csv": (b"a,a\n1,2\n", "column name 'a' appears twice"),
    "empty.csv": (b"", "is empty"),
    "missing.csv": (b"nan,\n,nan\n", "no observed entry"),
    "infinite.csv": (b"1,inf\n2,3\n", "1 infinite value(s), the first in row 0, column 1"),
    "latin.csv": (b"\xe9\xff,1\n", "not UTF-8"),
    "quote.csv": (b'1,2\n3,"4\n', "unterminated quote"),
    "bad.npy": (b"\x93NUMPY\x01", "not a readable .npy file"),
    "bad.npz": (b"PK\x03\x04", "not a readable .npz file"),
    "bad.parquet": (b"PAR1", "could not be read"),
    "table.xlsx": (b"", "flatrank reads .npy, .npz, .csv, .tsv, .parquet"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(tmp_path, name):
    content, words = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_table(tmp_path / name)
    assert words in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[{}]], object), "Python objects"),
        (np.ones((2, 2), complex), "complex128"),
        (np.ones(3), "1 axes"),
    ],
)
def test_bad_arrays_are_named(tmp_path, array, words):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_table(tmp_path / "x.npy")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user,item,rating\n1,a,3\n1,a,4\n", "user 1 and item 'a' appear together 2 times"),
        ("user,item,rating\n1,a,x\n", "a value that is not a number, 'x'"),
        ("user,item,rating\n1,,3\n", "1 line(s) have no 'user' or no 'item'"),
        ("user,thing,rating\n1,a,3\n", "no column 'item'; it has 'user', 'thing', 'rating'"),
    ],
)
def test_bad_triplets_are_named(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_table(tmp_path / "t.csv", LONG)
    assert words in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a file"):
        read_table(tmp_path / "none.csv")


def test_a_file_that_does_not_fit_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr("flatrank._checks.free_memory", lambda: 10)
    with pytest.raises(MemoryError, match="GiB are free"):
        read_table(folder / "x.csv")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(folder):
    out = folder / "out.npy"
    out.write_bytes(b"old")

    def fail():
        raise ValueError("on the way")

    before = sorted(os.listdir(folder))
    with pytest.raises(ValueError, match="on the way"):
        write_completed(out, read_table(folder / "x.npy"), fail)

    def half_way():
        with atomically(out) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_way()
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(folder)) == before


def test_unwritable_places_are_named_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="flatrank writes"):
        check_writable(tmp_path / "x.xlsx")
    with pytest.raises(FileNotFoundError, match="is not a directory"):
        check_writable(tmp_path / "none" / "x.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(ValueError, match="is a directory"):
        check_writable(tmp_path / "d.csv")


def read_or_refused(path, *arguments):
    """A whole table or one sentence about the file, and nothing beside it."""
    refusal = None
    try:
        table = read_table(path, *arguments)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert str(path) in refusal
    else:
        assert np.isfinite(table.values).all()
        assert len(table.values) > 0
    assert os.listdir(path.parent) == [path.name]


CELLS = '0123456789.,;\n"naNe- \t\r'


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60) | st.text(CELLS, max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "x.csv"
    path.write_bytes(content)
    read_or_refused(path)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([b"", b"user,item,rating\n", b"user;item;rating\n1;a;2\n"]),
    st.binary(max_size=40) | st.text(CELLS, max_size=60).map(str.encode),
    st.none() | st.just("SELECT * FROM input WHERE rating > 0"),
)
def test_any_triplets_are_read_or_refused(tmp_path_factory, header, content, sql):
    path = tmp_path_factory.mktemp("fuzz") / "x.csv"
    path.write_bytes(header + content)
    read_or_refused(path, LONG, sql)


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """The bytes of a small table in long form, by suffix."""
    folder = tmp_path_factory.mktemp("valid")
    lines = [("a", 1, 2.5), ("b", 1, -1.0), ("a", 2, 7.0)]
    values = ", ".join(map(str, lines))
    duckdb.sql(
        f"COPY (SELECT * FROM (VALUES {values}) t(user, item, rating)) TO '{folder / 'x.parquet'}'"
    )
    with duckdb.connect(str(folder / "x.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE ratings AS SELECT * FROM read_parquet($1)", [str(folder / "x.parquet")]
        )
    with closing(sqlite3.connect(folder / "x.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE ratings (user TEXT, item INTEGER, rating REAL)")
        connection.executemany("INSERT INTO ratings VALUES (?, ?, ?)", lines)
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", [".parquet", ".sqlite", ".duckdb"])
def test_a_table_is_the_same_in_every_file(tmp_path, valid, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(valid[suffix])
    table = read_table(path, LONG)
    assert list(table.row_names) == ["a", "b"]
    assert list(table.column_names) == [1, 2]
    np.testing.assert_array_equal(dense(table), [[2.5, 7], [-1, np.nan]])
    some = (
        read_table(path, LONG, "SELECT * FROM input WHERE item = 1")
        if suffix == ".parquet"
        else (read_table(path, LONG, "SELECT * FROM ratings WHERE item = 1;"))
    )
    np.testing.assert_array_equal(dense(some), [[2.5], [-1]])
    assert path.read_bytes() == valid[suffix]


def test_a_query_gives_a_wide_table(folder):
    query = "SELECT c, 2 * a AS twice FROM input ORDER BY c"
    table = read_table(folder / "x.parquet", sql=query)
    assert list(table.column_names) == ["c", "twice"]
    np.testing.assert_array_equal(dense(table), [[-2, 3], [5e-7, np.nan]])
    with pytest.raises(ValueError, match="column 'word' has type VARCHAR, not a number"):
        read_table(folder / "x.parquet", sql="SELECT 'x' AS word FROM input")


def test_columns_of_sqlite_that_are_empty_are_missing(tmp_path):
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection, connection:
        connection.execute("CREATE TABLE t (a REAL, b REAL)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(1.0, None), (2, None)])
    np.testing.assert_array_equal(dense(read_table(tmp_path / "x.db")), [[1, np.nan], [2, np.nan]])


def test_a_database_without_tables_is_named(tmp_path):
    duckdb.connect(str(tmp_path / "x.duckdb")).close()
    with pytest.raises(ValueError, match=r"x.duckdb has 0 tables \(none\)"):
        read_table(tmp_path / "x.duckdb")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".sqlite"])
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path_factory, valid, suffix, data):
    content = bytearray(valid[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] = data.draw(st.integers(0, 255))
        else:
            del content[at : at + data.draw(st.integers(1, 8))]
    path = tmp_path_factory.mktemp("fuzz") / f"x{suffix}"
    path.write_bytes(content)
    read_or_refused(path, LONG)


@pytest.mark.slow
def test_fuzzing_with_coverage_finds_nothing(tmp_path):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: `pip install atheris` (Linux)")
    script = Path(__file__).with_name("fuzz_readers.py")
    done = subprocess.run(
        [
            sys.executable,
            script,
            "-runs=2000",
            "-seed=1",
            "-timeout=60",
            # Of one allocation: the peak of memory that Linux tells is that of the process that starts.
            "-rss_limit_mb=0",
            "-malloc_limit_mb=1024",
            f"-artifact_prefix={tmp_path}/",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 2000 runs" in done.stderr


def test_indian_pines_is_what_it_should_be():
    cube = indian_pines()
    assert cube.shape == (145, 145, 200)
    assert cube.min() == 955
    assert cube.max() == 9604
