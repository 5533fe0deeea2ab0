"""Functions of arrays in machine code by Numba; imported only where machine code is made."""

import inspect
from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable) -> Any:
    """Machine code for a function of arrays and numbers, made at its first call and kept on disk.

    It frees Python's lock, and sums in any order: as many numbers at a time as a vector register holds.
    Division by zero gives infinity, as in NumPy.
    """
    # Type checkers of tests wrap functions, which Numba cannot read.
    function = inspect.unwrap(function)
    settings: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"contract", "reassoc", "nsz"},
    }
    try:
        return numba.njit(cache=True, **settings)(function)
    except RuntimeError:  # no folder to keep machine code in
        return numba.njit(**settings)(function)
