"""Observed entries grouped by degree, so that every sum over a line is dense batched algebra.

XLA on a CPU gathers rows and multiplies matrices well and scatters badly. Lines (rows, or columns)
with a similar number of entries share a bucket and are padded to its capacity; a bucket is cut into
blocks of bounded memory that one compiled loop visits. Nothing is ever scattered.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..entries import Entries

# A block gathers at most about this many numbers (4 MiB in float32, the size of a cache).
_BLOCK_NUMBERS = 2**20
_MOST_BUCKETS = 6
# A bucket more must save this much padding: it is one more shape to compile and loop to start.
_BUCKET_COST = 20_000


class Bucket(eqx.Module):
    """Lines of similar degree in blocks (c) of lines (b) padded to the capacity (d).

    Padding has `others` one past the end, and value and weight zero. Entries held out have weight
    zero as well, so that a fit with and one without them have the same shapes.
    """

    others: Int[Array, "c b d"]
    values: Float[Array, "c b d"]
    weights: Float[Array, "c b d"]

    @property
    def lines(self) -> int:
        """The number of lines, with padding."""
        return self.others.shape[0] * self.others.shape[1]


class LineBuckets(eqx.Module):
    """All lines of one axis; `place[i]` is where line i stands in the stacked buckets."""

    buckets: tuple[Bucket, ...]
    place: Int[Array, " lines"]

    def rows_of(self, values: Float[Array, "lines q"]) -> list[Float[Array, "_ _ q"]]:
        """One row per line, laid out as the buckets' blocks; padding has zeros."""
        total = sum(bucket.lines for bucket in self.buckets)
        stacked = jnp.zeros((total, values.shape[1]), values.dtype).at[self.place].set(values)
        ends = np.cumsum([bucket.lines for bucket in self.buckets])
        return [
            stacked[end - bucket.lines : end].reshape(*bucket.others.shape[:2], -1)
            for end, bucket in zip(ends, self.buckets, strict=True)
        ]

    def sums(self, values: Float[Array, " others"]) -> Float[Array, " lines"]:
        """For each line, the sum of values[b] over its entries b, by weight."""
        padded = jnp.pad(values, (0, 1))
        parts = [
            jnp.sum(bucket.weights * padded[bucket.others], axis=2)[..., None]
            for bucket in self.buckets
        ]
        return self.lines_of(parts)[:, 0]

    def degrees(self) -> Float[np.ndarray, " lines"]:
        """The weight of each line's entries, by NumPy: outside of `jit` JAX compiles every operation."""
        parts = [np.asarray(bucket.weights).sum(axis=2).ravel() for bucket in self.buckets]
        return np.concatenate(parts)[np.asarray(self.place)]

    def lines_of(self, parts: list[Float[Array, "_ _ q"]]) -> Float[Array, "lines q"]:
        """The inverse of `rows_of`."""
        return jnp.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])[self.place]


def line_buckets(
    entries: Entries,
    values: Float[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    *,
    axis: int,
    width: int,
) -> LineBuckets:
    """Group entries by rows (`axis` 0) or columns (1), each with a value and a weight.

    `width` is that of the networks to come: more directions, smaller blocks.
    """
    sides = (entries.rows, entries.columns)
    lines, others = sides[axis], sides[1 - axis]
    count, other_count = entries.shape[axis], entries.shape[1 - axis]
    # One past the end stands for padding.
    # NumPy sorts small types by counting.
    small = lines.astype(np.min_scalar_type(max(count - 1, 0)))
    order = np.append(np.argsort(small, kind="stable"), len(lines))
    degrees = np.bincount(lines, minlength=count)
    first = np.concatenate([[0], np.cumsum(degrees)[:-1]])
    capacities = _capacities(degrees)
    member_of = np.searchsorted(capacities, degrees)
    buckets, place, offset = [], np.empty(count, np.int64), 0
    for index, capacity in enumerate(capacities):
        members = np.flatnonzero(member_of == index)
        if len(members) == 0:
            continue
        most = max(1, _BLOCK_NUMBERS // (int(capacity) * width))
        block, blocks = _round_up(len(members)), 1
        if block > most:
            # The size of such a table is its own anyway: no padding for the sake of few shapes.
            blocks = -(-len(members) // most)
            block = -(-len(members) // blocks)
        slot = np.arange(capacity)[None]
        real = slot < degrees[members, None]
        source = order[np.where(real, first[members, None] + slot, len(lines))]
        size = (blocks, block, int(capacity))
        buckets.append(
            Bucket(
                _laid_out(others.astype(np.int32), other_count, source, size),
                _laid_out(values, 0, source, size),
                _laid_out(weights, 0, source, size),
            )
        )
        place[members] = offset + np.arange(len(members))
        offset += blocks * block
    return LineBuckets(tuple(buckets), jnp.asarray(place.astype(np.int32)))


def _laid_out(
    array: np.ndarray, padding: int, source: np.ndarray, size: tuple[int, int, int]
) -> Array:
    """array[source] in blocks of the given size, padding where the source is past its end."""
    full = np.full((size[0] * size[1], size[2]), padding, array.dtype)
    full[: len(source)] = np.append(array, array.dtype.type(padding))[source]
    return jnp.asarray(full.reshape(size))


def in_turn(block: Callable, buckets: list, example_dtype: jnp.dtype) -> list:
    """block(after, part) for every block of every bucket, one bucket after the other.

    `block` returns a pair (scalar, output) and adds `after`, a zero, to what it computes. Without
    that dependence XLA on a CPU starts the buckets' loops at the same time, and with few threads
    they wait for each other for ever (seen with jaxlib 0.10.2 on two cores).
    """
    after = jnp.zeros((), example_dtype)
    outputs = []
    for bucket in buckets:
        one = len(jax.tree.leaves(bucket)[0]) == 1
        if one:
            scalars, output = block(after, jax.tree.map(lambda x: x[0], bucket))
            output = jax.tree.map(lambda x: x[None], output)
        else:
            scalars, output = jax.lax.map(lambda part, after=after: block(after, part), bucket)
        outputs.append((jnp.sum(scalars), output))
        after = 0.0 * outputs[-1][0]
    return outputs


def _round_up(count: int) -> int:
    """The next number of the grid 1, 2, 3, 4, 6, 8, 12, 16, ...: few shapes are compiled."""
    power = 2 ** int(np.ceil(np.log2(max(count, 1))))
    return power * 3 // 4 if count <= power * 3 // 4 and power >= 4 else power


def _capacities(degrees: np.ndarray) -> np.ndarray:
    """The capacities that pad the least, by dynamic programming on a grid of sizes."""
    grid = np.unique([_round_up(int(degree)) for degree in np.unique(degrees)])
    lines = np.bincount(np.searchsorted(grid, degrees), minlength=len(grid))
    below = np.concatenate([[0], np.cumsum(lines)])
    # cost[j]: the padded numbers of the lines in the first j grid cells; one more bucket a round.
    cost = np.concatenate([[0], grid * below[1:]]).astype(float)
    choice = [np.zeros(len(grid) + 1, np.int64)]
    for _ in range(min(_MOST_BUCKETS, len(grid)) - 1):
        table = cost[None, :-1] + grid[:, None] * (below[1:, None] - below[None, :-1])
        table = np.where(np.arange(len(grid))[None] <= np.arange(len(grid))[:, None], table, np.inf)
        table[:, 1:] += _BUCKET_COST
        choice.append(np.concatenate([[0], table.argmin(1)]))
        cost = np.concatenate([[0], table.min(1)])
    capacities, end = [], len(grid)
    for cut in choice[::-1]:
        if end == 0:
            break
        capacities.append(grid[end - 1])
        end = cut[end]
    return np.unique(capacities)
