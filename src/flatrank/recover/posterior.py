"""All factorisations that could have made a table, by label noise: Gibbs sampling of depth two.

The labels have Gaussian noise, each column with a level of its own, and the layers Gaussian priors,
which are weight decay as a probability. Given one layer, the lines of the other are independent
Gaussians: their mean is the step of alternating exact minimisation, and noise on the labels with as
much on the penalty makes a draw of it. The means and precisions of the priors and the levels of the
noise are drawn as well (normal, Wishart and gamma, all vague), so that nothing is chosen on held-out
entries: Salakhutdinov and Mnih 2008, with biases, noise by column, and overrelaxed draws.
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
# How many entries' worth of belief there is that columns are equally noisy.
_EVEN = 4.0
# The largest precision of the noise, in units of the data's: what float32 can tell from none.
_LARGEST_PRECISION = 1e5


class State(NamedTuple):
    """One draw: factors that end with the bias, their priors, and the noise of each column.

    `noise_level` is the precision that columns without entries would have.
    """

    rows: Float[Array, "m q"]
    columns: Float[Array, "n q"]
    row_mean: Float[Array, " q"]
    column_mean: Float[Array, " q"]
    row_precision: Float[Array, "q q"]
    column_precision: Float[Array, "q q"]
    noise_precision: Float[Array, " n"]
    noise_level: Float[Array, ""]


class Draws(NamedTuple):
    """S draws. `rows` are conditional means given the columns, which average better than draws."""

    rows: Float[np.ndarray, "s m q"]
    columns: Float[np.ndarray, "s n q"]
    row_mean: Float[np.ndarray, "s q"]
    column_mean: Float[np.ndarray, "s q"]
    row_precision: Float[np.ndarray, "s q q"]
    column_precision: Float[np.ndarray, "s q q"]
    noise_precision: Float[np.ndarray, "s n"]
    noise_level: Float[np.ndarray, " s"]


class Chances(NamedTuple):
    """What priors are drawn from: normals (q,), Bartlett factors (q, q), standard gamma numbers."""

    row_mean: Float[Array, " q"]
    column_mean: Float[Array, " q"]
    row_precision: Float[Array, "q q"]
    column_precision: Float[Array, "q q"]
    noise_precision: Float[Array, " n"]
    noise_level: Float[Array, ""]


def first_state(shape: tuple[int, int], width: int, random: np.random.Generator) -> State:
    """Small random columns; the rows are drawn from them.

    Little noise and a weak prior: from too close a fit the chain comes down in a few sweeps, while
    directions that have vanished come back slowly.
    """
    m, n = shape
    columns = random.normal(0, 0.1, (n, width + 1)).astype(np.float32)
    columns[:, -1] = 0
    precision, mean = np.eye(width + 1, dtype=np.float32), np.zeros(width + 1, np.float32)
    rows, noise = np.zeros((m, width + 1), np.float32), np.full(n, 10, np.float32)
    parts = (rows, columns, mean, mean, precision, precision, noise, noise[0])
    return State(*(jnp.asarray(x) for x in parts))


@eqx.filter_jit
def draw_lines(
    lines: LineBuckets,
    other: Float[Array, "n q"],
    own: Float[Array, "m q"],
    mean: Float[Array, " q"],
    precision: Float[Array, "q q"],
    noise: tuple[Float[Array, " m"], Float[Array, " n"]],
    biased: Float[Array, ""],
    over: Float[Array, ""],
    normal: Float[Array, "m q"],
) -> tuple[Float[Array, "m q"], Float[Array, "m q"], Float[Array, " m"]]:
    """Every line's conditional mean given the other side, a draw, and its squared residuals.

    An entry's noise has the precision noise[0] of its line times noise[1] of its place in it; the
    squares are weighted by the latter. The draw lies on the other side of the mean from `own`, with
    correlation -over (Adler 1981): the distribution is the same, and averages of successive draws
    vary less.
    """
    q, dtype = other.shape[1], other.dtype
    # A line's own bias sees a one, and the other side's biases are taken off; padding sees zeros.
    features = other.at[:, -1].set(biased)
    seen_by = jnp.concatenate([features, other[:, -1:], noise[1][:, None]], axis=1)
    seen_by = jnp.pad(seen_by, [(0, 1), (0, 0)])
    parts = lines.rows_of(jnp.concatenate([normal, own, noise[0][:, None]], axis=1))
    push = precision @ mean

    def block(after: Array, part: tuple[Bucket, Array]) -> tuple[Array, Array]:
        bucket, given = part
        z, before, level = given[:, :q], given[:, q:-1], given[:, -1:]
        near = seen_by[bucket.others]
        root = jnp.sqrt(bucket.weights * near[..., -1])
        target = bucket.values - near[..., q]
        # One product has the system, its right side and the squares of the target.
        seen = jnp.concatenate([near[..., :q], target[..., None]], axis=2) * root[..., None]
        gram = jnp.einsum("bdp,bdq->bpq", seen, seen)
        of_lines, of_target = gram[:, :q, :q], gram[:, :q, q]
        system = level[..., None] * of_lines + precision[None] + after
        right = level * of_target + push[None]
        factor = jnp.linalg.cholesky(system)
        half = jax.lax.linalg.triangular_solve(factor, right[..., None], left_side=True, lower=True)
        x = jax.lax.linalg.triangular_solve(
            factor,
            jnp.concatenate([half, jnp.sqrt(1 - over**2) * z[..., None]], axis=2),
            left_side=True,
            lower=True,
            transpose_a=True,
        )
        centre = x[..., 0]
        drawn = centre + x[..., 1] - over * (before - centre)
        fitted = jnp.einsum("bpq,bq->bp", of_lines, drawn)
        squares = gram[:, q, q] + jnp.sum(drawn * (fitted - 2 * of_target), axis=1)
        squares = jnp.maximum(squares, 0)[:, None]
        return x[0, 0, 0], jnp.concatenate([centre, drawn, squares], axis=1)

    solved = in_turn(block, list(zip(lines.buckets, parts, strict=True)), dtype)
    found = lines.lines_of([x for _, x in solved])
    kept = _kept(q, biased)[None]
    return found[:, :q] * kept, found[:, q:-1] * kept, found[:, -1]


@eqx.filter_jit
def sweep(
    table: Table,
    state: State,
    chances: Chances,
    biased: Float[Array, ""],
    over: Float[Array, ""],
    key: PRNGKeyArray,
) -> tuple[State, Float[Array, "m q"], Float[Array, ""]]:
    """The next draw, the rows' means given the columns it began with, and its mean square residual."""
    m, n = table.shape
    dtype = state.columns.dtype
    normal = jax.random.normal(key, (m + n, state.columns.shape[1]), dtype)
    ones = jnp.ones(m, dtype)
    means, rows, _ = draw_lines(
        table.by_row,
        state.columns,
        state.rows,
        state.row_mean,
        state.row_precision,
        (ones, state.noise_precision),
        biased,
        over,
        normal[:m],
    )
    _, columns, squares = draw_lines(
        table.by_column,
        rows,
        state.columns,
        state.column_mean,
        state.column_precision,
        (state.noise_precision, ones),
        biased,
        over,
        normal[m:],
    )
    noise = chances.noise_precision / (0.5 * _EVEN / state.noise_level + 0.5 * squares)
    noise = jnp.minimum(noise, _LARGEST_PRECISION)
    kept = _kept(rows.shape[1], biased)
    row_mean, row_precision = _drawn_prior(rows, chances.row_mean, chances.row_precision)
    column_mean, column_precision = _drawn_prior(
        columns, chances.column_mean, chances.column_precision
    )
    drawn = State(
        rows,
        columns,
        row_mean * kept,
        column_mean * kept,
        row_precision,
        column_precision,
        noise,
        # One over a gamma number, its scale the columns' precisions.
        0.5 * _EVEN * jnp.sum(noise) / chances.noise_level,
    )
    return drawn, means, jnp.sum(squares) / table.count


def _kept(q: int, biased: Float[Array, ""]) -> Float[Array, " q"]:
    """One for each direction, and for the bias one or, without biases, zero."""
    return jnp.ones(q, biased.dtype).at[-1].set(biased)


def _drawn_prior(factors: Array, normal: Array, bartlett: Array) -> tuple[Array, Array]:
    """Mean and precision given the lines' factors: normal and Wishart, one line's worth of prior."""
    total = 1 + len(factors)
    centre = jnp.sum(factors, axis=0) / total
    scatter = factors.T @ factors - total * jnp.outer(centre, centre)
    lower = jnp.linalg.cholesky(scatter + _SCALE * jnp.eye(len(centre), dtype=factors.dtype))
    root = jax.scipy.linalg.solve_triangular(lower.T, bartlett, lower=False)
    spread = lower @ jax.scipy.linalg.solve_triangular(bartlett.T, normal, lower=False)
    return centre + spread / total**0.5, root @ root.T


def standard_chances(
    random: np.random.Generator, lines: int, degrees: Float[np.ndarray, " n"], width: int
) -> Chances:
    """Chances for so many rows, and columns of so many entries."""
    q = width + 1

    def bartlett(lines: int) -> np.ndarray:
        factor = np.tril(random.normal(size=(q, q)), -1)
        factor[np.diag_indices(q)] = np.sqrt(random.chisquare(lines + q + 1 - np.arange(q)))
        return factor

    parts = (
        random.normal(size=q),
        random.normal(size=q),
        bartlett(lines),
        bartlett(len(degrees)),
        random.gamma((_EVEN + degrees) / 2),
        random.gamma(1 + _EVEN * len(degrees) / 2),
    )
    return Chances(*(jnp.asarray(np.asarray(x, np.float32)) for x in parts))


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
    mean = first / len(draws.rows)
    return mean, jnp.maximum(second / len(draws.rows) - mean**2, 0.0)
