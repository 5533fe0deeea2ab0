"""Completion beside its peers: ratings, a hyperspectral image, ten million entries.

    make bench-completion                              # everything, two cores, hours
    python benchmarks/completion.py --only movielens --seeds 2 --who flatrank cmfrec
    python benchmarks/completion.py --tune jester      # the grids that the peers' settings come from

Peers, from the `bench-tables` extra: cmfrec (alternating least squares in C, built with gcc) and the
SVD of scikit-surprise (stochastic gradients in Cython, one thread whatever it is given), each with the
defaults of its authors and with settings chosen for each data set on a split that no figure is taken
from: piecewise, around which the grids of `--tune` were laid, not yet run whole. "Implicit" is
cmfrec's option to learn also from which entries are known.
Soft-impute is a port: fancyimpute 0.7.0 calls scikit-learn by a name that is gone since 1.8.

Everyone gets the same split, the same threads and the data in the form that it wants; contestants take
turns. BLAS has one thread inside the peers, whose own it would slow, and so in the port, NumPy alone.
Only `fit` is timed, flatrank's second one on each split: the first of all, with compilation, is reported
beside it. Predictions are clipped to the scale of the ratings, for everyone. MovieLens-100K is fetched
to the cache of the user and may not be redistributed; Jester is read from ../shared/data where it is
there.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from completion_data import DATA, JESTER, Predict, Split, synthetic
from completion_peers import (
    FLATRANK,
    GRIDS,
    PEERS,
    TUNED,
    Contestant,
    biases_alone,
    cmfrec,
    contestants,
    cores,
    flatrank,
)
from measure import keep, table
from threadpoolctl import threadpool_limits

# At ten million entries: the arguments, and the one that counts iterations.
ITERATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "flatrank, a draw and half a draw": ({}, "draws"),  # of all entries, and of those not held out
    "flatrank, flattest, a sweep": ({"strength": 0.1, "tolerance": -1.0}, "max_sweeps"),
}

TUNING_SEED = 100


def timed(contestant: Contestant, data: Any, seed: int) -> tuple[float, Predict]:
    # BLAS with threads of its own inside the peers' threads makes them several times slower.
    with threadpool_limits(cores() if contestant.compiles else 1, user_api="blas"):
        start = time.perf_counter()
        predict = contestant.fit(data, seed)
        return time.perf_counter() - start, predict


def race(
    title: str, load: Callable[[int], Split], rivals: dict[str, Contestant], seeds: int
) -> list[dict[str, Any]]:
    """Errors and seconds of everyone on the same splits, one after the other."""
    found: dict[str, dict[str, Any]] = {
        name: {"data": title, "contestant": name, "errors": [], "seconds": [], "first seconds": []}
        for name in rivals
    }
    oracles = []
    for seed in range(seeds):
        split = load(seed)
        oracles.append(split.oracle)
        for name, contestant in rivals.items():
            row, data = found[name], contestant.prepare(split)
            if contestant.compiles:
                row["first seconds"].append(timed(contestant, data, seed)[0])
            seconds, predict = timed(contestant, data, seed)
            row["seconds"].append(seconds)
            row["errors"].append(split.error(predict))
            print(
                f"{title} {seed}: {name} {row['errors'][-1]:.4f}, {seconds:.2f} s", file=sys.stderr
            )
    rows = list(found.values())
    if np.isfinite(oracles).all():
        truth = {"data": title, "contestant": "the truth itself", "errors": oracles}
        rows.insert(0, truth | {"seconds": [], "first seconds": []})
    for row in rows:
        row["error"] = statistics.mean(row["errors"])
        row["standard error"] = (
            statistics.stdev(row["errors"]) / len(row["errors"]) ** 0.5 if seeds > 1 else None
        )
        row["median seconds"] = statistics.median(row["seconds"]) if row["seconds"] else None
        # Programs serve later splits of the same shapes: only the first split has all to compile.
        row["first fit seconds"] = row["first seconds"][0] if row["first seconds"] else None
    return rows


def wanted(name: str, who: list[str], names: Iterable[str]) -> bool:
    """Whether one of `who` is the name, or a part of it and nobody's whole name."""
    return any(part == name if part in names else part in name for part in who)


def shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def races(chosen: list[str], who: list[str], seeds: int, quick: bool) -> list[dict[str, Any]]:
    found = []
    for data in chosen:
        title, load = DATA[data]
        if data == "jester" and not JESTER.exists():
            print(f"\n{title} left out: {JESTER} is not there", file=sys.stderr)
            continue
        everyone = contestants(data)
        rivals = {name: everyone[name] for name in everyone if wanted(name, who, everyone)}
        rows = race(title, lambda seed, load=load: load(seed, quick), rivals, seeds)
        found += rows
        what = "relative error" if data.startswith("pines") else "RMSE"
        print(f"\n{title}, {seeds} split(s)\n")
        print(
            table(
                ["contestant", f"{what}, mean ± s. e.", "median s", "first fit of all, s"],
                [
                    [
                        row["contestant"],
                        f"{row['error']:.4f} ± {shown(row['standard error'], 4)}",
                        shown(row["median seconds"], 2),
                        shown(row["first fit seconds"], 1),
                    ]
                    for row in rows
                ],
            ),
            flush=True,
        )
    return found


LARGE: dict[str, Callable[[], Contestant]] = {
    "biases alone": biases_alone,
    "cmfrec, defaults": cmfrec,
    "cmfrec, k = 10": lambda: cmfrec(k=10, lambda_=3.0),
    **{name: lambda name=name: flatrank(**FLATRANK[name]) for name in FLATRANK},
}


def large(who: list[str], quick: bool) -> dict[str, Any]:
    """100,000 x 20,000 with ten million entries known, and cost per iteration on fewer of them.

    Each figure in a process of its own, for its peak of resident memory.
    """
    m, n, count = (10_000, 2_000, 100_000) if quick else (100_000, 20_000, 10_000_000)
    parts = [count // 8, count // 4, count // 2, count]
    found: dict[str, Any] = {"contestants": [], "iterations": []}
    with tempfile.TemporaryDirectory() as folder:
        split = synthetic(0, False, m, n, count * 10 // 9 + 1)
        np.savez(Path(folder) / "split.npz", **split._asdict())
        print(f"\n{m:,} x {n:,}, {count:,} entries; the truth itself {split.oracle:.4f}\n")
        del split
        names = [*LARGE, *ITERATIONS]
        for name in LARGE:
            if wanted(name, who, names):
                row = in_a_process(folder, "fit", name, count)
                found["contestants"].append({"contestant": name, **row})
        for name in ITERATIONS:
            if wanted(name, who, names):
                rows = [in_a_process(folder, "iterations", name, part) for part in parts]
                seconds = [row["seconds per iteration"] for row in rows]
                exponent = float(np.polyfit(np.log(parts), np.log(seconds), 1)[0])
                found["iterations"].append(
                    {"what": name, "entries": parts, "seconds": seconds, "exponent": exponent}
                )
    print(
        table(
            ["contestant", "RMSE", "s", "first s", "GiB before the fit", "peak GiB"],
            [
                [
                    row["contestant"],
                    f"{row['error']:.4f}",
                    shown(row["seconds"], 1),
                    shown(row["first seconds"], 1),
                    shown(row["GiB before"], 2),
                    shown(row["peak GiB"], 2),
                ]
                for row in found["contestants"]
            ],
        )
    )
    print()
    print(
        table(
            ["seconds per iteration", *(f"{part:,} entries" for part in parts), "exponent"],
            [
                [row["what"], *(shown(s, 3) for s in row["seconds"]), shown(row["exponent"], 2)]
                for row in found["iterations"]
            ],
        ),
        flush=True,
    )
    return found


def in_a_process(folder: str, *what: Any) -> dict[str, Any]:
    command = [sys.executable, __file__, "--threads", str(cores()), "--child", folder]
    done = subprocess.run(
        [*command, *map(str, what)], check=True, stdout=subprocess.PIPE, text=True
    )
    last = done.stdout.splitlines()[-1]
    print(" ".join(map(str, what)), last, file=sys.stderr)
    return json.loads(last)


def child(folder: str, what: str, name: str, count: int) -> dict[str, Any]:
    kept = dict(np.load(Path(folder) / "split.npz"))
    for part in ("rows", "columns", "values"):
        kept[part] = kept[part][:count].copy()
    split = Split(**kept)._replace(shape=tuple(map(int, kept["shape"])))
    if what == "iterations":
        settings, counted = ITERATIONS[name]
        few, many = (flatrank(**settings, **{counted: i}) for i in (2, 8))
        differences = []
        timed(few, split, 0)
        timed(many, split, 0)
        for _ in range(3):
            start = timed(few, split, 0)[0]
            differences.append((timed(many, split, 0)[0] - start) / 6)
        return {"seconds per iteration": statistics.median(differences)}
    contestant = LARGE[name]()
    data = contestant.prepare(split)
    before = gibibytes_now()
    first, predict = timed(contestant, data, 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = timed(contestant, data, 0)[0] if contestant.compiles else first
    return {
        "error": split.error(predict),
        "seconds": seconds,
        "first seconds": first if contestant.compiles else None,
        "GiB before": before,
        "peak GiB": peak,
    }


def gibibytes_now() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**30


def tune(data: str, who: list[str]) -> None:
    """Every setting of the grids on a split that no figure is taken from, the best first."""
    split = DATA[data][1](TUNING_SEED, False)
    for peer, grid in GRIDS[data.split()[0]].items():
        if not any(part in peer for part in who):
            continue
        tried = []
        for settings in grid:
            contestant = PEERS[peer](**settings)
            seconds, predict = timed(contestant, contestant.prepare(split), 0)
            tried.append((split.error(predict), seconds, settings))
            print(f"{peer} {tried[-1]}", file=sys.stderr, flush=True)
        print(f"\n{data}, {peer}")
        for error, seconds, settings in sorted(tried, key=lambda x: x[0])[:5]:
            print(f"  {error:.4f}  {seconds:6.2f} s  {settings}", flush=True)


def use_cores(count: int) -> None:
    """This process, every pool of threads and every process that it starts, on so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:count]))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    threadpool_limits(count)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sets = [*DATA, "large"]
    parser.add_argument("--only", nargs="*", choices=sets, default=sets)
    parser.add_argument(
        "--who", nargs="*", default=[""], help="contestants, or parts of their names"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one seed, small sizes, nothing kept")
    parser.add_argument("--tune", choices=[*DATA], help="only try the peers' settings")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_cores(arguments.threads)
    if arguments.child:
        folder, what, name, count = arguments.child
        print(json.dumps(child(folder, what, name, int(count))))
        return
    if arguments.tune:
        tune(arguments.tune, arguments.who)
        return
    chosen = [data for data in arguments.only if data != "large"]
    figures: dict[str, Any] = {"threads": cores(), "tuned": TUNED, "flatrank": FLATRANK}
    seeds = 1 if arguments.quick else arguments.seeds
    figures["races"] = races(chosen, arguments.who, seeds, arguments.quick)
    if "large" in arguments.only:
        figures["large"] = large(arguments.who, arguments.quick)
    if not arguments.quick and arguments.only == sets and arguments.who == [""]:
        keep("completion", figures)


if __name__ == "__main__":
    main()
