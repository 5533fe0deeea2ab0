"""The one-pass products of `_one_pass` as XLA's foreign functions, in machine code by Numba.

XLA reads a matrix twice for a loss and its gradient, once for A w and once for r A. These loops use
each row twice while it is in the first or second cache, so that memory, which is what such products
wait for, delivers it once. Rows that are taken together are far apart, each the next of its part of the
matrix: the processor fetches ahead along each part without a break (rows that follow each other took
10% longer for the measurements and 30 to 50% for the tensor; one row at a time is slower in float64).

Kernels allocate nothing and share nothing: any number of threads may run them.

A handler gets the address of XLA's call frame and returns the address of an error, here always 0.
`_foreign` makes sure that the layout below is that of this jaxlib. Kernels and handlers share a file
because Numba keeps machine code by the file's time stamp.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import cgutils
from numba.extending import intrinsic

from .._numba import compiled

# Version 0.3 of XLA's foreign function interface. Sizes in bytes of its structs on 64 bits, and places
# of their fields in words of 8 bytes: frame {size, extension, api, context, stage, arguments {size,
# extension, count, types, buffers}, results {the same}, ...}, buffer {size, extension, type, data,
# rank, lengths}, extension {size, type, next, metadata {size, version {size, extension, major, minor},
# traits}}.
_VERSION = 0, 3
_FRAME, _LIST, _BUFFER, _EXTENSION, _METADATA = 168, 40, 48, 32, 36
_FLOAT32, _FLOAT64 = 11, 12
_METADATA_EXTENSION, _EXECUTE = 1, 3


def handler(function: Callable) -> Any:
    """The address (`.address`, `.ctypes`) of a function of a call frame, compiled or from disk."""
    signature, function = numba.types.intp(numba.types.intp), inspect.unwrap(function)
    try:
        return numba.cfunc(signature, cache=True, error_model="numpy")(function)
    except RuntimeError:
        return numba.cfunc(signature, error_model="numpy")(function)


@compiled
def add_squares(A, w, y, gradient):  # type: ignore
    """||A w - y||^2, and (A w - y) A in `gradient`: six rows at a time."""
    zero = w.dtype.type(0)
    rows, columns = A.shape
    total = 0.0
    gradient[:] = zero
    part = rows // 6
    for i in range(part):
        i1, i2, i3, i4, i5 = i + part, i + 2 * part, i + 3 * part, i + 4 * part, i + 5 * part
        a0, a1, a2, a3, a4, a5 = A[i], A[i1], A[i2], A[i3], A[i4], A[i5]
        r0 = r1 = r2 = r3 = r4 = r5 = zero
        for j in range(columns):
            x = w[j]
            r0 += a0[j] * x
            r1 += a1[j] * x
            r2 += a2[j] * x
            r3 += a3[j] * x
            r4 += a4[j] * x
            r5 += a5[j] * x
        r0 -= y[i]
        r1 -= y[i1]
        r2 -= y[i2]
        r3 -= y[i3]
        r4 -= y[i4]
        r5 -= y[i5]
        total += r0 * r0 + r1 * r1 + r2 * r2 + r3 * r3 + r4 * r4 + r5 * r5
        for j in range(columns):
            gradient[j] += (
                r0 * a0[j] + r1 * a1[j] + r2 * a2[j] + r3 * a3[j] + r4 * a4[j] + r5 * a5[j]
            )
    for i in range(6 * part, rows):
        a0, r0 = A[i], zero
        for j in range(columns):
            r0 += a0[j] * w[j]
        r0 -= y[i]
        total += r0 * r0
        for j in range(columns):
            gradient[j] += r0 * a0[j]
    return total


@compiled
def multiply_both_sides(T, left, right, by_row, by_column):  # type: ignore
    """by_row = right T^T (K, I) and by_column = left T (K, J): four rows of T at a time."""
    zero = T.dtype.type(0)
    rows, columns = T.shape
    pairs = left.shape[0]
    by_column[:] = zero
    part = rows // 4
    for i in range(part):
        i1, i2, i3 = i + part, i + 2 * part, i + 3 * part
        t0, t1, t2, t3 = T[i], T[i1], T[i2], T[i3]
        for k in range(pairs):
            x, v = right[k], by_column[k]
            l0, l1, l2, l3 = left[k, i], left[k, i1], left[k, i2], left[k, i3]
            s0 = s1 = s2 = s3 = zero
            for j in range(columns):
                s0 += t0[j] * x[j]
                s1 += t1[j] * x[j]
                s2 += t2[j] * x[j]
                s3 += t3[j] * x[j]
                v[j] += l0 * t0[j] + l1 * t1[j] + l2 * t2[j] + l3 * t3[j]
            by_row[k, i] = s0
            by_row[k, i1] = s1
            by_row[k, i2] = s2
            by_row[k, i3] = s3
    for i in range(4 * part, rows):
        t0 = T[i]
        for k in range(pairs):
            x, v = right[k], by_column[k]
            l0, s0 = left[k, i], zero
            for j in range(columns):
                s0 += t0[j] * x[j]
                v[j] += l0 * t0[j]
            by_row[k, i] = s0


@intrinsic
def _at(typingctx, address):  # type: ignore
    """The pointer to an address."""

    def generate(context, builder, signature, arguments):  # type: ignore
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return numba.types.voidptr(numba.types.intp), generate


@compiled
def _words(address, count):  # type: ignore
    return numba.carray(_at(address), (count,), np.int64)


@compiled
def _half(address):  # type: ignore
    """The four bytes at an address."""
    return numba.carray(_at(address), (1,), np.int32)[0]


@compiled
def _answered(frame):  # type: ignore
    """Whether XLA asked for the version of this interface, which it does once; then it is told."""
    extension = _words(frame, 2)[1]
    if extension == 0:
        return False
    if _words(extension, 1)[0] >= _EXTENSION and _half(extension + 8) == _METADATA_EXTENSION:
        metadata = _words(extension, 4)[3]
        if _words(metadata, 1)[0] >= _METADATA:
            fields = numba.carray(_at(metadata + 24), (3,), np.int32)
            fields[0], fields[1], fields[2] = _VERSION[0], _VERSION[1], 0
        return True
    return False


@compiled
def _sound(frame, arguments, results, kind):  # type: ignore
    """Whether a frame is laid out as this file believes, with so many buffers of one type."""
    words = _words(frame, 15)
    if words[0] != _FRAME or words[5] != _LIST or words[10] != _LIST:
        return False
    if _half(frame + 32) != _EXECUTE or words[7] != arguments or words[12] != results:
        return False
    for k in range(arguments + results):
        place = words[9] + 8 * k if k < arguments else words[14] + 8 * (k - arguments)
        buffer = _words(place, 1)[0]
        if _words(buffer, 1)[0] != _BUFFER or _half(buffer + 16) != kind:
            return False
    return True


@compiled
def _argument(frame, k):  # type: ignore
    """The fields of a frame's k-th argument."""
    return _words(_words(_words(frame, 15)[9] + 8 * k, 1)[0], 6)


@compiled
def _result(frame, k):  # type: ignore
    """The fields of a frame's k-th result."""
    return _words(_words(_words(frame, 15)[14] + 8 * k, 1)[0], 6)


@compiled
def _vector(buffer, dtype):  # type: ignore
    return numba.carray(_at(buffer[3]), (_words(buffer[5], 1)[0],), dtype)


@compiled
def _matrix(buffer, dtype):  # type: ignore
    lengths = _words(buffer[5], 2)
    return numba.carray(_at(buffer[3]), (lengths[0], lengths[1]), dtype)


@compiled
def _squares(frame, dtype, kind):  # type: ignore
    """`add_squares` of a frame's A, w and y into its (1,) total and its gradient."""
    if not _answered(frame) and _sound(frame, 3, 2, kind):
        total = _vector(_result(frame, 0), dtype)
        total[0] = add_squares(
            _matrix(_argument(frame, 0), dtype),
            _vector(_argument(frame, 1), dtype),
            _vector(_argument(frame, 2), dtype),
            _vector(_result(frame, 1), dtype),
        )
    return 0


@compiled
def _both_sides(frame, dtype, kind):  # type: ignore
    """`multiply_both_sides` of a frame's arguments into its results."""
    if not _answered(frame) and _sound(frame, 3, 2, kind):
        multiply_both_sides(
            _matrix(_argument(frame, 0), dtype),
            _matrix(_argument(frame, 1), dtype),
            _matrix(_argument(frame, 2), dtype),
            _matrix(_result(frame, 0), dtype),
            _matrix(_result(frame, 1), dtype),
        )
    return 0


def squares_float32(frame):  # type: ignore
    """Handler: A, w, y -> ||A w - y||^2, (A w - y) A."""
    return _squares(frame, np.float32, _FLOAT32)


def squares_float64(frame):  # type: ignore
    """Handler: A, w, y -> ||A w - y||^2, (A w - y) A."""
    return _squares(frame, np.float64, _FLOAT64)


def both_sides_float32(frame):  # type: ignore
    """Handler: T, left, right -> right T^T, left T."""
    return _both_sides(frame, np.float32, _FLOAT32)


def both_sides_float64(frame):  # type: ignore
    """Handler: T, left, right -> right T^T, left T."""
    return _both_sides(frame, np.float64, _FLOAT64)
