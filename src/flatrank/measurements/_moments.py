"""K(I), K*(I) and the compressed moment tensor of dense measurements: once, for many evaluations.

By NumPy where the measurements are in the memory of a CPU: its products come from BLAS, and nothing is
compiled for their shape. By XLA under `jit` and on accelerators.
"""

import contextlib
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from threadpoolctl import threadpool_limits

from .._checks import is_traced
from ._packing import pack

# Bytes to which XLA wants arrays aligned that it is to use where they are.
_ALIGNMENT = 64
# Multiplications that take one core a second in float32 and two in float64; N = 4000 at m = n = 60
# takes 2.6e10.
LITTLE_WORK = 3.5e10
# Fewer multiplications than this take one core 10 ms, and waking others takes as long.
_LEAST_SHARED = 5e8
# BLAS is half as fast again with so many columns as with 60.
_COLUMNS = 240


def end_moments(matrices: Float[Array, "N m n"]) -> tuple[Float[Array, "m m"], Float[Array, "n n"]]:
    """K(I) and K*(I)."""
    if not _by_numpy(matrices):
        return _end_moments_by_xla(matrices)
    A = np.asarray(matrices)
    count, m, n = A.shape
    by_row = np.swapaxes(A, 0, 1).reshape(m, -1)
    by_column = A.reshape(-1, n)
    with _threads(A.size * (m + n)):
        rows, columns = by_row @ by_row.T / count, by_column.T @ by_column / count
    return _given(rows, matrices), _given(columns, matrices)


def moment_tensor(matrices: Float[Array, "N m n"]) -> Float[Array, "mm nn"]:
    """T[ab, cd] = (1/N) sum_i A_i[a,c] A_i[b,d] for a <= b and c <= d, symmetrised in (c, d)."""
    if not _by_numpy(matrices):
        return _moment_tensor_by_xla(matrices)
    A = np.asarray(matrices)
    count, m, n = A.shape
    flat = A.reshape(count, -1)
    first, second = np.triu_indices(n)
    tensor = aligned((m * (m + 1) // 2, len(first)), A.dtype)
    work = building_work(count, m, n)
    start = 0
    step = -(-_COLUMNS // n)
    for begin in range(0, m, step):
        # All pairs of the rows a from `begin` to `end` and b from `begin` on in one product: row b,
        # column (d, a, c).
        end = min(begin + step, m)
        with _threads(work):
            products = flat[:, begin * n :].T @ flat[:, begin * n : end * n]
        width = (end - begin) * n
        products = products.reshape(m - begin, n * width)
        for a in range(end - begin):
            rows = tensor[start : start + m - begin - a]
            start += len(rows)
            np.take(products[a:], second * width + a * n + first, axis=1, out=rows, mode="clip")
            rows += np.take(products[a:], first * width + a * n + second, axis=1)
    tensor *= A.dtype.type(0.5 / count)
    return _given(tensor, matrices)


def tensor_size(m: int, n: int) -> int:
    """How many numbers a moment tensor has, m^2 n^2 / 4 or a little more."""
    return (m * (m + 1) // 2) * (n * (n + 1) // 2)


def building_work(count: int, m: int, n: int) -> int:
    """How many multiplications the moment tensor takes."""
    return count * (m * (m + 1) // 2) * n * n


def _threads(work: int) -> AbstractContextManager:
    """BLAS on one core for little work."""
    if work < _LEAST_SHARED:
        return threadpool_limits(1, user_api="blas")
    return contextlib.nullcontext()


def on_host(matrices: Array) -> bool:
    """Whether NumPy can read the measurements, and has fast products for them."""
    if is_traced(matrices) or matrices.dtype not in (jnp.float32, jnp.float64):
        return False
    return len(matrices.devices()) == 1


def _by_numpy(matrices: Array) -> bool:
    """Whether NumPy computes the moments: on CPUs always, for accelerators what is little work.

    XLA would compile a second for each shape; a copy there and back takes milliseconds.
    """
    if not on_host(matrices):
        return False
    on_cpu = all(device.platform == "cpu" for device in matrices.devices())
    return on_cpu or building_work(*matrices.shape) <= LITTLE_WORK


def _given(array: np.ndarray, beside: Array) -> Array:
    """An array of NumPy's that nobody else holds, as JAX's; without a copy if it is aligned."""
    # Also inside `jit`, where a constant would be copied into the program.
    with jax.ensure_compile_time_eval():
        return jax.device_put(array, beside.sharding if beside.committed else None)


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that XLA can use where it is."""
    # NumPy asks Linux for huge pages for what has more than 4 MB.
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


@jax.jit
def _end_moments_by_xla(matrices: Float[Array, "N m n"]) -> tuple[Array, Array]:
    count = matrices.shape[0]
    rows = jnp.einsum("iab,icb->ac", matrices, matrices)
    columns = jnp.einsum("iab,iac->bc", matrices, matrices)
    return rows / count, columns / count


@jax.jit
def _moment_tensor_by_xla(matrices: Float[Array, "N m n"]) -> Float[Array, "mm nn"]:
    count, m, _ = matrices.shape
    by_row = jnp.swapaxes(matrices, 0, 1)
    first, second = jnp.triu_indices(m)

    def pair(index: tuple[Array, Array]) -> Array:
        product = by_row[index[0]].T @ by_row[index[1]] / count
        return pack(0.5 * (product + product.T))

    return jax.lax.map(pair, (first, second))
