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
import numpy as np
from jaxtyping import Array, Float

from ...flatness import change_basis
from ...network import DeepLinear
from ...penalties import AbstractPenalty, Flatness, WeightDecay
from .._buckets import Bucket, LineBuckets, in_turn, line_buckets

_INNER_STEPS = 12
_HISTORY = 256


class Table(eqx.Module):
    """Observed entries, centred and scaled, bucketed both ways."""

    by_row: LineBuckets
    by_column: LineBuckets
    count: Float[Array, ""]  # the total weight N

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the table."""
        return len(self.by_row.place), len(self.by_column.place)


def entry_table(
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    used: np.ndarray,
    shape: tuple[int, int],
    width: int,
) -> Table:
    """Entries in both layouts; those not `used` have no weight, so that shapes do not depend on it."""
    weights = used.astype(np.float32)
    return Table(
        line_buckets(rows, columns, values, weights, shape, width),
        line_buckets(columns, rows, values, weights, shape[::-1], width),
        jnp.float32(weights.sum()),
    )


def with_all_entries(table: Table) -> Table:
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
    return Table(by_row, used(table.by_column, m), count)


class BiasedNetwork(eqx.Module):
    """W[a, b] + r_a + c_b."""

    network: DeepLinear
    row_bias: Float[Array, " m"]
    column_bias: Float[Array, " n"]


class Fit(NamedTuple):
    """A fit, the objective after each of its sweeps (NaN beyond the last), and their number."""

    model: BiasedNetwork
    history: Array
    sweeps: Array


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


def check_penalty(penalty: AbstractPenalty) -> None:
    """Raise TypeError for a penalty whose layer problems are not known here."""
    if not isinstance(penalty, Flatness | WeightDecay):
        raise TypeError(
            f"`penalty` is a {type(penalty).__name__}; the completion of tables knows Flatness() and "
            "WeightDecay()."
        )


def last_layer_problem(
    model: BiasedNetwork,
    penalty: AbstractPenalty,
    strength: Array,
    count: Array,
    biased: bool = True,
    smoothing: float | Array = 0.0,
) -> LineProblem:
    """The problem of one row of the last layer and its bias, all other parameters held."""
    lowers = model.network.lowers()
    below = lowers[-1]
    assert below is not None
    width, n = below.shape
    dtype = below.dtype
    features = jnp.concatenate([below.T, jnp.full((n, 1), float(biased), dtype)], axis=1)
    grams, ridge = None, jnp.zeros((), dtype)
    if isinstance(penalty, WeightDecay):
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
        squares = [_ones_or_squares(Q, n, dtype, axis=0) for Q in lowers[:-1]]
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
    smoothing: Array,
) -> BiasedNetwork:
    problem = last_layer_problem(model, penalty, strength, count, biased, smoothing)
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
    smoothing: Array,
) -> BiasedNetwork:
    """Layer j (counted from 0) by conjugate gradients, started where it stands."""
    layers = model.network.layers

    def whole(layer: Array) -> BiasedNetwork:
        network = DeepLinear((*layers[:j], layer, *layers[j + 1 :]))
        return BiasedNetwork(network, model.row_bias, model.column_bias)

    def half_objective(layer: Array) -> Array:
        return 0.5 * objective(whole(layer), table, penalty, strength, smoothing)

    gradient, hessian = jax.linearize(jax.grad(half_objective), layers[j])
    step, _ = jax.scipy.sparse.linalg.cg(hessian, -gradient, maxiter=_INNER_STEPS, tol=1e-3)
    return whole(layers[j] + step)


def objective(
    model: BiasedNetwork,
    table: Table,
    penalty: AbstractPenalty,
    strength: Array,
    smoothing: float | Array = 0.0,
) -> Float[Array, ""]:
    """The function that the sweeps decrease, times N."""
    left, right = model.network.factors()
    features = jnp.pad(right.T, [(0, 1), (0, 0)])
    offsets = jnp.pad(model.column_bias, (0, 1))
    uppers, lowers = model.network.uppers(), model.network.lowers()
    m, n = table.shape
    dtype = left.dtype
    row_weights = [_ones_or_squares(P, m, dtype, axis=1) for P in uppers]
    column_weights = [_ones_or_squares(Q, n, dtype, axis=0) for Q in lowers]
    # The biases as two rank-one terms of depth 2: r_a^2 + 1 and 1 + c_b^2.
    row_weights += [model.row_bias**2, jnp.ones(m, dtype)]
    column_weights += [jnp.ones(n, dtype), model.column_bias**2]
    across = jnp.pad(jnp.stack(column_weights, axis=1), [(0, 1), (0, 0)])
    along = jnp.stack(row_weights, axis=1)
    own_rows = table.by_row.rows_of(jnp.concatenate([left, model.row_bias[:, None], along], axis=1))
    k = left.shape[1]
    share = 2 * strength if isinstance(penalty, Flatness) else jnp.zeros((), dtype)
    evenly = jnp.sum(across, axis=0) @ jnp.sum(along, axis=0) * (smoothing * table.count / (m * n))
    observed = (1 - smoothing) * share

    def block(after: Array, pair: tuple[Bucket, Array]) -> tuple[Array, None]:
        bucket, own = pair
        fit = jnp.einsum("bdk,bk->bd", features[bucket.others], own[:, :k])
        residual = bucket.values - offsets[bucket.others] - own[:, k : k + 1] - fit
        flat = jnp.einsum("bdt,bt->bd", across[bucket.others], own[:, k + 1 :])
        return after + jnp.sum(bucket.weights * (residual**2 + observed * flat)), None

    pairs = list(zip(table.by_row.buckets, own_rows, strict=True))
    total = jnp.sum(jnp.stack([s for s, _ in in_turn(jax.checkpoint(block), pairs, dtype)]))
    if isinstance(penalty, Flatness):
        return total + share * evenly
    decay = jnp.sum(jnp.stack([jnp.sum(layer**2) for layer in model.network.layers]))
    biases = jnp.sum(model.row_bias**2) + jnp.sum(model.column_bias**2)
    return total + strength * table.count * (decay + biases)


def _in_best_basis(
    network: DeepLinear, table: Table, penalty: AbstractPenalty, smoothing: Array
) -> DeepLinear:
    """The same matrix with a smaller penalty: each hidden layer in its best basis.

    Alternating minimisation finds these bases too, but only in the limit of many sweeps.
    """
    m, n = table.shape
    evenly = smoothing * table.count / (m * n)
    for j in range(network.depth - 1):
        lower, upper = network.layers[j], network.layers[j + 1]
        if isinstance(penalty, Flatness):
            uppers, lowers = network.uppers(), network.lowers()
            above = _ones_or_squares(uppers[j + 1], table.shape[0], lower.dtype, axis=1)
            below = _ones_or_squares(lowers[j], table.shape[1], lower.dtype, axis=0)
            P, Q = uppers[j], lowers[j + 1]
            assert P is not None
            assert Q is not None
            by_row = (1 - smoothing) * table.by_row.sums(below) + evenly * jnp.sum(below)
            by_column = (1 - smoothing) * table.by_column.sums(above) + evenly * jnp.sum(above)
            X = (P * by_row[:, None]).T @ P
            Y = (Q * by_column[None]) @ Q.T
        else:
            X, Y = upper.T @ upper, lower @ lower.T
        network = change_basis(network, j, X, Y)
    return network


def _ones_or_squares(factor: Array | None, size: int, dtype: jnp.dtype, axis: int) -> Array:
    """Squared norms of a factor's rows or columns; of the identity's where it is None."""
    return jnp.ones(size, dtype) if factor is None else jnp.sum(factor**2, axis=axis)


@eqx.filter_jit
def alternate(
    model: BiasedNetwork,
    table: Table,
    penalty: AbstractPenalty,
    strength: Float[Array, ""],
    tolerance: Float[Array, ""],
    max_sweeps: Array,
    biased: bool = True,
    smoothing: float | Array = 0.0,
) -> Fit:
    """Sweep over the layers until the objective falls by less than `tolerance` in a sweep.

    A share `smoothing` of the flatness is measured as if the entries were spread evenly over the table:
    at depth 2 the weighted trace norm with smoothed marginals (Foygel and Srebro 2011).
    """
    smoothing = jnp.asarray(smoothing, strength.dtype)

    def sweep(carry: tuple) -> tuple:
        model, now, _, sweeps, history = carry
        model = _solve_last_layer(
            model, table.by_row, penalty, strength, table.count, biased, smoothing
        )
        for j in range(model.network.depth - 2, 0, -1):
            model = _solve_inner_layer(model, j, table, penalty, strength, smoothing)
        other = _solve_last_layer(
            _transposed(model), table.by_column, penalty, strength, table.count, biased, smoothing
        )
        model = _transposed(other)
        network = _in_best_basis(model.network, table, penalty, smoothing)
        model = BiasedNetwork(network, model.row_bias, model.column_bias)
        after = objective(model, table, penalty, strength, smoothing)
        history = history.at[sweeps].set(after / table.count, mode="drop")
        return model, after, now, sweeps + 1, history

    def falling(carry: tuple) -> Array:
        _, now, before, sweeps, _ = carry
        return (sweeps < max_sweeps) & (now < (1 - tolerance) * before)

    start = objective(model, table, penalty, strength, smoothing)
    history = jnp.full(_HISTORY, jnp.nan, start.dtype)
    initial = (model, start, jnp.full_like(start, jnp.inf), jnp.asarray(0), history)
    model, _, _, sweeps, history = jax.lax.while_loop(falling, sweep, initial)
    return Fit(model, history, sweeps)
