"""The command line as a user meets it: in another process.

`flatrank` runs the command in a process that begins with everything imported, which saves three of its
four seconds; `script` runs the installed script, from nothing.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

_SERVER = multiprocessing.get_context("forkserver")
# Only what starts no thread and no XLA: a fork takes none along.
_SERVER.set_forkserver_preload(
    ["flatrank.cli", "flatrank.completion._completer", "flatrank.sweeps", "duckdb"]
)


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def flatrank(*arguments, cwd):
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "out", Path(folder) / "err"
        process = started(*arguments, cwd=cwd, streams=texts)
        process.join()
        return Done(process.exitcode, *(text.read_text() for text in texts))


def script(*arguments, cwd):
    done = subprocess.run(
        [Path(sys.executable).with_name("flatrank"), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "100"},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def started(*arguments, cwd, streams=(os.devnull, os.devnull)):
    """The process of `flatrank ARGUMENTS`, running in a folder, with files for what it says."""
    given = [*map(str, arguments)], str(cwd), dict(os.environ), [*map(str, streams)]
    process = _SERVER.Process(target=_command, args=given)
    process.start()
    return process


def _command(arguments, folder, environment, streams):
    for number, path in zip((1, 2), streams, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["flatrank", *arguments]
    import jax
    from rich.console import Console

    from flatrank.cli import main, screen

    # What these two read from the environment when they were imported.
    screen.console.__dict__.update(Console(width=100).__dict__)
    for name, kind in (
        ("jax_compilation_cache_dir", str),
        ("jax_persistent_cache_min_compile_time_secs", float),
    ):
        if name.upper() in environment:
            jax.config.update(name, kind(environment[name.upper()]))
    main()
