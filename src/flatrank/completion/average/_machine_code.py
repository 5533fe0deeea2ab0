"""The inner loops of `_compressed`, compiled by Numba at their first call and kept on disk.

One compilation for all tables, a second or so. They free Python's lock: threads share the lines.
"""

from typing import Any, NamedTuple

import numpy as np

from ..._numba import compiled

# Entries that are gathered at once: with their features they stay in the first cache.
_GATHERED = 256
# The least that a pivot keeps of its diagonal entry: what float32 sums can tell from zero.
_LEAST_PIVOT = 1e-7


class Features(NamedTuple):
    """What lines see of each of n others: `seen` (n, padded), with the target's offset in a place."""

    seen: Any
    root: Any
    target: int


class Conditional(NamedTuple):
    """The lines' last draws, noise levels, prior (precision times mean; precision), over, normals."""

    own: Any
    level: Any
    push: Any
    precision: Any
    over: float
    normal: Any


@compiled
def sort_by_line(entries, next_place, by_line):  # type: ignore
    """Counting sort of (lines, others, values) to (others, values): stable, one pass."""
    lines, others, values = entries
    others_by_line, values_by_line = by_line
    for e in range(len(lines)):
        place = next_place[lines[e]]
        next_place[lines[e]] = place + 1
        others_by_line[place] = others[e]
        values_by_line[place] = values[e]


@compiled
def add_grams(part, lines, features, grams):  # type: ignore
    """Sums of products of everything seen of an entry, lines begin to end: lower triangles."""
    begin, end = part
    first, others, values = lines
    seen, root, target = features
    padded = seen.shape[1]
    # Features lie along the entries: sums over these are of whole vector registers.
    x = np.empty((padded, _GATHERED), np.float32)
    for line in range(begin, end):
        gram = grams[line - begin]
        for start in range(first[line], first[line + 1], _GATHERED):
            count = min(_GATHERED, first[line + 1] - start)
            for e in range(count):
                b = others[start + e]
                for p in range(padded):
                    x[p, e] = seen[b, p]
                x[target, e] += root[b] * values[start + e]
            # Tiles of four by four, whose sums stay in registers.
            for i in range(0, padded, 4):
                for j in range(0, i + 1, 4):
                    s00 = s01 = s02 = s03 = np.float32(0)
                    s10 = s11 = s12 = s13 = np.float32(0)
                    s20 = s21 = s22 = s23 = np.float32(0)
                    s30 = s31 = s32 = s33 = np.float32(0)
                    for e in range(count):
                        a0, a1, a2, a3 = x[i, e], x[i + 1, e], x[i + 2, e], x[i + 3, e]
                        b0, b1, b2, b3 = x[j, e], x[j + 1, e], x[j + 2, e], x[j + 3, e]
                        s00 += a0 * b0
                        s01 += a0 * b1
                        s02 += a0 * b2
                        s03 += a0 * b3
                        s10 += a1 * b0
                        s11 += a1 * b1
                        s12 += a1 * b2
                        s13 += a1 * b3
                        s20 += a2 * b0
                        s21 += a2 * b1
                        s22 += a2 * b2
                        s23 += a2 * b3
                        s30 += a3 * b0
                        s31 += a3 * b1
                        s32 += a3 * b2
                        s33 += a3 * b3
                    gram[i, j] += s00
                    gram[i, j + 1] += s01
                    gram[i, j + 2] += s02
                    gram[i, j + 3] += s03
                    gram[i + 1, j] += s10
                    gram[i + 1, j + 1] += s11
                    gram[i + 1, j + 2] += s12
                    gram[i + 1, j + 3] += s13
                    gram[i + 2, j] += s20
                    gram[i + 2, j + 1] += s21
                    gram[i + 2, j + 2] += s22
                    gram[i + 2, j + 3] += s23
                    gram[i + 3, j] += s30
                    gram[i + 3, j + 1] += s31
                    gram[i + 3, j + 2] += s32
                    gram[i + 3, j + 3] += s33


@compiled
def draw_some_lines(part, grams, conditional, found):  # type: ignore
    """Lines begin to end of `draw_compressed`, given their sums of products."""
    begin, end = part
    own, level, push, precision, over, normal = conditional
    means, draws, squares = found
    q = own.shape[1]
    # The system's lower triangle, and its right side as one row more.
    factor = np.empty((q + 1, q))
    column, solved, noisy = np.empty(q + 1), np.empty(q), np.empty(q)
    left = np.sqrt(1 - over**2)
    for line in range(begin, end):
        gram, certainty = grams[line - begin], level[line]
        for i in range(q):
            for j in range(i + 1):
                factor[i, j] = certainty * gram[i, j] + precision[i, j]
            factor[q, i] = certainty * gram[q, i] + push[i]
        # Cholesky; it leaves in the last row the solution of L half = right side.
        for k in range(q):
            smallest = _LEAST_PIVOT * (certainty * gram[k, k] + precision[k, k])
            inverse = 1 / np.sqrt(max(factor[k, k], smallest))
            factor[k, k] = inverse
            for i in range(k + 1, q + 1):
                factor[i, k] *= inverse
                column[i] = factor[i, k]
            for i in range(k + 1, q + 1):
                for j in range(k + 1, min(i + 1, q)):
                    factor[i, j] -= column[i] * column[j]
        for i in range(q):
            solved[i] = factor[q, i]
            noisy[i] = left * normal[line, i]
        for k in range(q - 1, -1, -1):
            s, t = solved[k] * factor[k, k], noisy[k] * factor[k, k]
            for i in range(k):
                solved[i] -= factor[k, i] * s
                noisy[i] -= factor[k, i] * t
            means[line, k] = s
            draws[line, k] = s + t - over * (own[line, k] - s)
        square = gram[q, q]
        for i in range(q):
            s = gram[i, i] * draws[line, i] - 2 * gram[q, i]
            for j in range(i):
                s += 2 * gram[i, j] * draws[line, j]
            square += draws[line, i] * s
        squares[line] = max(square, 0.0)
