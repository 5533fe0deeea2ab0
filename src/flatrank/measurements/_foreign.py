"""XLA calls the machine code of `_machine_code`: where it is sure to work, and nowhere else.

A foreign function reads the memory that XLA points to. Its layout is therefore compared with the header
that jaxlib brings along before anything is registered, and the numbers with NumPy's before anything is
computed with them. Whatever goes wrong, the answer is that there is no such function, and XLA does the
work.
"""

import importlib.util
import re
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# False: as on a machine without Numba. For tests.
_allowed = True
_lock = threading.Lock()
# What registered functions need to stay alive, by name; None: does not work here.
_known: dict[str, Any] = {}

# The structs that `_machine_code` reads, as the header of version 0.3 has them (jaxlib 0.10).
_HEADER = Path("xla", "ffi", "api", "c_api.h")
_STRUCTS = {
    "XLA_FFI_CallFrame": "size_t struct_size; XLA_FFI_Extension_Base* extension_start; "
    "const XLA_FFI_Api* api; XLA_FFI_ExecutionContext* ctx; XLA_FFI_ExecutionStage stage; "
    "XLA_FFI_Args args; XLA_FFI_Rets rets; XLA_FFI_Attrs attrs; XLA_FFI_Future* future;",
    "XLA_FFI_Args": "size_t struct_size; XLA_FFI_Extension_Base* extension_start; int64_t size; "
    "XLA_FFI_ArgType* types; void** args;",
    "XLA_FFI_Rets": "size_t struct_size; XLA_FFI_Extension_Base* extension_start; int64_t size; "
    "XLA_FFI_RetType* types; void** rets;",
    "XLA_FFI_Attrs": "size_t struct_size; XLA_FFI_Extension_Base* extension_start; int64_t size; "
    "XLA_FFI_AttrType* types; XLA_FFI_ByteSpan** names; void** attrs;",
    "XLA_FFI_Buffer": "size_t struct_size; XLA_FFI_Extension_Base* extension_start; "
    "XLA_FFI_DataType dtype; void* data; int64_t rank; int64_t* dims;",
    "XLA_FFI_Extension_Base": "size_t struct_size; XLA_FFI_Extension_Type type; "
    "struct XLA_FFI_Extension_Base* next;",
    "XLA_FFI_Metadata_Extension": "XLA_FFI_Extension_Base extension_base; "
    "XLA_FFI_Metadata* metadata;",
    "XLA_FFI_Metadata": "size_t struct_size; XLA_FFI_Api_Version api_version; "
    "XLA_FFI_Handler_Traits traits; XLA_FFI_TypeId state_type_id;",
    "XLA_FFI_Api_Version": "size_t struct_size; XLA_FFI_Extension_Base* extension_start; "
    "int major_version; int minor_version;",
}
_LINES = (
    "#define XLA_FFI_API_MAJOR 0",
    "#define XLA_FFI_API_MINOR 3",
    "XLA_FFI_Extension_Metadata = 1,",
    "XLA_FFI_ExecutionStage_EXECUTE = 3,",
    "XLA_FFI_DataType_F32 = 11,",
    "XLA_FFI_DataType_F64 = 12,",
)


def works(kind: str, dtype: Any) -> bool:
    """Whether the foreign function `kind` ("squares", "both_sides") of this data type can be called.

    The first call compiles it (a second or two, or 0.2 s from disk) and tries it.
    """
    dtype = np.dtype(dtype)
    if not _allowed or dtype not in (np.float32, np.float64):
        return False
    # One device: XLA would gather an array that is spread over several before it calls.
    if jax.default_backend() != "cpu" or jax.device_count() != 1:
        return False
    name = f"flatrank_{kind}_{dtype.name}"
    with _lock:
        if name not in _known:
            _known[name] = _registered(kind, dtype, name)
        return _known[name] is not None


def squares(
    A: Float[Array, "N k"], w: Float[Array, " k"], y: Float[Array, " N"]
) -> tuple[Float[Array, ""], Float[Array, " k"]]:
    """||A w - y||^2 and (A w - y) A, by machine code."""
    total, gradient = _call("squares", ((1,), w.shape), A, w, y)
    return total[0], gradient


def both_sides(
    T: Float[Array, "I J"], left: Float[Array, "K I"], right: Float[Array, "K J"]
) -> tuple[Float[Array, "K I"], Float[Array, "K J"]]:
    """right T^T and left T, by machine code."""
    by_row, by_column = _call("both_sides", (left.shape, right.shape), T, left, right)
    return by_row, by_column


def _call(kind: str, shapes: tuple[tuple[int, ...], ...], *arguments: Array) -> Any:
    dtype = arguments[0].dtype
    results = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
    return jax.ffi.ffi_call(f"flatrank_{kind}_{np.dtype(dtype).name}", results)(*arguments)


def _registered(kind: str, dtype: np.dtype, name: str) -> Any:
    """The machine code of a function that XLA now knows by name and that computes what it should."""
    try:
        if not _layout_is_known() or importlib.util.find_spec("numba") is None:
            return None
        from . import _machine_code

        code = _machine_code.handler(getattr(_machine_code, f"{kind}_{dtype.name}"))
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(code.ctypes), platform="cpu")
        # A constant can be computed with inside `jit`, but only outside of its trace.
        with jax.ensure_compile_time_eval():
            right = _SELF_TESTS[kind](dtype)
    except Exception:
        # Anything at all: the work is done by XLA instead, and is only slower.
        return None
    return code if right else None


def _layout_is_known() -> bool:
    """Whether jaxlib's header has the structs, numbers and version that `_machine_code` reads."""
    if struct.calcsize("P") != 8:
        return False
    text = (Path(jax.ffi.include_dir()) / _HEADER).read_text()
    text = " ".join(re.sub(r"//[^\n]*", "", text).split())
    # A `typedef struct NAME {` ends like a `struct NAME {`.
    structs = (f"struct {name} {{ {fields} }}" for name, fields in _STRUCTS.items())
    return all(part in text for part in (*structs, *_LINES))


def _squares_are_right(dtype: np.dtype) -> bool:
    A, w, y = _random(dtype, (7, 37), (37,), (7,))
    found = jax.jit(squares)(A, w, y)
    residual = A @ w - y
    return _equal(found, (residual @ residual, residual @ A))


def _both_sides_are_right(dtype: np.dtype) -> bool:
    T, left, right = _random(dtype, (7, 37), (3, 7), (3, 37))
    found = jax.jit(both_sides)(T, left, right)
    return _equal(found, (right @ T.T, left @ T))


_SELF_TESTS: dict[str, Callable[[np.dtype], bool]] = {
    "squares": _squares_are_right,
    "both_sides": _both_sides_are_right,
}


def _random(dtype: np.dtype, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def _equal(found: tuple[Array, ...], expected: tuple[Any, ...]) -> bool:
    """Whether both agree up to round-off of sums of 37 numbers."""
    slack = 100 * float(jnp.finfo(found[0].dtype).eps)
    return all(
        bool(np.max(np.abs(np.asarray(one) - two)) <= slack * np.max(np.abs(two)))
        for one, two in zip(found, expected, strict=True)
    )
