"""Noisy missing entries at scale: alternating exact minimisation over the layers.

    (1/N) sum over observed (a, b) of (W[a, b] + mean + r_a + c_b - y_ab)^2
        + strength * (penalty(W_1, ..., W_L) + penalty of the biases r, c)

is quadratic in each layer. The last layer falls into one small system per row, the first into one
per column (solved together, bucketed by degree, see `buckets`); an inner layer is solved by
conjugate gradients. At depth 2 with `Flatness` this is ALS-WR (Zhou et al. 2008), with
`WeightDecay` plain regularised ALS; neither needs to know the rank.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..network import DeepLinear
from .buckets import Bucket, LineBuckets, in_turn
from .penalties import AbstractPenalty, Flatness, WeightDecay

_INNER_STEPS = 12


class Table(eqx.Module):
    """Observed entries, centred and scaled, bucketed both ways."""

    by_row: LineBuckets
    by_column: LineBuckets
    count: Float[Array, ""]  # the total weight N

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the table."""
        return len(self.by_row.place), len(self.by_column.place)


class BiasedNetwork(eqx.Module):
    """W[a, b] + r_a + c_b."""

    network: DeepLinear
    row_bias: Float[Array, " m"]
    column_bias: Float[Array, " n"]


class Fit(NamedTuple):
    """A fit and how it ended."""

    model: BiasedNetwork
    objective: Array
    sweeps: Array


class LineProblem(NamedTuple):
    """What a line's own least-squares problem needs to know about all other lines.

    `features` (n + 1, q) end with a column of ones for the line's bias, `offsets` (n + 1,) are the
    other side's biases, `weights` (n + 1, t) and `grams` (t, q, q) make up the line's penalty: the sum
    over its entries b and over t of weights[b, t] * x^T grams[t] x, on top of x^T ridge x. The last
    row of each is zero: it is where padding points.
    """

    features: Array
    offsets: Array
    weights: Array
    grams: Array
    ridge: Array


def check_penalty(penalty: AbstractPenalty) -> None:
    """Raise TypeError for a penalty whose layer problems are not known here."""
    if not isinstance(penalty, Flatness | WeightDecay):
        raise TypeError(
            f"`penalty` is a {type(penalty).__name__}; the completion of tables knows Flatness() and "
            "WeightDecay()."
        )


def last_layer_problem(
    model: BiasedNetwork, penalty: AbstractPenalty, strength: Array, count: Array
) -> LineProblem:
    """The problem of one row of the last layer and its bias, all other parameters held."""
    lowers = model.network.lowers()
    below = lowers[-1]
    assert below is not None
    width, n = below.shape
    dtype = below.dtype
    features = jnp.concatenate([below.T, jnp.ones((n, 1), dtype)], axis=1)
    if isinstance(penalty, Flatness):
        # 2 strength sum_b sum_{j<L} ||Q_j[:, b]||^2 ||B_j^T x||^2 with B_j = W_{L-1} ... W_{j+1}.
        weights = jnp.stack(
            [jnp.ones(n, dtype) if Q is None else jnp.sum(Q**2, axis=0) for Q in lowers[:-1]], axis=1
        )
        inner = jnp.eye(width, dtype=dtype)
        grams = [inner]
        for layer in model.network.layers[-2:0:-1]:
            inner = inner @ layer
            grams.append(inner @ inner.T)
        grams = [jnp.pad(gram, (0, 1)) for gram in grams[::-1]]
        # The bias is a rank-one term of its own: its flatness is twice its number of entries.
        grams.append(jnp.zeros((width + 1, width + 1), dtype).at[width, width].set(1.0))
        weights = jnp.concatenate([weights, jnp.ones((n, 1), dtype)], axis=1)
        ridge = jnp.zeros((width + 1, width + 1), dtype)
        stacked = 2 * strength * jnp.stack(grams)
    else:
        weights, stacked = jnp.zeros((n, 0), dtype), jnp.zeros((0, width + 1, width + 1), dtype)
        ridge = strength * count * jnp.eye(width + 1, dtype=dtype)
    one_more = [(0, 1), (0, 0)]
    return LineProblem(
        jnp.pad(features, one_more),
        jnp.pad(model.column_bias, (0, 1)),
        jnp.pad(weights, one_more),
        stacked,
        ridge,
    )


def solve_lines(lines: LineBuckets, problem: LineProblem) -> Float[Array, "lines q"]:
    """The minimiser of each line's own problem, zero for a line without entries."""
    q = problem.features.shape[1]
    dtype = problem.features.dtype
    floor = 10 * jnp.finfo(dtype).eps
    eye = jnp.eye(q, dtype=dtype)[None]

    def block(after: Array, bucket: Bucket) -> tuple[Array, Array]:
        seen = problem.features[bucket.others]
        target = bucket.values - problem.offsets[bucket.others]
        weighted = seen * bucket.weights[..., None]
        shares = jnp.einsum("bd,bdt->bt", bucket.weights, problem.weights[bucket.others])
        system = problem.ridge[None] + jnp.einsum("bt,tpq->bpq", shares, problem.grams)
        system = system + jnp.einsum("bdp,bdq->bpq", weighted, seen)
        level = after + floor * jnp.maximum(jnp.trace(system, axis1=1, axis2=2), 1.0) / q
        factor = jnp.linalg.cholesky(system + level[:, None, None] * eye)
        right = jnp.einsum("bdp,bd->bp", weighted, target)
        x = jax.scipy.linalg.cho_solve((factor, True), right[..., None])[..., 0]
        return x[0, 0], x

    return lines.lines_of([x for _, x in in_turn(block, list(lines.buckets), dtype)])


def _transposed(model: BiasedNetwork) -> BiasedNetwork:
    layers = tuple(layer.T for layer in model.network.layers[::-1])
    return BiasedNetwork(DeepLinear(layers), model.column_bias, model.row_bias)


def _solve_last_layer(
    model: BiasedNetwork,
    lines: LineBuckets,
    penalty: AbstractPenalty,
    strength: Array,
    count: Array,
    biased: bool,
) -> BiasedNetwork:
    problem = last_layer_problem(model, penalty, strength, count)
    if not biased:
        problem = problem._replace(features=problem.features.at[:, -1].set(0.0))
    solved = solve_lines(lines, problem)
    layers = (*model.network.layers[:-1], solved[:, :-1])
    row_bias = solved[:, -1] if biased else model.row_bias
    return BiasedNetwork(DeepLinear(layers), row_bias, model.column_bias)


def _solve_inner_layer(
    model: BiasedNetwork,
    j: int,
    table: Table,
    penalty: AbstractPenalty,
    strength: Array,
) -> BiasedNetwork:
    """Layer j (counted from 0) by conjugate gradients, started where it stands."""
    layers = model.network.layers

    def whole(layer: Array) -> BiasedNetwork:
        network = DeepLinear((*layers[:j], layer, *layers[j + 1 :]))
        return BiasedNetwork(network, model.row_bias, model.column_bias)

    def half_objective(layer: Array) -> Array:
        return 0.5 * objective(whole(layer), table, penalty, strength)

    gradient, hessian = jax.linearize(jax.grad(half_objective), layers[j])
    step, _ = jax.scipy.sparse.linalg.cg(hessian, -gradient, maxiter=_INNER_STEPS, tol=1e-3)
    return whole(layers[j] + step)


def objective(
    model: BiasedNetwork, table: Table, penalty: AbstractPenalty, strength: Array
) -> Float[Array, ""]:
    """The function that the sweeps decrease, times N."""
    left, right = model.network.factors()
    problem = last_layer_problem(model, penalty, strength, table.count)
    features = jnp.pad(right.T, [(0, 1), (0, 0)])
    uppers, lowers = model.network.uppers(), model.network.lowers()
    m, n = table.shape
    dtype = left.dtype
    row_weights = [jnp.ones(m, dtype) if P is None else jnp.sum(P**2, axis=1) for P in uppers]
    column_weights = [jnp.ones(n, dtype) if Q is None else jnp.sum(Q**2, axis=0) for Q in lowers]
    # The biases as two rank-one terms of depth 2: r_a^2 + 1 and 1 + c_b^2.
    row_weights += [model.row_bias**2, jnp.ones(m, dtype)]
    column_weights += [jnp.ones(n, dtype), model.column_bias**2]
    across = jnp.pad(jnp.stack(column_weights, axis=1), [(0, 1), (0, 0)])
    along = jnp.stack(row_weights, axis=1)
    own_rows = table.by_row.rows_of(jnp.concatenate([left, model.row_bias[:, None], along], axis=1))
    k = left.shape[1]
    share = 2 * strength if isinstance(penalty, Flatness) else jnp.zeros((), dtype)

    def block(after: Array, pair: tuple[Bucket, Array]) -> tuple[Array, None]:
        bucket, own = pair
        fit = jnp.einsum("bdk,bk->bd", features[bucket.others], own[:, :k])
        residual = bucket.values - problem.offsets[bucket.others] - own[:, k : k + 1] - fit
        flat = jnp.einsum("bdt,bt->bd", across[bucket.others], own[:, k + 1 :])
        return after + jnp.sum(bucket.weights * (residual**2 + share * flat)), None

    pairs = list(zip(table.by_row.buckets, own_rows, strict=True))
    total = jnp.sum(jnp.stack([s for s, _ in in_turn(jax.checkpoint(block), pairs, dtype)]))
    if isinstance(penalty, Flatness):
        return total
    decay = jnp.sum(jnp.stack([jnp.sum(layer**2) for layer in model.network.layers]))
    biases = jnp.sum(model.row_bias**2) + jnp.sum(model.column_bias**2)
    return total + strength * table.count * (decay + biases)


@eqx.filter_jit
def alternate(
    model: BiasedNetwork,
    table: Table,
    penalty: AbstractPenalty,
    strength: Float[Array, ""],
    tolerance: Float[Array, ""],
    max_sweeps: Array,
    biased: bool = True,
) -> Fit:
    """Sweep over the layers until the objective falls by less than `tolerance` in a sweep."""

    def sweep(carry: tuple) -> tuple:
        model, now, _, sweeps = carry
        model = _solve_last_layer(model, table.by_row, penalty, strength, table.count, biased)
        for j in range(model.network.depth - 2, 0, -1):
            model = _solve_inner_layer(model, j, table, penalty, strength)
        other = _solve_last_layer(
            _transposed(model), table.by_column, penalty, strength, table.count, biased
        )
        model = _transposed(other)
        return model, objective(model, table, penalty, strength), now, sweeps + 1

    def falling(carry: tuple) -> Array:
        _, now, before, sweeps = carry
        return (sweeps < max_sweeps) & (now < (1 - tolerance) * before)

    start = objective(model, table, penalty, strength)
    initial = (model, start, jnp.full_like(start, jnp.inf), jnp.asarray(0))
    model, now, _, sweeps = jax.lax.while_loop(falling, sweep, initial)
    return Fit(model, now / table.count, sweeps)
