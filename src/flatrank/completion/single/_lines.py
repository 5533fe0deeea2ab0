"""The least-squares problem of one line, a row or a column, all other parameters held."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...penalties import WeightDecay
from .._biased import BiasedNetwork
from .._buckets import Bucket, LineBuckets, in_turn
from ._objective import Objective, ones_or_squares


class LineProblem(eqx.Module):
    """What a line's own least-squares problem needs to know about all other lines.

    `features` (n + 1, q) end with a column for the line's bias, `offsets` (n + 1,) are the other
    side's biases. The line's penalty is the sum over its entries b and over t of
    weights[b, t] * x^T grams[t] x, and `everywhere[t]` of it for every line alike, on top of ridge *
    ||x||^2; with grams None, of weights[b, t] * ||x||^2 (depth 2). The last row of each is zero: it is
    where padding points.
    """

    features: Float[Array, "n1 q"]
    offsets: Float[Array, " n1"]
    weights: Float[Array, "n1 t"]
    everywhere: Float[Array, " t"]
    grams: Float[Array, "t q q"] | None
    ridge: Float[Array, ""]


def last_layer_problem(
    model: BiasedNetwork, objective: Objective, count: Float[Array, ""]
) -> LineProblem:
    """The problem of one row of the last layer and its bias, all other parameters held.

    `count` is the number N of entries.
    """
    strength, smoothing = objective.strength, objective.smoothing
    lowers = model.network.lowers()
    below = lowers[-1]
    assert below is not None
    width, n = below.shape
    dtype = below.dtype
    features = jnp.concatenate([below.T, jnp.full((n, 1), float(objective.biased), dtype)], axis=1)
    grams, ridge = None, jnp.zeros((), dtype)
    if isinstance(objective.penalty, WeightDecay):
        weights, ridge = jnp.zeros((n, 1), dtype), strength * count
    elif model.network.depth == 2:
        weights = jnp.full((n, 1), 2 * strength, dtype)
    else:
        # 2 strength sum_b sum_{j<L} ||Q_j[:, b]||^2 ||B_j^T x||^2 with B_j = W_{L-1} ... W_{j+1}.
        products = [jnp.eye(width, dtype=dtype)]
        for layer in model.network.layers[-2:0:-1]:
            products.append(products[-1] @ layer)
        grams = jnp.stack([jnp.pad(B @ B.T, (0, 1)) for B in products[::-1]])
        # The bias is a rank-one term of its own: its flatness is twice its number of entries.
        grams = jnp.concatenate([grams, jnp.zeros_like(grams[:1]).at[0, width, width].set(1.0)])
        ones = jnp.ones(n, dtype)
        squares = [ones_or_squares(Q, n, dtype, axis=0) for Q in lowers[:-1]]
        weights = 2 * strength * jnp.stack([*squares, ones], axis=1)
    one_more = [(0, 1), (0, 0)]
    everywhere = smoothing * count / (model.network.shape[0] * n) * jnp.sum(weights, axis=0)
    weights = (1 - smoothing) * weights
    return LineProblem(
        jnp.pad(features, one_more),
        jnp.pad(model.column_bias, (0, 1)),
        jnp.pad(weights, one_more),
        everywhere,
        grams,
        ridge,
    )


@eqx.filter_jit
def solve_lines(lines: LineBuckets, problem: LineProblem) -> Float[Array, "lines q"]:
    """The minimiser of each line's own problem, zero for a line without entries."""
    q = problem.features.shape[1]
    dtype = problem.features.dtype
    floor = 10 * jnp.finfo(dtype).eps

    def solve(after: Array, system: Array, right: Array) -> Array:
        size = system.shape[-1]
        trace = jnp.trace(system, axis1=1, axis2=2)
        level = after + floor * jnp.where(trace > 0, trace / size, 1.0)
        factor = jnp.linalg.cholesky(
            system + level[:, None, None] * jnp.eye(size, dtype=dtype)[None]
        )
        return jax.scipy.linalg.cho_solve((factor, True), right[..., None])[..., 0]

    def block(after: Array, bucket: Bucket) -> tuple[Array, Array]:
        root = jnp.sqrt(bucket.weights)
        seen = problem.features[bucket.others] * root[..., None]
        target = (bucket.values - problem.offsets[bucket.others]) * root
        shares = jnp.einsum("bd,bdt->bt", bucket.weights, problem.weights[bucket.others])
        shares += problem.everywhere[None]
        if problem.grams is None:
            # One number per line: with fewer entries than features, the system of the entries
            # (seen seen^T + p I) a = target, x = seen^T a, is the smaller one.
            share = problem.ridge + jnp.sum(shares, axis=1)
            capacity = seen.shape[1]
            size = min(capacity, q)
            added = share[:, None, None] * jnp.eye(size, dtype=dtype)[None]
            if capacity < q:
                a = solve(after, jnp.einsum("bdp,bep->bde", seen, seen) + added, target)
                x = jnp.einsum("bdp,bd->bp", seen, a)
                return x[0, 0], x
        else:
            eye = jnp.eye(q, dtype=dtype)[None]
            added = problem.ridge * eye + jnp.einsum("bt,tpq->bpq", shares, problem.grams)
        right = jnp.einsum("bdp,bd->bp", seen, target)
        x = solve(after, jnp.einsum("bdp,bdq->bpq", seen, seen) + added, right)
        return x[0, 0], x

    return lines.lines_of([x for _, x in in_turn(block, list(lines.buckets), dtype)])
