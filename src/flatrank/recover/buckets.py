"""Observed entries grouped by degree, so that every sum over a line is dense batched algebra.

XLA on a CPU gathers rows and multiplies matrices well and scatters badly. Lines (rows, or columns)
with a similar number of entries share a bucket and are padded to its capacity; a bucket is cut into
blocks of bounded memory that one compiled loop visits. Nothing is ever scattered.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# A block gathers at most about this many numbers (16 MiB in float32).
_BLOCK_NUMBERS = 2**22
_MOST_BUCKETS = 6


class Bucket(eqx.Module):
    """Lines of similar degree in blocks (c) of lines (b) padded to the capacity (d).

    Padding has `others` one past the end, and value and weight zero. Entries held out have weight
    zero as well, so that a fit with and one without them have the same shapes.
    """

    others: Int[Array, "c b d"]
    values: Float[Array, "c b d"]
    weights: Float[Array, "c b d"]


class LineBuckets(eqx.Module):
    """All lines of one axis; `place[i]` is where line i stands in the stacked buckets."""

    buckets: tuple[Bucket, ...]
    place: Int[Array, " lines"]


def line_buckets(
    lines: np.ndarray,
    others: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    shape: tuple[int, int],
    width: int,
) -> LineBuckets:
    """Group entries (lines_i, others_i) of an axis of shape[0] lines against one of shape[1]."""
    count, other_count = shape
    order = np.argsort(lines, kind="stable")
    degrees = np.bincount(lines, minlength=count)
    first = np.concatenate([[0], np.cumsum(degrees)[:-1]])
    capacities = _capacities(degrees)
    member_of = np.searchsorted(capacities, degrees)
    buckets, place, offset = [], np.empty(count, np.int64), 0
    for index, capacity in enumerate(capacities):
        members = np.flatnonzero(member_of == index)
        if len(members) == 0:
            continue
        block = int(np.clip(_BLOCK_NUMBERS // (capacity * width), 1, _round_up(len(members))))
        blocks = -(-len(members) // block)
        slot = np.arange(capacity)[None]
        real = slot < degrees[members, None]
        source = order[np.where(real, first[members, None] + slot, 0)]

        def laid_out(
            array: np.ndarray,
            padding: float,
            real: np.ndarray = real,
            source: np.ndarray = source,
            size: tuple[int, int, int] = (blocks, block, int(capacity)),
        ) -> np.ndarray:
            full = np.full((size[0] * size[1], size[2]), padding, array.dtype)
            full[: len(source)] = np.where(real, array[source], padding)
            return full.reshape(size)

        buckets.append(
            Bucket(
                jnp.asarray(laid_out(others.astype(np.int32), other_count)),
                jnp.asarray(laid_out(values, 0.0)),
                jnp.asarray(laid_out(weights, 0.0)),
            )
        )
        place[members] = offset + np.arange(len(members))
        offset += blocks * block
    return LineBuckets(tuple(buckets), jnp.asarray(place.astype(np.int32)))


def _round_up(count: int) -> int:
    """The next number of the grid 1, 2, 3, 4, 6, 8, 12, 16, ...: few shapes are compiled."""
    power = 2 ** int(np.ceil(np.log2(max(count, 1))))
    return power * 3 // 4 if count <= power * 3 // 4 and power >= 4 else power


def _capacities(degrees: np.ndarray) -> np.ndarray:
    """At most `_MOST_BUCKETS` capacities that pad the least, by dynamic programming on a grid."""
    grid = np.unique([_round_up(int(degree)) for degree in np.unique(degrees)])
    lines = np.bincount(np.searchsorted(grid, degrees), minlength=len(grid))
    below = np.concatenate([[0], np.cumsum(lines)])
    # cost[j]: the padded numbers of the lines in the first j grid cells; one more bucket a round.
    cost = np.concatenate([[0], grid * below[1:]]).astype(float)
    choice = [np.zeros(len(grid) + 1, np.int64)]
    for _ in range(min(_MOST_BUCKETS, len(grid)) - 1):
        table = cost[None, :-1] + grid[:, None] * (below[1:, None] - below[None, :-1])
        table = np.where(np.arange(len(grid))[None] <= np.arange(len(grid))[:, None], table, np.inf)
        choice.append(np.concatenate([[0], table.argmin(1)]))
        cost = np.concatenate([[0], table.min(1)])
    capacities, end = [], len(grid)
    for cut in choice[::-1]:
        if end == 0:
            break
        capacities.append(grid[end - 1])
        end = cut[end]
    return np.unique(capacities)
