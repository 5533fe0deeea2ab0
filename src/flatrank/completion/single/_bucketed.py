"""A table's entries in buckets of rows and of columns, which the sweeps go over."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ...entries import Entries
from .._buckets import Bucket, LineBuckets, line_buckets


class BucketedEntries(eqx.Module):
    """Observed entries, centred and scaled, bucketed both ways."""

    by_row: LineBuckets
    by_column: LineBuckets
    count: Float[Array, ""]  # the total weight N

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the table."""
        return len(self.by_row.place), len(self.by_column.place)


def bucketed(entries: Entries, used: Bool[np.ndarray, " N"], width: int) -> BucketedEntries:
    """Entries in both layouts; those not `used` have no weight, so that shapes do not depend on it."""
    weights = used.astype(np.float32)
    return BucketedEntries(
        line_buckets(entries, entries.unit, weights, axis=0, width=width),
        line_buckets(entries, entries.unit, weights, axis=1, width=width),
        jnp.float32(weights.sum()),
    )


def with_all_entries(table: BucketedEntries) -> BucketedEntries:
    """The table with those entries too that had no weight; their layout was there."""
    m, n = table.shape

    def used(lines: LineBuckets, padding: int) -> LineBuckets:
        buckets = tuple(
            Bucket(
                bucket.others,
                bucket.values,
                jnp.asarray((np.asarray(bucket.others) < padding).astype(np.float32)),
            )
            for bucket in lines.buckets
        )
        return LineBuckets(buckets, lines.place)

    by_row = used(table.by_row, n)
    count = jnp.float32(by_row.degrees().sum(dtype=np.float64))
    return BucketedEntries(by_row, used(table.by_column, m), count)
