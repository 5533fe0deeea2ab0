"""What it costs until the library or the command line is there, as ratios to what stands under it.

    make bench-startup

CPU seconds (user and system) of fresh processes that take turns. A ratio is the median over rounds of
one process over the reference process of the same round. `--source FOLDER` measures the src/ of another
checkout.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from measure import keep, ratio, table

JAX, STACK = "import jax", "import jax, equinox, lineax"
COMMAND = "import sys; sys.argv[0] = 'flatrank'; from flatrank.cli import main; main()"
# What is measured: the code, arguments, and the reference of its ratio.
CASES: dict[str, tuple[str, list[str], str]] = {
    JAX: (JAX, [], JAX),
    STACK: (STACK, [], STACK),
    "import flatrank": ("import flatrank", [], STACK),
    "fr.trace_of_hessian": ("import flatrank as fr; fr.trace_of_hessian", [], STACK),
    "fr.recover": ("import flatrank as fr; fr.recover", [], STACK),
    "fr.train": ("import flatrank as fr; fr.train", [], STACK),
    "fr.MatrixCompleter": ("import flatrank as fr; fr.MatrixCompleter", [], STACK),
    "flatrank --help": (COMMAND, ["--help"], JAX),
    "flatrank --version": (COMMAND, ["--version"], JAX),
    "flatrank complete --help": (COMMAND, ["complete", "--help"], JAX),
}


def cpu_seconds(code: str, arguments: list[str], source: Path) -> float:
    """User and system seconds of a fresh process."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(source)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # An older checkout may not know an option.
    return used.ru_utime + used.ru_stime if process.returncode == 0 else float("nan")


def main() -> None:
    """Measure and print a table; --keep writes it to results/."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1] / "src")
    parser.add_argument("--keep", action="store_true", help="write results/startup-DEVICE.json")
    asked = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for round_ in range(-1, asked.rounds):
        for name, (code, arguments, _) in CASES.items():
            used = cpu_seconds(code, arguments, asked.source)
            if round_ >= 0:  # the first round reads files that the others find in memory
                seconds[name].append(used)
    ratios = {name: ratio(seconds[name], seconds[CASES[name][2]]) for name in CASES}
    rows = [
        [name, f"{statistics.median(seconds[name]):.2f}", f"{ratios[name]:.2f}", CASES[name][2]]
        for name in CASES
    ]
    print(table(["what", "CPU seconds", "ratio", "to"], rows))
    if asked.keep:
        keep("startup", {"seconds": seconds, "ratios": ratios})


if __name__ == "__main__":
    main()
