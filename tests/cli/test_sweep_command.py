"""flatrank sweep: killed at any moment it goes on; workers of a cluster may die."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flatrank.cli import app
from flatrank.sweeps._run import check_threads, read_results
from flatrank.sweeps._settings import read_sweep

FLATRANK = Path(sys.executable).with_name("flatrank")
# Every number of steps is a program of its own, and so a batch.
SWEEP = """
[fixed]
method = "train"
ensemble = "gaussian"
shape = [4, 3]
rank = 1
count = 10
depth = 2
optimizer = "gradient-descent"
learning_rate = 0.05
seeds = 2

[grid]
steps = [10, 20, 30, 40, 50]
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Programs are compiled once for all processes here."""
    cache = tmp_path_factory.mktemp("cache")
    names = {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    return os.environ | names | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def start(folder, environment, *more):
    (folder / "sweep.toml").write_text(SWEEP)
    return subprocess.Popen(
        [FLATRANK, "sweep", "sweep.toml", "--output", "out", *more],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def parts(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("out/results/part-*.parquet")}


def wait_for_parts(folder, process, count):
    until = time.monotonic() + 300
    while len(parts(folder)) < count:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < until, "no batch was finished"
        time.sleep(0.005)


def assert_complete(folder):
    rows = read_results(folder / "out")
    asked = [cell.key for cell in read_sweep(folder / "sweep.toml").cells]
    assert sorted(row["key"] for row in rows) == sorted(asked)
    assert all(row["train_loss"] is not None for row in rows)
    # read_results() takes one row a key: here it had nothing to leave out.
    assert len(parts(folder)) == 5
    assert not list(folder.glob("out/results/.part-*"))


@pytest.mark.slow
def test_killed_several_times_it_repeats_and_doubles_nothing(tmp_path, environment):
    before = {}
    for count in (1, 2, 4):
        process = start(tmp_path, environment)
        wait_for_parts(tmp_path, process, count)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        after = parts(tmp_path)
        assert {path: after[path] for path in before} == before  # untouched since
        before = after
    process = start(tmp_path, environment)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert f"10 cells: {2 * len(before)} were there, {10 - 2 * len(before)} computed" in out
    assert {path: parts(tmp_path)[path] for path in before} == before
    assert_complete(tmp_path)
    assert (tmp_path / "out" / "sweep-1.toml").read_text() == SWEEP


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(tmp_path, environment):
    pytest.importorskip("distributed")
    file = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", "0", *common]
    worker = ["worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", *common]

    def dask(arguments):
        program = [sys.executable, "-m", f"distributed.cli.dask_{arguments[0]}", *arguments[1:]]
        with (tmp_path / "dask.log").open("a") as log:
            return subprocess.Popen(program, cwd=tmp_path, env=environment, stdout=log, stderr=log)

    cluster = [dask(scheduler)]
    try:
        until = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < until, (tmp_path / "dask.log").read_text()
            time.sleep(0.05)
        cluster += [dask(worker), dask(worker)]
        address = json.loads(file.read_text())["address"]
        process = start(tmp_path, environment, "--scheduler", address)
        wait_for_parts(tmp_path, process, 1)
        cluster[1].send_signal(signal.SIGKILL)
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error + (tmp_path / "dask.log").read_text()
        assert_complete(tmp_path)
    finally:
        for one in cluster:
            one.kill()
            one.wait()


def test_workers_with_threads_are_refused():
    check_threads({"tcp://a": {"nthreads": 1}})
    with pytest.raises(ValueError, match=r"the worker tcp://b has 4 threads.*--nthreads 1"):
        check_threads({"tcp://a": {"nthreads": 1}, "tcp://b": {"nthreads": 4}})


@pytest.mark.slow
def test_bad_settings_and_no_scheduler_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.toml").write_text(SWEEP.replace("steps", "stesp"))
    (tmp_path / "right.toml").write_text(SWEEP)
    nobody = ("--scheduler", "tcp://127.0.0.1:9")
    for name, more, sentence in (
        ("wrong.toml", (), "wrong.toml: [grid] has 'stesp'; did you mean 'steps'?"),
        ("right.toml", nobody, "no Dask scheduler answers at 'tcp://127.0.0.1:9'"),
    ):
        run = CliRunner().invoke(app, ["sweep", name, "--output", "out", *more])
        assert run.exit_code == 2
        assert run.stderr.startswith("Error: ")
        assert sentence in run.stderr
        assert not (tmp_path / "out").exists()
