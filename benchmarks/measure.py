"""What every benchmark shares: fair timing in one run, the device's name, results kept as JSON."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def use_one_core() -> None:
    """Pin this process, and every thread that a library will start, to one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"


def side_by_side(
    contestants: dict[str, Callable[[], Any]],
    rounds: int,
    budget: float = 0.3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per call, one figure a round, contestants taking turns so that noise is shared.

    Each contestant is called once before it is timed, then as often a round as fits in `budget`.
    `clock=time.process_time` counts this process's own time, on a machine that others use too.
    """
    repeats = {}
    for name, call in contestants.items():
        call()
        start = clock()
        call()
        repeats[name] = max(1, int(budget / max(clock() - start, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            start = clock()
            for _ in range(repeats[name]):
                call()
            seconds[name].append((clock() - start) / repeats[name])
    return seconds


def ratio(seconds: list[float], reference: list[float]) -> float:
    """The median over rounds of the ratio to the reference."""
    return statistics.median(a / b for a, b in zip(seconds, reference, strict=True))


def machine() -> dict[str, Any]:
    """The device and the versions that the figures belong to."""
    import jax

    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    return {
        "device": jax.devices()[0].device_kind if jax.default_backend() != "cpu" else model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def keep(name: str, figures: dict[str, Any]) -> Path:
    """Write the figures with the machine's description to results/NAME-DEVICE.json."""
    about = machine()
    device = "".join(c if c.isalnum() else "-" for c in about["device"].lower()).strip("-")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{device}.json"
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps({**about, **figures}, indent=1) + "\n")
    temporary.replace(path)
    print(f"\nkept in {path}", file=sys.stderr)
    return path


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: list[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])
