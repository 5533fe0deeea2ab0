"""flatrank train: a file in, a folder out; killed at any moment, gone on with."""

import random
import signal
import time

import duckdb
import numpy as np
import pytest

from command import flatrank, started

CONFIG = """
[problem]
ensemble = "gaussian"
shape = [6, 5]
rank = 1
count = 20

[network]
depth = 3

[optimizer]
name = "label-noise"
learning_rate = 0.005
noise = 0.3
batch_size = 4

[run]
steps = 40000
runs = 2
record = ["loss", "trace"]
"""


def written(folder, text, name="config.toml"):
    (folder / name).write_text(text)
    return name


@pytest.mark.slow
def test_a_run_and_its_folder(tmp_path):
    run = flatrank("train", written(tmp_path, CONFIG), "--output", "run", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "2 of 2 runs: All steps were taken." in run.stdout
    folder = tmp_path / "run"
    history = duckdb.sql(f"SELECT * FROM '{folder / 'history.parquet'}'").fetchnumpy()
    assert list(history) == ["run", "step", "time", "loss", "trace", "test_error"]
    assert len(history["step"]) == 2 * 101
    assert history["loss"][-1] < history["loss"][0]
    with np.load(folder / "network.npz") as layers:
        assert [layers[f"layer_{j}"].shape for j in (1, 2, 3)] == [(2, 5, 5), (2, 5, 5), (2, 6, 5)]
    assert (folder / "training.png").stat().st_size > 10_000
    assert "data:image/png" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_divergence_is_an_exit_code_and_a_history(tmp_path):
    text = CONFIG.replace("0.005", "5.0").replace("runs = 2", "runs = 1")
    run = flatrank("train", written(tmp_path, text), "--output", "run", cwd=tmp_path)
    assert run.returncode == 1
    assert "Error: The loss was not finite at step" in run.stderr
    assert "lower `learning_rate`" in run.stderr
    assert (tmp_path / "run" / "history.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ("noise = 0.3", "nose = 0.3"),
            "label-noise has no 'nose'; it has batch_size, distribution",
        ),
        (("steps = 40000", ""), "[run] has no `steps`"),
        (('name = "label-noise"', 'name = "adam"'), "known are gradient-descent, label-noise"),
        (("[run]", "[runs]"), "has no table [run]"),
        (("depth = 3", "deep = 3"), "[network] has 'deep'; known are depth"),
        (('"gaussian"', '"poisson"'), "known are gaussian, entries, rank-one"),
        (("rank = 1", "rank = "), "is not a TOML file"),
        (("batch_size = 4", "batch_size = -4"), "`batch_size` must be an integer of at least 1"),
        (("runs = 2", "runs = 0"), "`runs` must be a whole number of at least 1"),
        (("noise = 0.3", ""), "[optimizer] label-noise:"),
    ],
)
def test_bad_settings_are_named_and_nothing_is_written(tmp_path, change, sentence):
    name = written(tmp_path, CONFIG.replace(*change))
    run = flatrank("train", name, "--output", "run", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.startswith("Error: ")
    assert sentence in run.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_folder_of_another_run_is_refused(tmp_path):
    short = CONFIG.replace("40000", "100")
    assert (
        flatrank("train", written(tmp_path, short), "--output", "run", cwd=tmp_path).returncode == 0
    )
    other = written(tmp_path, short.replace("0.3", "0.4"), "other.toml")
    run = flatrank("train", other, "--output", "run", cwd=tmp_path)
    assert run.returncode == 2
    assert "holds a run with other settings" in run.stderr
    assert (tmp_path / "run" / "config.toml").read_text() == short


def killed(folder, name, moment):
    """Start the command and kill it: `moment(process)` returns when."""
    process = started("train", name, "--output", "killed", cwd=folder)
    moment(process)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(1500)  # 22 processes, one after the other
@pytest.mark.filterwarnings("ignore:os.fork")
def test_killed_at_20_random_moments_it_ends_bit_for_bit_the_same(tmp_path, monkeypatch):
    # Without it each of the 22 processes would compile the same program.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    text = CONFIG.replace("40000", "3000000")
    name = written(tmp_path, text + "checkpoint_minutes = 0.001\n")
    whole = written(tmp_path, text, "whole.toml")
    assert flatrank("train", whole, "--output", "whole", cwd=tmp_path).returncode == 0
    chance = random.Random(0)
    saved = tmp_path / "killed" / "checkpoints"

    def anywhere(process):
        time.sleep(chance.uniform(0, 3))

    def while_it_runs_and_saves(process):
        steps = {path.name for path in saved.glob("*")}
        while process.exitcode is None and {path.name for path in saved.glob("*")} <= steps:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.3))

    moments = [anywhere] * 5 + [while_it_runs_and_saves] * 15
    chance.shuffle(moments)
    for moment in moments:
        assert killed(tmp_path, name, moment), "it ended before it was killed: take more steps"
    assert flatrank("train", name, "--output", "killed", cwd=tmp_path).returncode == 0
    ours, theirs = (tmp_path / "killed", tmp_path / "whole")
    with np.load(ours / "network.npz") as a, np.load(theirs / "network.npz") as b:
        assert all(np.array_equal(a[layer], b[layer]) for layer in b.files)
    tables = [
        duckdb.sql(f"SELECT * FROM '{folder / 'history.parquet'}'").fetchnumpy()
        for folder in (ours, theirs)
    ]
    for column in tables[1]:
        np.testing.assert_array_equal(tables[0][column], tables[1][column])


@pytest.mark.slow
def test_settings_that_cannot_be_run_do_not_claim_the_folder(tmp_path):
    short = CONFIG.replace("40000", "400")
    wrong = short.replace('"trace"]', '"los"]')
    first = flatrank("train", written(tmp_path, wrong), "--output", "run", cwd=tmp_path)
    assert first.returncode == 2
    assert "known are loss, trace" in first.stderr
    every = short.replace('record = ["loss", "trace"]', "")
    second = flatrank("train", written(tmp_path, every), "--output", "run", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_a_start_that_overflows_is_an_exit_code(tmp_path):
    text = CONFIG.replace("depth = 3", "depth = 3\nscale = 1e200")
    run = flatrank("train", written(tmp_path, text), "--output", "run", cwd=tmp_path)
    assert run.returncode == 1
    assert "not finite at the start" in run.stderr
