"""How often `recover` finds a matrix from some of its entries: rates over two planes, as pictures.

    python benchmarks/success_maps.py                  # one core; time is mostly compilation
    python benchmarks/success_maps.py --trials 20      # smoother; 5 unless told otherwise
    python benchmarks/success_maps.py --draw FILE      # the pictures again, from results/FILE

A trial succeeds when the relative Frobenius error of the matrix is at most 1e-6. Every depth and
penalty gets the same matrices and masks. `recover` compiles once per number of entries (7 to 11
seconds a depth and penalty); the grid of oversamplings is geometric, and such that the ranks share
most of their numbers of entries.
"""

import argparse
import json
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from measure import keep, table, use_one_core

SIDE = 24
RANKS = (1, 2, 4)  # r(2 SIDE - r) nearly doubles from one to the next, and so does STEP**3
FIXED_RANK = 4
CONDITIONS = (1, 100, 10**4)
FIRST, STEP, COLUMNS = 1.1, 1.25, 6  # oversampling: FIRST * STEP**column
OVERSAMPLING = FIRST * STEP ** np.arange(COLUMNS)
DEPTHS = (2, 3, 4)
PENALTIES = {"Flatness": "Flatness", "WeightDecay": "Weight decay"}
METHODS = [(penalty, depth) for penalty in PENALTIES for depth in DEPTHS]
ACCURACY = 1e-6
OUTER_STEPS, INNER_STEPS = 30, 100
MOST_DRAWS = 3000
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def entries(rank: int, column: int) -> int:
    """The number of entries of a cell; its oversampling is the nominal one to within 1%."""
    first = FIRST * RANKS[0] * (2 * SIDE - RANKS[0])
    return round(first * STEP ** (3 * RANKS.index(rank) + column))


def matrix(rank: int, condition: float, generator: np.random.Generator) -> np.ndarray:
    """Haar singular vectors, log-spaced singular values from 1 down to 1 / condition."""
    left, right = (np.linalg.qr(generator.standard_normal((SIDE, rank)))[0] for _ in range(2))
    return (left * np.geomspace(1, 1 / condition, rank)) @ right.T


def mask(count: int, least: int, generator: np.random.Generator) -> np.ndarray | None:
    """Rows and columns of uniform entries, `least` or more in every line; None: never drawn."""
    for _ in range(MOST_DRAWS if count <= SIDE * SIDE else 0):
        at = np.stack(divmod(generator.choice(SIDE * SIDE, count, replace=False), SIDE))
        if all(np.bincount(lines, minlength=SIDE).min() >= least for lines in at):
            return at
    return None


@cache
def compiled(penalty: str, depth: int) -> Any:
    """One program for each number of entries: values that change are traced, not compiled in."""
    import jax

    import flatrank as fr
    from flatrank.recovery import Auto, Lagrangian

    @jax.jit
    def solve(rows, columns, y):
        solution = fr.recover(
            fr.EntryMeasurements(rows, columns, (SIDE, SIDE)),
            y,
            depth,
            getattr(fr, penalty)(),
            method=Auto(lagrangian=Lagrangian(OUTER_STEPS, INNER_STEPS)),
        )
        return solution.matrix, solution.successful

    return solve


def attempt(trial: int, rank: int, column: int, condition: float) -> dict[tuple, dict[str, Any]]:
    """One matrix and one mask, by every penalty and depth; nothing where no mask was found."""
    generator = np.random.default_rng([trial, rank, column])
    truth = matrix(rank, condition, generator)
    at = mask(entries(rank, column), rank, generator)
    found = {}
    for penalty, depth in METHODS if at is not None else ():
        X, successful = compiled(penalty, depth)(*at, truth[tuple(at)])
        error = np.linalg.norm(X - truth) / np.linalg.norm(truth)
        found[penalty, depth] = {"error": float(f"{error:.2e}"), "claimed": bool(successful)}
    return found


def run(trials: int) -> dict[str, Any]:
    """All trials, one number of entries after the other; condition 1 belongs to both planes."""
    import jax

    planes = [(rank, 1) for rank in RANKS] + [(FIXED_RANK, c) for c in CONDITIONS[1:]]
    cells = {
        (*method, rank, condition, column): {
            "penalty": method[0],
            "depth": method[1],
            "rank": rank,
            "condition": condition,
            "column": column,
            "entries": entries(rank, column),
            "error": [],
            "claimed": [],
        }
        for rank, condition in planes
        for column in range(COLUMNS)
        for method in METHODS
    }
    figures: dict[str, Any] = {"side": SIDE, "trials": trials, "cells": list(cells.values())}
    counts = sorted({cell["entries"] for cell in figures["cells"]})
    begin = time.perf_counter()
    for count in counts:
        for rank, condition in planes:
            for column in (c for c in range(COLUMNS) if entries(rank, c) == count):
                for trial in range(trials):
                    for method, one in attempt(trial, rank, column, condition).items():
                        for name, value in one.items():
                            cells[*method, rank, condition, column][name].append(value)
        seconds = round(time.perf_counter() - begin)
        print(f"{count} entries: {seconds} s so far", file=sys.stderr)
        keep("success", {**figures, "seconds": seconds})
        # Programs of all numbers of entries at once exceed the memory maps that Linux allows.
        compiled.cache_clear()
        jax.clear_caches()
    return figures


def rates(figures: dict[str, Any], method: tuple, **fixed: Any) -> np.ndarray:
    """The rates of one method by value and column, NaN where no mask was found."""
    name, values = ("condition", CONDITIONS) if "rank" in fixed else ("rank", RANKS)
    plane = np.full((len(values), COLUMNS), np.nan)
    for cell in figures["cells"]:
        mine = all(cell[key] == value for key, value in fixed.items())
        if mine and (cell["penalty"], cell["depth"]) == method and cell["error"]:
            rate = np.mean(np.array(cell["error"]) <= ACCURACY)
            plane[values.index(cell[name]), cell["column"]] = rate
    return plane


def draw(figures: dict[str, Any]) -> None:
    """Both pictures, the rates in words, and who claimed success without it."""
    powers = ["1", *(f"$10^{round(np.log10(c))}$" for c in CONDITIONS[1:])]
    ranks = {method: rates(figures, method, condition=1) for method in METHODS}
    conditions = {method: rates(figures, method, rank=FIXED_RANK) for method in METHODS}
    size = f"Missing entries of {SIDE} x {SIDE} matrices"
    trials = f"{figures['trials']} trials a cell"
    picture(
        ranks, "rank", [str(rank) for rank in RANKS], f"{size}, equal singular values, {trials}"
    ).savefig(PICTURES / "success-rank.png", dpi=110)
    picture(
        conditions, "condition number", powers, f"{size} of rank {FIXED_RANK}, {trials}"
    ).savefig(PICTURES / "success-condition.png", dpi=110)
    for name, values, planes in (("rank", RANKS, ranks), ("condition", CONDITIONS, conditions)):
        head = [name, *(f"{x:.1f}" for x in OVERSAMPLING)]
        for method, plane in planes.items():
            lines = [[f"{x:.2f}" for x in line] for line in plane]
            rows = [[str(value), *line] for value, line in zip(values, lines, strict=True)]
            print("\n{}, depth {}\n".format(*method))
            print(table(head, rows))
    for method in METHODS:
        failed = [
            claimed
            for cell in figures["cells"]
            if (cell["penalty"], cell["depth"]) == method
            for error, claimed in zip(cell["error"], cell["claimed"], strict=True)
            if not error <= ACCURACY
        ]
        claims = f"{sum(failed)} of {len(failed)} failures called a success"
        print("\n{}, depth {}:".format(*method), claims)


def picture(planes: dict[tuple, np.ndarray], label: str, ticks: list[str], title: str) -> Any:
    """Penalties down, depths across, one colour bar; a cell without a mask is grey."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 2.6 + 0.62 * len(ticks)), layout="constrained")
    axes = figure.subplots(len(PENALTIES), len(DEPTHS), sharex=True, sharey=True)
    for axis, ((penalty, depth), plane) in zip(axes.flat, planes.items(), strict=True):
        axis.set_facecolor("#d8d8d8")
        image = axis.imshow(plane, vmin=0, vmax=1, cmap="viridis", origin="lower", aspect="auto")
        axis.set_title(f"{PENALTIES[penalty]}, depth {depth}")
        axis.set_xticks(range(COLUMNS), [f"{x:.1f}" for x in OVERSAMPLING])
        axis.set_yticks(range(len(ticks)), ticks)
        for (i, j), value in np.ndenumerate(plane):
            if np.isfinite(value):
                colour = "black" if value > 0.6 else "white"
                axis.text(j, i, f"{value:.2g}", ha="center", va="center", fontsize=8, color=colour)
    for axis in axes[:, 0]:
        axis.set_ylabel(label)
    for axis in axes[-1]:
        axis.set_xlabel("oversampling N / (r(m + n - r))")
    figure.colorbar(image, ax=axes, label="success rate", shrink=0.8)
    figure.suptitle(title, fontsize=13)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--draw", type=Path, help="results to draw; nothing is computed")
    arguments = parser.parse_args()
    if arguments.draw:
        draw(json.loads(arguments.draw.read_text()))
        return
    use_one_core()
    import jax

    jax.config.update("jax_enable_x64", True)
    draw(run(arguments.trials))


if __name__ == "__main__":
    main()
