"""What one factorisation minimises."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...penalties import AbstractPenalty, Flatness, WeightDecay
from .._biased import BiasedNetwork
from .._buckets import Bucket, in_turn
from ._bucketed import BucketedEntries


class Objective(eqx.Module):
    """The squared error of a table's entries and N times strength times the penalty of the layers.

    * `penalty`: `Flatness()` or `WeightDecay()`.
    * `strength`: of the penalty, per entry of squared error.
    * `smoothing`: the share of the flatness that is measured as if the entries were spread evenly: at
      depth 2 the weighted trace norm with smoothed marginals (Foygel and Srebro 2011).
    * `biased`: whether rows and columns have biases.

    Raises TypeError for a penalty whose problems of lines are not known.
    """

    penalty: AbstractPenalty
    strength: Float[Array, ""]
    smoothing: Float[Array, ""]
    biased: bool = eqx.field(static=True)

    def __init__(
        self,
        penalty: AbstractPenalty,
        strength: Float[Array, ""],
        *,
        smoothing: Float[Array, ""] | float = 0.0,
        biased: bool = True,
    ):
        if not isinstance(penalty, Flatness | WeightDecay):
            raise TypeError(
                f"`penalty` is a {type(penalty).__name__}; the completion of tables knows Flatness() "
                "and WeightDecay()."
            )
        self.penalty, self.strength, self.biased = penalty, strength, biased
        self.smoothing = jnp.asarray(smoothing, strength.dtype)

    def __call__(self, model: BiasedNetwork, table: BucketedEntries) -> Float[Array, ""]:
        """The function that the sweeps decrease."""
        left, right = model.network.factors()
        features = jnp.pad(right.T, [(0, 1), (0, 0)])
        offsets = jnp.pad(model.column_bias, (0, 1))
        uppers, lowers = model.network.uppers(), model.network.lowers()
        m, n = table.shape
        dtype = left.dtype
        row_weights = [ones_or_squares(P, m, dtype, axis=1) for P in uppers]
        column_weights = [ones_or_squares(Q, n, dtype, axis=0) for Q in lowers]
        # The biases as two rank-one terms of depth 2: r_a^2 + 1 and 1 + c_b^2.
        row_weights += [model.row_bias**2, jnp.ones(m, dtype)]
        column_weights += [jnp.ones(n, dtype), model.column_bias**2]
        across = jnp.pad(jnp.stack(column_weights, axis=1), [(0, 1), (0, 0)])
        along = jnp.stack(row_weights, axis=1)
        own_rows = table.by_row.rows_of(
            jnp.concatenate([left, model.row_bias[:, None], along], axis=1)
        )
        k = left.shape[1]
        share = 2 * self.strength if isinstance(self.penalty, Flatness) else jnp.zeros((), dtype)
        evenly = (
            jnp.sum(across, axis=0)
            @ jnp.sum(along, axis=0)
            * (self.smoothing * table.count / (m * n))
        )
        observed = (1 - self.smoothing) * share

        def block(after: Array, pair: tuple[Bucket, Array]) -> tuple[Array, None]:
            bucket, own = pair
            fit = jnp.einsum("bdk,bk->bd", features[bucket.others], own[:, :k])
            residual = bucket.values - offsets[bucket.others] - own[:, k : k + 1] - fit
            flat = jnp.einsum("bdt,bt->bd", across[bucket.others], own[:, k + 1 :])
            return after + jnp.sum(bucket.weights * (residual**2 + observed * flat)), None

        pairs = list(zip(table.by_row.buckets, own_rows, strict=True))
        total = jnp.sum(jnp.stack([s for s, _ in in_turn(jax.checkpoint(block), pairs, dtype)]))
        if isinstance(self.penalty, Flatness):
            return total + share * evenly
        decay = jnp.sum(jnp.stack([jnp.sum(layer**2) for layer in model.network.layers]))
        biases = jnp.sum(model.row_bias**2) + jnp.sum(model.column_bias**2)
        return total + self.strength * table.count * (decay + biases)


def ones_or_squares(factor: Array | None, size: int, dtype: jnp.dtype, axis: int) -> Array:
    """Squared norms of a factor's rows or columns; of the identity's where it is None."""
    return jnp.ones(size, dtype) if factor is None else jnp.sum(factor**2, axis=axis)
