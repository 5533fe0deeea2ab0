"""The command line as a user meets it: in another process, on files."""

import os
from pathlib import Path

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from command import flatrank, script
from flatrank.cli import app


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    truth = 5 + rng.standard_normal((60, 1)) @ rng.standard_normal((1, 20))
    X = np.where(rng.random(truth.shape) < 0.5, truth, np.nan)
    np.save(tmp_path / "truth.npy", truth)
    np.save(tmp_path / "x.npy", X)
    np.savetxt(tmp_path / "x.csv", X, delimiter=",")
    rows, columns = np.nonzero(~np.isnan(X))
    with (tmp_path / "ratings.csv").open("w") as file:
        file.write("user,item,rating\n")
        file.writelines(f"u{i},{j},{X[i, j]}\n" for i, j in zip(rows, columns, strict=True))
    return tmp_path


@pytest.mark.slow
def test_array_in_array_and_report_out(folder):
    run = script("complete", "x.npy", "--output", "out.npy", "--report", "report.html", cwd=folder)
    assert run.returncode == 0, run.stderr
    truth, filled = np.load(folder / "truth.npy"), np.load(folder / "out.npy")
    assert np.linalg.norm(filled - truth) / np.linalg.norm(truth) < 0.05
    for fact in ("observed", "held-out error", "effective rank", "trace of the Hessian", "seconds"):
        assert fact in run.stdout
    assert "data:image/png" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_triplets_in_and_out(folder):
    run = flatrank(
        "complete", "ratings.csv", "--row", "user", "--column", "item", "--value", "rating",
        "--output", "out.parquet", "--penalty", "weight-decay", "--strength", "0.001", cwd=folder,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    query = (
        f"SELECT count(*), sum(CASE WHEN observed THEN 1 ELSE 0 END) FROM '{folder}/out.parquet'"
    )
    (counts,) = duckdb.sql(query).fetchall()
    assert counts == (1200, np.isfinite(np.load(folder / "x.npy")).sum())


BAD = [
    (("none.npy", "--output", "out.npy"), "none.npy is not a file"),
    (("x.npy", "--output", "out.xlsx"), "flatrank writes"),
    (("x.npy", "--output", "none/out.npy"), "none is not a directory"),
    (("x.npy", "--output", "out.npy", "--depth", "1"), "`depth` must be an integer of at least 2"),
    (
        ("x.npy", "--output", "out.npy", "--strength", "-1"),
        "`strength` must be 'auto' or a positive",
    ),
    (
        ("x.npy", "--output", "out.npy", "--strength", "much"),
        "--strength must be 'auto' or a positive",
    ),
    (("x.npy", "--output", "out.npy", "--penalty", "flat"), "'flat' is not one of"),
    (("ratings.csv", "--output", "out.npy"), "column user has"),
    (("ratings.csv", "--output", "out.npy", "--row", "user"), "--column, --value missing"),
    (
        (
            "ratings.csv",
            "--output",
            "out.npy",
            "--row",
            "a",
            "--column",
            "item",
            "--value",
            "rating",
        ),
        "no column 'a'",
    ),
    (("x.npy", "--output", "out.npy", "--report", "report.pdf"), "flatrank writes .html"),
]


@pytest.mark.slow
def test_bad_input_ends_in_exit_code_2_without_a_traceback(folder):
    run = flatrank("complete", "none.npy", "--output", "out.npy", cwd=folder)
    assert run.returncode == 2
    assert "Error: none.npy is not a file" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_bad_input_ends_in_a_sentence_and_touches_nothing(folder, monkeypatch, arguments, words):
    monkeypatch.chdir(folder)
    (folder / "out.npy").write_bytes(b"old")
    before = sorted(os.listdir(folder))
    run = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["complete", *arguments])
    assert run.exit_code == 2
    assert words in run.stderr
    assert sorted(os.listdir(folder)) == before
    assert (folder / "out.npy").read_bytes() == b"old"


@pytest.mark.slow
def test_help_names_the_commands(tmp_path):
    run = flatrank("--help", cwd=tmp_path)
    assert run.returncode == 0
    assert "complete" in run.stdout
    assert "demo" in run.stdout


@pytest.fixture
def sensed(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((12, 2)) @ rng.standard_normal((2, 10))
    A = rng.standard_normal((70, 12, 10))
    np.save(tmp_path / "A.npy", A)
    np.save(tmp_path / "y.npy", np.einsum("imn,mn->i", A, truth))
    left, right = rng.standard_normal((80, 12)), rng.standard_normal((80, 10))
    np.savez(tmp_path / "outer.npz", left=left, right=right)
    np.save(tmp_path / "outer-y.npy", np.einsum("im,mn,in->i", left, truth, right))
    seen = rng.permutation(120)[:90]
    np.savez(tmp_path / "entries.npz", rows=seen // 10, columns=seen % 10, shape=np.array([12, 10]))
    np.save(tmp_path / "entries-y.npy", truth.ravel()[seen])
    return tmp_path, truth


@pytest.mark.slow
def test_sense_recovers_in_float64_and_reports(sensed):
    folder, truth = sensed
    done = flatrank(
        "sense", "A.npy", "y.npy", "--output", "M.npy", "--report", "r.html", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(folder / "M.npy"), truth, atol=1e-10)
    assert "rank found" in done.stdout
    assert (folder / "r.html").read_text().count("data:image/png;base64,") == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["outer", "entries"])
def test_sense_reads_rank_one_measurements_and_entries(sensed, kind):
    folder, truth = sensed
    arguments = [str(folder / f"{kind}.npz"), str(folder / f"{kind}-y.npy")]
    done = CliRunner().invoke(app, ["sense", *arguments, "--output", str(folder / "M.csv")])
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(np.loadtxt(folder / "M.csv", delimiter=","), truth, atol=1e-9)


@pytest.mark.slow
def test_sense_says_that_it_failed_and_writes_nothing(sensed):
    folder, _ = sensed
    np.save(folder / "few.npy", np.load(folder / "A.npy")[:25])
    np.save(folder / "few-y.npy", np.load(folder / "y.npy")[:25])
    arguments = [str(folder / "few.npy"), str(folder / "few-y.npy"), "--output"]
    done = CliRunner().invoke(app, ["sense", *arguments, str(folder / "M.npy")])
    assert done.exit_code == 1
    assert "Error: not recovered." in done.output
    assert not (folder / "M.npy").exists()


def test_sense_leaves_empty_what_nothing_determines(sensed, monkeypatch):
    folder, truth = sensed
    mask = np.random.default_rng(1).random((12, 10)) < 0.8
    mask[4] = np.arange(10) == 3
    rows, columns = np.nonzero(mask)
    np.savez(folder / "part.npz", rows=rows, columns=columns, shape=np.array([12, 10]))
    np.save(folder / "part-y.npy", truth[mask] + 1e-3 * np.sin(rows + 7 * columns))
    arguments = [str(folder / "part.npz"), str(folder / "part-y.npy"), "--noise", "1e-3"]
    output, errors = folder / "M.csv", folder / "E.csv"
    done = CliRunner().invoke(
        app, ["sense", *arguments, "--output", str(output), "--standard-errors", str(errors)]
    )
    assert done.exit_code == 0, done.output
    assert "9 of 120 entries" in done.output.replace("\n", " ")
    found, error = (np.genfromtxt(path, delimiter=",") for path in (output, errors))
    empty = np.zeros((12, 10), bool)
    empty[4] = np.arange(10) != 3  # one entry of the row was measured
    assert (np.isnan(found) == empty).all()
    assert (np.isnan(error) == np.isnan(found)).all()
    rest = np.arange(12) != 4
    assert (np.abs(found - truth)[rest] < 6 * error[rest]).all()
    done = CliRunner().invoke(
        app, ["sense", *arguments[:2], "--output", str(output), "--standard-errors", str(errors)]
    )
    assert done.exit_code == 2
    assert "needs --noise" in done.output
    # Too large for the errors of all entries: the matrix is written all the same.
    monkeypatch.setattr("flatrank.recovery.determined._standard_errors._DENSE", 0)
    output, errors = folder / "M2.csv", folder / "E2.csv"
    done = CliRunner().invoke(
        app, ["sense", *arguments, "--output", str(output), "--standard-errors", str(errors)]
    )
    assert done.exit_code == 1
    assert "E2.csv was not written" in done.output.replace("\n", "")
    assert output.exists()
    assert not errors.exists()


BAD_SENSE = [
    (["A.npy", "outer-y.npy"], "`y` has 80 values and `A` has 70 measurements"),
    (["nothing.npy", "y.npy"], "is not a file"),
    (["y.npy", "y.npy"], "`matrices` must have 3 axes"),
    (["A.npy", "A.npy"], "`y` must have 1 axes"),
    (["A.npy", "outer.npz"], "values are a .npy array"),
    (["other.npz", "y.npy"], "holds one, two: store a .npy array (N, m, n)"),
    (["broken.npy", "y.npy"], "is not a readable .npy file"),
    (["objects.npy", "y.npy"], "is not a readable .npy file"),
    (["complex.npy", "y.npy"], "has data type complex128"),
    (["A.npy", "y.npy", "--noise", "loud"], "--noise must be 'none', 'auto' or a positive number"),
    (["A.npy", "y.npy", "--depth", "1"], "`depth` must be at least 2"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_SENSE)
def test_sense_names_bad_input(sensed, arguments, words, monkeypatch):
    folder, _ = sensed
    monkeypatch.chdir(folder)
    np.savez("other.npz", one=np.ones(3), two=np.ones(3))
    Path("broken.npy").write_bytes(b"nothing like it")
    np.save("objects.npy", np.array([{}], object), allow_pickle=True)
    np.save("complex.npy", np.ones((3, 2, 2), complex))
    done = CliRunner().invoke(app, ["sense", *arguments, "--output", "M.npy"])
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())
    assert not Path("M.npy").exists()


@pytest.mark.slow
def test_compiled_programs_are_kept_and_damaged_ones_do_no_harm(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    table = np.arange(30.0).reshape(6, 5)
    table[0, 0] = np.nan
    np.save(tmp_path / "x.npy", table)
    arguments = ("complete", "x.npy", "--output", "filled.npy", "--strength", "0.1")
    assert flatrank(*arguments, cwd=tmp_path).returncode == 0
    first = np.load(tmp_path / "filled.npy")
    kept = list((tmp_path / "cache" / "flatrank" / "compiled").glob("*-cache"))
    assert kept
    for entry in kept:
        entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    assert flatrank(*arguments, cwd=tmp_path).returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "filled.npy"), first)
