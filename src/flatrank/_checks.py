"""What bad input looks like: one sentence naming the argument, what was found and the remedy."""

import operator
import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import jax
import numpy as np


def is_traced(*values: Any) -> bool:
    """Whether any leaf is being traced, so that its values cannot be looked at."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def as_numbers(value: Any, name: str) -> Any:
    """An array of real numbers, NumPy's or JAX's; or a sentence about why it cannot be one."""
    array = value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(f"`{name}` has masked values: remove them, or fill them by `.filled(...)`.")
    if not isinstance(value, jax.Array):
        try:
            array = np.asarray(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"`{name}` is a {type(value).__name__} that is no array: pass numbers, in rows of "
                "the same length."
            ) from None
        if array.ndim == 0 and array.dtype.kind not in "fiubc":
            raise TypeError(
                f"`{name}` must be an array of numbers, found {found(value)}: pass numbers."
            )
        if array.dtype.kind not in "fiubc":
            raise TypeError(
                f"`{name}` has data type {array.dtype}; flatrank works on real numbers: "
                f"convert it with `numpy.asarray({name}, dtype=float)`."
            )
    elif _is_key(array):
        raise TypeError(f"`{name}` must be an array of numbers, found a random key: pass numbers.")
    if jax.numpy.issubdtype(array.dtype, jax.numpy.complexfloating):
        raise TypeError(
            f"`{name}` is complex ({array.dtype}); flatrank works on real matrices: "
            "pass the real and the imaginary part as separate problems."
        )
    if isinstance(array, np.ndarray) and not (array.dtype.isnative and array.dtype.itemsize <= 8):
        # As read from files of other machines; JAX has no such types.
        array = array.astype(f"={array.dtype.kind}{min(array.dtype.itemsize, 8)}")
    return array


def _is_key(value: Any) -> bool:
    """Whether a value is an array of random keys, which has no numbers."""
    return isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.extended)


def as_array(value: Any, name: str) -> jax.Array:
    """A JAX array of real numbers, or a sentence about why the argument cannot be one."""
    return jax.numpy.asarray(as_numbers(value, name))


def as_floating(value: Any, name: str, ndim: int) -> jax.Array:
    """A floating-point array of `ndim` axes; its values are not looked at."""
    array = as_array(value, name)
    if array.ndim != ndim:
        raise ValueError(
            f"`{name}` must have {ndim} axes, found {array.ndim} (shape {array.shape}): reshape it."
        )
    if not jax.numpy.issubdtype(array.dtype, jax.numpy.floating):
        array = array.astype(float)
    return array


def as_real(value: Any, name: str, ndim: int) -> jax.Array:
    """A finite floating-point array of `ndim` axes. Values of traced arrays are not checked."""
    array = as_floating(value, name, ndim)
    if not is_traced(array):
        # A constant can be looked at inside `jit`, but only outside of its trace.
        with jax.ensure_compile_time_eval():
            here, numpy = _looked_at(value, array)
            bad = int(numpy.sum(~numpy.isfinite(here)))
        if bad:
            raise ValueError(
                f"`{name}` has {bad} NaN or infinite value(s) out of {array.size}: "
                "remove those measurements."
            )
    return array


def one_network(network: Any, name: str) -> Any:
    """The network, or a ValueError for the layers of many at once."""
    axes = np.ndim(network.layers[0])
    if axes != 2:
        raise ValueError(
            f"`{name}` has layers of {axes} axes, those of many networks at once: take one, "
            f"`jax.tree.map(lambda x: x[0], {name})`, or all by `jax.vmap`."
        )
    return network


def not_empty(matrix: jax.Array, name: str) -> jax.Array:
    """The matrix, or a ValueError for one without rows or columns."""
    if 0 in matrix.shape:
        raise ValueError(f"`{name}` has shape {matrix.shape}: pass at least one of each axis.")
    return matrix


def _looked_at(value: Any, array: Any) -> tuple[Any, Any]:
    """The array and whose functions to use: NumPy's wherever it can see it without a copy.

    JAX compiles each function for its shape, 30 ms each time.
    """
    if isinstance(value, np.ndarray):
        return value, np
    if isinstance(array, jax.Array) and array.devices() == {jax.devices("cpu")[0]}:
        return np.asarray(array), np
    return array, jax.numpy


def rows_of(array: Any, chosen: Any) -> Any:
    """The rows with the given indices: in NumPy where it can see them, without a compiled program."""
    if is_traced(array, chosen):
        return array[chosen]
    with jax.ensure_compile_time_eval():
        here, _ = _looked_at(array, array)
        return here[np.asarray(chosen)]


def as_integers(value: Any, name: str) -> Any:
    """A one-dimensional array of integers, NumPy's or JAX's."""
    array = as_numbers(value, name)
    if not jax.numpy.issubdtype(array.dtype, jax.numpy.integer):
        raise TypeError(
            f"`{name}` has data type {array.dtype}; indices are integers: "
            f"convert it with `{name}.astype(int)`."
        )
    if array.ndim != 1:
        raise ValueError(
            f"`{name}` must be one-dimensional, found shape {array.shape}: flatten it with `.ravel()`."
        )
    return array


def as_index(value: Any, name: str, bound: int) -> jax.Array:
    """A one-dimensional array of indices in [0, bound)."""
    array = as_integers(value, name)
    if not is_traced(array):
        # A constant can be looked at inside `jit`, but only outside of its trace.
        with jax.ensure_compile_time_eval():
            array, _ = _looked_at(array, array)
            low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if array.size and (low < 0 or high >= bound):
            raise ValueError(
                f"`{name}` has index {low if low < 0 else high}, outside 0..{bound - 1}: "
                "check the shape, and that indices start at 0."
            )
    narrow = array.astype(np.int32)
    return jax.device_put(narrow) if isinstance(narrow, np.ndarray) else narrow


def as_shape(value: Any, name: str = "shape") -> tuple[int, int]:
    """A pair of positive Python integers."""
    remedy = "pass for example (60, 40)"
    try:
        # Neither the letters of a word nor fractions are sizes, and a set has no order.
        if isinstance(value, str | bytes | Mapping | Set) or _is_key(value):
            raise TypeError
        rows, columns = map(operator.index, value)
    except (TypeError, ValueError):
        raise ValueError(
            f"`{name}` must be a pair (rows, columns), found {found(value)}: {remedy}."
        ) from None
    if rows < 1 or columns < 1:
        raise ValueError(f"`{name}` must be positive, found {value!r}: {remedy}.")
    return rows, columns


def as_positive_semidefinite(value: Any, name: str, size: int | None = None) -> jax.Array:
    """A symmetric positive semidefinite matrix, up to round-off. Traced values are not checked."""
    matrix = as_real(value, name, 2)
    wanted = matrix.shape[0] if size is None else size
    if matrix.shape != (wanted, wanted):
        raise ValueError(
            f"`{name}` has shape {matrix.shape} and must be ({wanted}, {wanted}): pass a Gram matrix "
            "such as `Q.T @ Q`."
        )
    if not is_traced(matrix) and matrix.size:
        with jax.ensure_compile_time_eval():
            found = np.asarray(matrix, np.float64)
        scale = np.abs(found).max()
        slack = 10 * wanted * float(jax.numpy.finfo(matrix.dtype).eps) * scale
        skew = np.abs(found - found.T).max()
        if skew > slack:
            raise ValueError(
                f"`{name}` is not symmetric (off by {skew:.3g}, largest entry {scale:.3g}): pass a "
                "Gram matrix such as `Q.T @ Q`."
            )
        lowest = np.linalg.eigvalsh(found)[0]
        if lowest < -slack:
            raise ValueError(
                f"`{name}` is not positive semidefinite (eigenvalue {lowest:.3g}, largest entry "
                f"{scale:.3g}): pass a Gram matrix such as `Q.T @ Q`."
            )
    return matrix


def positive_integer(value: Any, name: str) -> int:
    """A Python integer of at least one."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"`{name}` must be an integer of at least 1, found {found(value)}.")
    return int(value)


def natural_number(value: Any, name: str) -> int:
    """A Python integer of at least zero."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**63:
        raise ValueError(f"`{name}` must be an integer of at least 0, found {found(value)}.")
    return int(value)


def as_positive(value: Any, name: str, remedy: str, *, zero: bool = False) -> Any:
    """A positive finite number (or zero, where that may be), as it came.

    The value of a traced one is not checked, its shape is.
    """
    if isinstance(value, jax.core.Tracer) and value.shape == ():
        return value
    number = as_number(value, name, remedy)
    if not (0 <= number < np.inf if zero else 0 < number < np.inf):
        least = "at least 0" if zero else "positive"
        raise ValueError(f"`{name}` must be {least} and finite, found {value}: {remedy}.")
    return number if isinstance(value, np.ndarray) else value


def as_number(value: Any, name: str, remedy: str) -> float:
    """One real number, no truth value and no text, as a Python float; it may be infinite or NaN."""
    try:
        kind = getattr(getattr(value, "dtype", None), "kind", "f")
        if isinstance(value, bool | str | bytes) or kind not in "fiu" or np.shape(value) != ():
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` must be one number, found {found(value)}: {remedy}.") from None


def between_0_and_1(value: Any, name: str) -> float:
    """A number between 0 and 1, neither of them included."""
    number = as_number(value, name, "pass one between 0 and 1")
    if not 0 < number < 1:
        raise ValueError(f"`{name}` must be between 0 and 1, found {value}.")
    return number


def as_function(value: Any, name: str, of: str) -> Any:
    """Something that can be called; or TypeError, with what it is to be a function of."""
    if not callable(value):
        raise TypeError(f"`{name}` must be a function {of}, found {found(value)}.")
    return value


def as_keys(key: Any, name: str = "key") -> jax.Array:
    """Random keys, one or an array; `jax.random.PRNGKey(0)`, the form of before, is wrapped."""
    here = f"`{name}` must be one random key: pass jax.random.key(0)"
    if not isinstance(key, jax.Array | np.ndarray):
        raise TypeError(f"{here}, found {found(key)}.")
    if not jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
        words = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
        if key.dtype != words.dtype or key.shape[-1:] != words.shape:
            raise TypeError(f"{here}, found {found(key)}.")
        key = jax.random.wrap_key_data(jax.numpy.asarray(key))
    return key


def as_key(key: Any, name: str = "key") -> jax.Array:
    """One random key."""
    key = as_keys(key, name)
    if key.shape != ():
        raise ValueError(
            f"`{name}` must be one random key: pass jax.random.key(0), found {key.shape} of them; "
            "`jax.vmap` takes one after the other."
        )
    return key


def as_instance(value: Any, kind: Any, name: str, remedy: str) -> Any:
    """A value of a class, or of one of several; or TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"`{name}` is {found(value)}: {remedy}.")
    return value


def as_path(value: Any, name: str) -> Path:
    """A path on disk, given as such or as text."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"`{name}` must be a path, found {found(value)}: pass text or a Path.")
    return Path(value)


def found(value: Any) -> str:
    """What was found, in few words."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        return f"an array of type {dtype} and shape {shape}"
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"


def free_memory() -> int:
    """Bytes that can be allocated without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


def memory_budget(memory: int | None = None) -> int:
    """The bytes that may be used: as given, or half of what is free."""
    return free_memory() // 2 if memory is None else positive_integer(memory, "memory")


def require_memory(needed: int, purpose: str, remedy: str) -> None:
    """Raise MemoryError *before* an allocation that would not fit."""
    free = free_memory()
    if needed > free:
        raise MemoryError(
            f"{purpose} needs {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free: {remedy}."
        )
