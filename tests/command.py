"""The command line as a user meets it: in another process."""

import os
import subprocess
import sys
from pathlib import Path


def flatrank(*arguments, cwd):
    return subprocess.run(
        [Path(sys.executable).with_name("flatrank"), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "100"},
    )
