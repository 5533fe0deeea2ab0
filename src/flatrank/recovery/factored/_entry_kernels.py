"""The inner loops of `_entries`, compiled by Numba at their first call and kept on disk.

`lines` are where each line's entries begin, (lines + 1,), and their index along the other axis, (N,).
Kernels take lines begin to end, free Python's lock, and write to lines of their own, but for the sums
over the other axis of `add_normal`, which each part has an array for.
"""

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from ..._numba import compiled

# Columns of factors that are multiplied at once: float32 numbers in the widest registers there are.
LANES = 16
# Entries whose factors are gathered at once: they stay in the first cache.
_GATHERED = 64


@compiled
def add_inner_products(part, lines, own, other, found):  # type: ignore
    """found[e] += <own[line], other[others[e]]> for each entry."""
    begin, end = part
    first, others = lines
    k = own.shape[1]
    for line in range(begin, end):
        x = own[line]
        for e in range(first[line], first[line + 1]):
            y = other[others[e]]
            total = found[e]
            for a in range(k):
                total += x[a] * y[a]
            found[e] = total


@compiled
def weighted_sums(part, lines, weights, other, found):  # type: ignore
    """found[line] = sum over its entries of weights[places[e]] other[others[e]]."""
    begin, end = part
    first, others, places = lines
    k = other.shape[1]
    for line in range(begin, end):
        total = found[line]
        total[:] = 0
        for e in range(first[line], first[line + 1]):
            w = weights[places[e]]
            y = other[others[e]]
            for a in range(k):
                total[a] += w * y[a]


@compiled
def sums_of_squares(lines, own, other):  # type: ignore
    """The sum over all entries of (own[line, a] other[others[e], a])^2, for each column a."""
    first, others = lines
    k = own.shape[1]
    found = np.zeros(k)
    seen = np.empty(k)
    for line in range(len(first) - 1):
        seen[:] = 0
        for e in range(first[line], first[line + 1]):
            y = other[others[e]]
            for a in range(k):
                seen[a] += y[a] * y[a]
        for a in range(k):
            found[a] += own[line, a] * own[line, a] * seen[a]
    return found


@compiled
def inverse_grams(part, lines, other, ridge, slack, found):  # type: ignore
    """Inverses of sum y y^T + diag(ridge) over what each line's entries see of `other`.

    Scaled to a unit diagonal, with `slack` added to it; in the leading k x k of `found[line]`.
    """
    begin, end = part
    first, others = lines
    k = other.shape[1]
    gram, factor = np.empty((k, k)), np.empty((k, k))
    scale = np.empty(k)
    x = np.empty((k, _GATHERED))
    for line in range(begin, end):
        gram[:] = 0
        for start in range(first[line], first[line + 1], _GATHERED):
            count = min(_GATHERED, first[line + 1] - start)
            # Columns lie along the entries: sums over these are of whole vector registers.
            for e in range(count):
                y = other[others[start + e]]
                for a in range(k):
                    x[a, e] = y[a]
            for a in range(k):
                for b in range(a + 1):
                    total = 0.0
                    for e in range(count):
                        total += x[a, e] * x[b, e]
                    gram[a, b] += total
        for a in range(k):
            diagonal = gram[a, a] + ridge[a]
            scale[a] = 1 / np.sqrt(diagonal) if diagonal > 0 else 1.0
        for a in range(k):
            for b in range(a):
                gram[a, b] *= scale[a] * scale[b]
            gram[a, a] = 1 + slack
        for a in range(k):
            for b in range(a + 1):
                value = gram[a, b]
                for c in range(b):
                    value -= factor[a, c] * factor[b, c]
                if a == b:
                    factor[a, a] = np.sqrt(max(value, slack))
                else:
                    factor[a, b] = value / factor[b, b]
        # The factor's inverse, in place of the Gram matrix; then the product with its transpose.
        for a in range(k):
            for b in range(a):
                gram[a, b] = 0.0
            gram[a, a] = 1 / factor[a, a]
            for c in range(a):
                f = factor[a, c]
                for b in range(c + 1):
                    gram[a, b] -= f * gram[c, b]
            for b in range(a):
                gram[a, b] *= gram[a, a]
        inverse = found[line]
        for a in range(k):
            for b in range(k):
                inverse[a, b] = 0
        for c in range(k):
            for a in range(c + 1):
                f = gram[c, a] * scale[a]
                for b in range(c + 1):
                    inverse[a, b] += f * gram[c, b] * scale[b]


@compiled
def block_products(part, blocks, right, found):  # type: ignore
    """found[line] = blocks[line] right[line], blocks symmetric."""
    begin, end = part
    k = right.shape[1]
    for line in range(begin, end):
        total = found[line]
        total[:] = 0
        for b in range(k):
            f = right[line, b]
            row = blocks[line, b]
            for a in range(k):
                total[a] += f * row[a]


def _vector(builder, address):  # type: ignore
    """The LANES float32 numbers at an address."""
    pointer = builder.inttoptr(address, ir.VectorType(ir.FloatType(), LANES).as_pointer())
    loaded = builder.load(pointer)
    loaded.align = 4
    return loaded


@intrinsic
def _two_products(typingctx, a, x, b, y):  # type: ignore
    """<a, x> + <b, y> of LANES numbers each. LLVM does not unroll loops so short (4 GFLOPS)."""

    def generate(context, builder, signature, arguments):  # type: ignore
        a, x, b, y = (_vector(builder, address) for address in arguments)
        total = builder.fadd(
            builder.fmul(a, x, flags=("fast",)),
            builder.fmul(b, y, flags=("fast",)),
            flags=("fast",),
        )
        real = ir.FloatType()
        name = f"llvm.vector.reduce.fadd.v{LANES}f32"
        kind = ir.FunctionType(real, [real, total.type])
        add = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(add, [ir.Constant(real, 0.0), total], fastmath=("fast",))

    places = (numba.types.intp,) * 4
    return numba.types.float32(*places), generate


@intrinsic
def _add_multiples(typingctx, a, x, b, y, factor):  # type: ignore
    """a += factor x and b += factor y, LANES numbers each."""

    def generate(context, builder, signature, arguments):  # type: ignore
        a, x, b, y, factor = arguments
        kind = ir.VectorType(ir.FloatType(), LANES)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        undefined = ir.Constant(kind, ir.Undefined)
        one = builder.insert_element(undefined, factor, ir.Constant(ir.IntType(32), 0))
        all_lanes = builder.shuffle_vector(one, undefined, zeros)
        for target, source in ((a, x), (b, y)):
            multiple = builder.fmul(all_lanes, _vector(builder, source), flags=("fast",))
            new = builder.fadd(_vector(builder, target), multiple, flags=("fast",))
            stored = builder.store(new, builder.inttoptr(target, kind.as_pointer()))
            stored.align = 4
        return context.get_dummy_value()

    places = (numba.types.intp,) * 4
    return numba.types.void(*places, numba.types.float32), generate


@compiled
def add_normal(part, lines, factors, own_found, other_found):  # type: ignore
    """J^T J times a step, one entry after the other: read once, for both sides.

    float32, columns padded to a multiple of LANES. `factors`: the rows' factor and their step, and the
    columns' factor with their step beside it, (n, 2 k). `own_found` (m, k) is written, `other_found`
    (n, k) added to.
    """
    begin, end = part
    first, others = lines
    own, own_step, seen = factors
    k = own.shape[1]
    row = 4 * k
    own_at, step_at, seen_at = own.ctypes.data, own_step.ctypes.data, seen.ctypes.data
    own_found_at, other_found_at = own_found.ctypes.data, other_found.ctypes.data
    for line in range(begin, end):
        p, d, s = own_at + line * row, step_at + line * row, own_found_at + line * row
        own_found[line] = 0
        for e in range(first[line], first[line + 1]):
            b = others[e]
            q, o = seen_at + 2 * b * row, other_found_at + b * row
            value = np.float32(0)
            for at in range(0, row, 4 * LANES):
                value += _two_products(d + at, q + at, p + at, q + row + at)
            for at in range(0, row, 4 * LANES):
                _add_multiples(s + at, q + at, o + at, p + at, value)
