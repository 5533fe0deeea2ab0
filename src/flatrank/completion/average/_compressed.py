"""Observed entries one line after the other, and a draw of every line in `machine_code`: for CPUs.

The same draw as `posterior` has for accelerators. XLA on a CPU multiplies many small matrices at a
fraction of a core's speed, and wants padding and a compilation for every shape of table.
"""

import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

# Parts for each thread, so that unequal ones end together.
_PARTS = 4
# About so many lines' products are kept at once: they fit a cache.
_MOST_LINES = 512


class CompressedLines(NamedTuple):
    """Line i has the entries first[i] to first[i + 1], in compressed sparse order."""

    first: Int[np.ndarray, " lines1"]
    others: Int[np.ndarray, " entries"]
    values: Float[np.ndarray, " entries"]

    def degrees(self) -> Float[np.ndarray, " lines"]:
        """The number of each line's entries."""
        return np.diff(self.first).astype(float)


def compressible() -> bool:
    """Whether machine code can be made here: Numba knows this Python."""
    return importlib.util.find_spec("numba") is not None


def compressed_lines(
    lines: Int[np.ndarray, " entries"],
    others: Int[np.ndarray, " entries"],
    values: Float[np.ndarray, " entries"],
    count: int,
) -> CompressedLines:
    """Entries (lines_i, others_i) of `count` lines, in float32."""
    from ._machine_code import sort_by_line

    # Copies, of one type: machine code is made anew for arrays of other types or that are read-only.
    entries = np.array(lines, np.int32), np.array(others, np.int32), np.array(values, np.float32)
    first = np.concatenate([[0], np.cumsum(np.bincount(lines, minlength=count))])
    by_line = np.empty(len(lines), np.int32), np.empty(len(lines), np.float32)
    sort_by_line(*entries, first[:-1].copy(), *by_line)
    return CompressedLines(first, *by_line)


def draw_compressed(
    lines: CompressedLines,
    other: Float[np.ndarray, "n q"],
    own: Float[np.ndarray, "m q"],
    mean: Float[np.ndarray, " q"],
    precision: Float[np.ndarray, "q q"],
    noise: tuple[Float[np.ndarray, " m"], Float[np.ndarray, " n"]],
    biased: bool,
    over: float,
    normal: Float[np.ndarray, "m q"],
) -> tuple[Float[np.ndarray, "m q"], Float[np.ndarray, "m q"], Float[np.ndarray, " m"]]:
    """What `posterior.draw_lines` says; sums over entries in float32, the rest in float64."""
    from ._machine_code import add_grams, draw_some_lines

    n, q = other.shape
    # Features and, in the place q, what is taken off the target, times the root of the noise's
    # precision; tiles are four wide.
    root = np.sqrt(noise[1], dtype=np.float32)
    seen = np.zeros((n, -(-(q + 1) // 4) * 4), np.float32)
    seen[:, : q - 1] = root[:, None] * other[:, :-1]
    seen[:, q - 1] = root * biased
    seen[:, q] = -root * other[:, -1]
    means, draws = np.empty_like(own), np.empty_like(own)
    squares = np.empty(len(own), np.float32)
    precision = precision.astype(float)
    push = precision @ mean

    def draw_part(begin: int, end: int) -> None:
        grams = np.zeros((end - begin, seen.shape[1], seen.shape[1]))
        add_grams(begin, end, *lines, seen, root, q, grams)
        draw_some_lines(
            begin, end, grams, own, noise[0], push, precision, over, normal, means, draws, squares
        )

    _in_parts(draw_part, lines.first)
    if not biased:
        means[:, -1] = draws[:, -1] = 0
    return means, draws, squares


def _in_parts(work: Callable[[int, int], None], first: Int[np.ndarray, " lines1"]) -> None:
    """work(begin, end) for parts of all lines with about as many entries each, on all cores."""
    threads = _cores()
    # A line costs something without entries too.
    cost = first + 32 * np.arange(len(first))
    parts = max(_PARTS * threads, len(first) // _MOST_LINES)
    cuts = np.unique(np.searchsorted(cost, np.linspace(0, cost[-1], parts + 1)))
    left = iter(list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)))

    def work_on() -> None:
        for begin, end in left:
            work(begin, end)

    # This thread takes its share: waking another for all of it would take as long as a small table.
    with ThreadPoolExecutor(max(threads - 1, 1)) as pool:
        others = [pool.submit(work_on) for _ in range(threads - 1)]
        work_on()
        for other in others:
            other.result()


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
