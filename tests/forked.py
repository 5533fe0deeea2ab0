"""The command line in a process of its own that begins with everything imported.

Of a process that is killed half-way most of the time would go into imports, three seconds each.
"""

import multiprocessing
import os
import sys

_SERVER = multiprocessing.get_context("forkserver")
# Only what starts no thread and no XLA: a fork takes none along.
_SERVER.set_forkserver_preload(["flatrank.cli", "flatrank.dynamics", "flatrank.sweeps", "duckdb"])


def started(*arguments, cwd):
    """The process of `flatrank ARGUMENTS`, running in a folder; its output goes nowhere."""
    process = _SERVER.Process(target=_command, args=([*map(str, arguments)], str(cwd)))
    process.start()
    return process


def _command(arguments, folder):
    os.chdir(folder)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.argv = ["flatrank", *arguments]
    from flatrank.cli import main

    main()
