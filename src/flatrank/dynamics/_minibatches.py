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


class Minibatch(eqx.Module):
    """What chance decides in a step: the measurements of the minibatch, and errors of their labels.

    Of one step the arrays have shape (B,), of a stretch (steps, B). Indices are None when all
    measurements are used, errors (of unit variance) when labels have none.
    """

    indices: Int[Array, "*steps B"] | None
    errors: Float[Array, "*steps B"] | None

    def at(self, k: Array) -> "Minibatch":
        """Step k of a stretch."""
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, k, keepdims=False), self)


def draw_minibatches(
    key: PRNGKeyArray,
    first: Array,
    steps: int,
    count: int,
    batch_size: int | None,
    epochs: bool,
    noise: str | None,
    dtype: jnp.dtype,
) -> Minibatch:
    """The minibatches of steps first..first + steps - 1, among `count` measurements.

    With `epochs` each measurement is used once before any is used again (those left over when
    `batch_size` does not divide `count` are left out of that epoch); otherwise they are drawn with
    replacement, an index with a relative bias below count / 2^32. `noise` is "gaussian",
    "rademacher" or None.
    """
    size = count if batch_size is None else batch_size
    if noise is None and batch_size is None:
        return Minibatch(None, None)
    words = 1 + (noise is not None) * (2 if dtype == jnp.float64 else 1)
    blocks = -(-steps // _BLOCK) + 1
    each = _BLOCK * size * words
    numbers = first // _BLOCK + jnp.arange(blocks, dtype=first.dtype)
    length = max(1, count // size)
    passes = -(-steps // length) + 1 if epochs else 0
    if epochs:
        # Keys of their own, but drawn in one loop with the others.
        order = first // length + jnp.arange(passes, dtype=first.dtype)
        numbers = jnp.concatenate([numbers, -1 - order])
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number.astype(jnp.uint32)))(numbers)
    most = max(each, count) if epochs else each
    drawn = jax.vmap(lambda k: jax.random.bits(k, (most,), jnp.uint32))(keys)
    bits = drawn[:blocks, :each].reshape(blocks * _BLOCK, size, words)
    bits = jax.lax.dynamic_slice_in_dim(bits, first % _BLOCK, steps)
    errors = None if noise is None else _errors(bits[..., 1:], noise, dtype)
    if batch_size is None:
        return Minibatch(None, errors)
    if epochs:
        # Random orders of all measurements, one an epoch, cut into minibatches.
        orders = jnp.argsort(drawn[blocks:, :count], axis=1)[:, : length * size]
        batches = orders.astype(jnp.int32).reshape(passes * length, size)
        return Minibatch(jax.lax.dynamic_slice_in_dim(batches, first % length, steps), errors)
    return Minibatch((bits[..., 0] % jnp.uint32(count)).astype(jnp.int32), errors)


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
