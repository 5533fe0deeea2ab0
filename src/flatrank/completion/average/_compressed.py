"""Observed entries one line after the other, and a draw of every line in machine code: for CPUs.

The same draw as `_bucketed` has for accelerators. XLA on a CPU multiplies many small matrices at a
fraction of a core's speed, and wants padding and a compilation for every shape of table.
"""

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ..._threads import cores, share
from ...entries import Entries
from ._given import Given, LineDraws

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
    entries: Entries, values: Float[np.ndarray, " N"], used: Bool[np.ndarray, " N"], *, axis: int
) -> CompressedLines:
    """The used entries by rows (`axis` 0) or columns (1), in float32."""
    from ._machine_code import sort_by_line

    sides = (entries.rows, entries.columns)
    lines, others, count = sides[axis], sides[1 - axis], entries.shape[axis]
    if not used.all():
        lines, others, values = lines[used], others[used], values[used]

    # Copies, of one type: machine code is made anew for arrays of other types or that are read-only.
    given = np.array(lines, np.int32), np.array(others, np.int32), np.array(values, np.float32)
    first = np.concatenate([[0], np.cumsum(np.bincount(lines, minlength=count))])
    by_line = np.empty(len(lines), np.int32), np.empty(len(lines), np.float32)
    sort_by_line(given, first[:-1].copy(), by_line)
    return CompressedLines(first, *by_line)


def draw_compressed(
    lines: CompressedLines, given: Given, *, biased: bool, over: float
) -> LineDraws:
    """See `draw_lines`; sums over entries in float32, the rest in float64."""
    from ._machine_code import Conditional, Features, add_grams, draw_some_lines

    n, q = given.other.shape
    # Features and, in the place q, what is taken off the target, times the root of the noise's
    # precision; tiles are four wide.
    root = np.sqrt(given.other_noise, dtype=np.float32)
    seen = np.zeros((n, -(-(q + 1) // 4) * 4), np.float32)
    seen[:, : q - 1] = root[:, None] * given.other[:, :-1]
    seen[:, q - 1] = root * biased
    seen[:, q] = -root * given.other[:, -1]
    own = given.own
    found = LineDraws(np.empty_like(own), np.empty_like(own), np.empty(len(own), np.float32))
    precision = given.precision.astype(float)
    features = Features(seen, root, q)
    conditional = Conditional(
        own, given.own_noise, precision @ given.mean, precision, over, given.normal
    )

    def draw_part(begin: int, end: int) -> None:
        grams = np.zeros((end - begin, seen.shape[1], seen.shape[1]))
        add_grams((begin, end), lines, features, grams)
        draw_some_lines((begin, end), grams, conditional, found)

    _in_parts(draw_part, lines.first)
    if not biased:
        found.means[:, -1] = found.draws[:, -1] = 0
    return found


def _in_parts(work: Callable[[int, int], None], first: Int[np.ndarray, " lines1"]) -> None:
    """work(begin, end) for parts of all lines with about as many entries each, on all cores."""
    threads = cores()
    # A line costs something without entries too.
    cost = first + 32 * np.arange(len(first))
    parts = max(_PARTS * threads, len(first) // _MOST_LINES)
    cuts = np.unique(np.searchsorted(cost, np.linspace(0, cost[-1], parts + 1)))
    with ThreadPoolExecutor(max(threads - 1, 1)) as pool:
        ends = zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        share(lambda part: work(*part), ends, pool, threads - 1)
