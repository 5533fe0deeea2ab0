"""The random numbers of a stretch of steps, drawn at once.

A random draw is a loop to XLA: one inside each step would cost more than the step, and could hang
beside another (decision 3). Steps are numbered from the start of the run and their numbers depend on
the key and the step alone, so that they do not change with what is recorded, nor after a restart.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

# Steps that share a key; a stretch begins anywhere and covers whole blocks.
_BLOCK = 32


class Draw(eqx.Module):
    """What chance decides in a step: the measurements of the minibatch, and errors of their labels.

    Of one step the arrays have shape (B,), of a stretch (steps, B). Indices are None when all
    measurements are used, errors (of unit variance) when labels have none.
    """

    indices: Int[Array, "*steps B"] | None
    errors: Float[Array, "*steps B"] | None

    def at(self, k: Array) -> "Draw":
        """Step k of a stretch."""
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, k, keepdims=False), self)


def draw(
    key: PRNGKeyArray,
    first: Array,
    steps: int,
    count: int,
    batch_size: int | None,
    epochs: bool,
    noise: str | None,
    dtype: jnp.dtype,
) -> Draw:
    """The draws of steps first..first + steps - 1, among `count` measurements.

    With `epochs` each measurement is used once before any is used again (those left over when
    `batch_size` does not divide `count` are left out of that epoch); otherwise they are drawn with
    replacement, an index with a relative bias below count / 2^32. `noise` is "gaussian",
    "rademacher" or None.
    """
    size = count if batch_size is None else batch_size
    if noise is None and batch_size is None:
        return Draw(None, None)
    words = 1 + (noise is not None) * (2 if dtype == jnp.float64 else 1)
    blocks = -(-steps // _BLOCK) + 1
    numbers = first // _BLOCK + jnp.arange(blocks, dtype=first.dtype)
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
    bits = jax.vmap(lambda k: jax.random.bits(k, (_BLOCK, size, words), jnp.uint32))(keys)
    bits = bits.reshape(blocks * _BLOCK, size, words)
    bits = jax.lax.dynamic_slice_in_dim(bits, first % _BLOCK, steps)
    errors = None if noise is None else _errors(bits[..., 1:], noise, dtype)
    if batch_size is None:
        return Draw(None, errors)
    if epochs:
        return Draw(_permuted(key, first, steps, count, size, bits), errors)
    return Draw((bits[..., 0] % jnp.uint32(count)).astype(jnp.int32), errors)


def _errors(bits: Array, noise: str, dtype: jnp.dtype) -> Array:
    """Errors of unit variance from 32 or 64 random bits each."""
    if noise == "rademacher":
        return 2 * (bits[..., 0] >> 31).astype(dtype) - 1
    word, resolution = bits[..., 0], 2**24
    if dtype == jnp.float64:
        word = (word.astype(jnp.uint64) << 32) | bits[..., 1].astype(jnp.uint64)
        resolution = 2**53
    shift = 8 * word.dtype.itemsize - (resolution.bit_length() - 1)
    # The midpoints of equal cells of (-1, 1): never an end, where the inverse is infinite.
    cell = (word >> shift).astype(dtype)
    uniform = (2 * cell + 1) / jnp.asarray(resolution, dtype) - 1
    limit = 1 - jnp.finfo(dtype).eps
    return jnp.sqrt(jnp.asarray(2, dtype)) * jax.scipy.special.erfinv(
        jnp.clip(uniform, -limit, limit)
    )


def _permuted(
    key: PRNGKeyArray, first: Array, steps: int, count: int, size: int, after: Array
) -> Array:
    """Minibatches that go through random orders of all measurements, one order an epoch."""
    length = count // size
    epochs = -(-steps // length) + 1
    numbers = first // length + jnp.arange(epochs, dtype=first.dtype)
    # A key of its own; and not drawn while the other numbers are (decision 3).
    salt = (jnp.min(after) & jnp.uint32(0)) + jnp.uint32(0x5EED)
    key = jax.random.fold_in(key, salt)
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
    bits = jax.vmap(lambda k: jax.random.bits(k, (count,), jnp.uint32))(keys)
    orders = jnp.argsort(bits, axis=1)[:, : length * size].astype(jnp.int32)
    batches = orders.reshape(epochs * length, size)
    return jax.lax.dynamic_slice_in_dim(batches, first % length, steps)
