"""All factorisations that could have made a table, by label noise: Gibbs sampling of depth two.

The labels have Gaussian noise and the layers Gaussian priors, which are the penalty as a
probability. Given one layer, the lines of the other are independent Gaussians: their mean is the
step of alternating exact minimisation, and noise on the labels with as much on the penalty makes a
draw of it. The precisions of the priors, matrices, and the noise level are drawn as well (Wishart and
gamma, both vague), so that nothing is chosen on held-out entries: Salakhutdinov and Mnih 2008, with
biases and with lines held by weight.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .alternating import Table
from .buckets import Bucket, LineBuckets, in_turn

# What a direction keeps of squares over all lines without data: small, so that it can vanish, and not
# so small that it cannot come back.
_SCALE = 0.2


class State(NamedTuple):
    """One draw: factors that end with the bias, the precisions of their priors and of the noise."""

    rows: Float[Array, "m q"]
    columns: Float[Array, "n q"]
    row_precision: Float[Array, "q q"]
    column_precision: Float[Array, "q q"]
    noise_precision: Float[Array, ""]


class Draws(NamedTuple):
    """S draws. `rows` are conditional means given the columns, which average better than draws."""

    rows: Float[np.ndarray, "s m q"]
    columns: Float[np.ndarray, "s n q"]
    row_precision: Float[np.ndarray, "s q q"]
    column_precision: Float[np.ndarray, "s q q"]
    noise_precision: Float[np.ndarray, " s"]


class Chances(NamedTuple):
    """What the precisions are drawn from: Bartlett factors (q, q), and a gamma number for the noise."""

    row_precision: Float[Array, "q q"]
    column_precision: Float[Array, "q q"]
    noise_precision: Float[Array, ""]


class LineWeights(NamedTuple):
    """How strongly the prior holds each line; their mean is one. `biased`: whether there are biases."""

    rows: Float[Array, " m"]
    columns: Float[Array, " n"]
    biased: Float[Array, ""]


def first_state(shape: tuple[int, int], width: int, random: np.random.Generator) -> State:
    """Small random columns; the rows are drawn from them.

    Little noise and a weak prior: from too close a fit the chain comes down in a few sweeps, while
    directions that have vanished come back slowly.
    """
    m, n = shape
    columns = random.normal(0, 0.1, (n, width + 1)).astype(np.float32)
    columns[:, -1] = 0
    precision = np.eye(width + 1, dtype=np.float32)
    rows = np.zeros((m, width + 1), np.float32)
    return State(*(jnp.asarray(x) for x in (rows, columns, precision, precision, np.float32(10))))


@eqx.filter_jit
def line_means_and_draws(
    lines: LineBuckets,
    other: Float[Array, "n q"],
    precision: Float[Array, "q q"],
    weights: Float[Array, " m"],
    noise_precision: Float[Array, ""],
    biased: Float[Array, ""],
    normal: Float[Array, "m q"],
) -> tuple[Float[Array, "m q"], Float[Array, "m q"]]:
    """Every line's conditional mean given the other side, and a draw made from standard normals."""
    q, dtype = other.shape[1], other.dtype
    features, offsets = _seen_by_lines(other, biased)
    parts = lines.rows_of(jnp.concatenate([normal, weights[:, None]], axis=1))

    def block(after: Array, part: tuple[Bucket, Array]) -> tuple[Array, Array]:
        bucket, given = part
        z, weight = given[:, :q], given[:, q:]
        root = jnp.sqrt(bucket.weights * noise_precision)
        seen = features[bucket.others] * root[..., None]
        target = (bucket.values - offsets[bucket.others]) * root
        # A line that is padding has no weight; it only has to be factorised.
        held = jnp.where(weight > 0, weight, 1.0)[..., None]
        system = jnp.einsum("bdp,bdq->bpq", seen, seen) + held * precision[None] + after
        factor = jnp.linalg.cholesky(system)
        right = jnp.einsum("bdp,bd->bp", seen, target)[..., None]
        half = jax.lax.linalg.triangular_solve(factor, right, left_side=True, lower=True)
        x = jax.lax.linalg.triangular_solve(
            factor,
            jnp.concatenate([half, half + z[..., None]], axis=2),
            left_side=True,
            lower=True,
            transpose_a=True,
        )
        return x[0, 0, 0], jnp.concatenate([x[..., 0], x[..., 1]], axis=1)

    solved = in_turn(block, list(zip(lines.buckets, parts, strict=True)), dtype)
    both = lines.lines_of([x for _, x in solved])
    unbiased = jnp.ones(q, dtype).at[-1].set(biased)
    return both[:, :q] * unbiased[None], both[:, q:] * unbiased[None]


@eqx.filter_jit
def sweep(
    table: Table, weights: LineWeights, state: State, chances: Chances, key: PRNGKeyArray
) -> tuple[State, Float[Array, "m q"], Float[Array, ""]]:
    """The next draw, the rows' means given the columns it began with, and its mean square residual."""
    m, n = table.shape
    normal = jax.random.normal(key, (m + n, state.columns.shape[1]), state.columns.dtype)
    means, rows = line_means_and_draws(
        table.by_row,
        state.columns,
        state.row_precision,
        weights.rows,
        state.noise_precision,
        weights.biased,
        normal[:m],
    )
    _, columns = line_means_and_draws(
        table.by_column,
        rows,
        state.column_precision,
        weights.columns,
        state.noise_precision,
        weights.biased,
        normal[m:],
    )
    squares = _squared_error(table, rows, columns, weights.biased)

    def precision(bartlett: Array, factors: Array, weight: Array) -> Array:
        scatter = factors.T @ (weight[:, None] * factors)
        eye = jnp.eye(len(scatter), dtype=factors.dtype)
        lower = jnp.linalg.cholesky(scatter + _SCALE * eye)
        root = jax.scipy.linalg.solve_triangular(lower.T, bartlett, lower=False)
        return root @ root.T

    drawn = State(
        rows,
        columns,
        precision(chances.row_precision, rows, weights.rows),
        precision(chances.column_precision, columns, weights.columns),
        chances.noise_precision / (1 + 0.5 * squares),
    )
    return drawn, means, squares / table.count


def standard_chances(
    random: np.random.Generator, shape: tuple[int, int], count: float, width: int
) -> Chances:
    """Chances for factors of this shape and so many entries."""
    q = width + 1

    def bartlett(lines: int) -> jax.Array:
        factor = np.tril(random.normal(size=(q, q)), -1)
        factor[np.diag_indices(q)] = np.sqrt(random.chisquare(lines + q + 1 - np.arange(q)))
        return jnp.asarray(factor, jnp.float32)

    noise = jnp.asarray(random.gamma(1 + count / 2), jnp.float32)
    return Chances(bartlett(shape[0]), bartlett(shape[1]), noise)


def _seen_by_lines(other: Array, biased: Array) -> tuple[Array, Array]:
    """The other side's features and biases, with the zeros of padding: a line's own bias sees a one."""
    return (
        jnp.pad(other.at[:, -1].set(biased), [(0, 1), (0, 0)]),
        jnp.pad(other[:, -1], (0, 1)),
    )


def _squared_error(table: Table, rows: Array, columns: Array, biased: Array) -> Array:
    """The sum of the squared residuals."""
    features, offsets = _seen_by_lines(columns, biased)

    def block(part: tuple[Bucket, Array]) -> Array:
        bucket, x = part
        fitted = jnp.einsum("bdq,bq->bd", features[bucket.others], x) + offsets[bucket.others]
        return jnp.sum(bucket.weights * (bucket.values - fitted) ** 2)

    parts = zip(table.by_row.buckets, table.by_row.rows_of(rows), strict=True)
    return jnp.sum(jnp.stack([jnp.sum(jax.lax.map(block, part)) for part in parts]))


@eqx.filter_jit
def moments(
    draws: Draws, rows: Float[Array, " N"] | Array, columns: Array
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Mean and variance over the draws of the entries at (rows_i, columns_i)."""

    def add(carry: tuple[Array, Array], draw: tuple[Array, Array]) -> tuple[tuple, None]:
        left, right = draw[0][rows], draw[1][columns]
        value = jnp.sum(left[:, :-1] * right[:, :-1], axis=1) + left[:, -1] + right[:, -1]
        return (carry[0] + value, carry[1] + value**2), None

    zero = jnp.zeros(rows.shape, jnp.float32)
    pairs = (jnp.asarray(draws.rows), jnp.asarray(draws.columns))
    (first, second), _ = jax.lax.scan(add, (zero, zero), pairs)
    count = len(draws.noise_precision)
    mean = first / count
    return mean, jnp.maximum(second / count - mean**2, 0.0)
