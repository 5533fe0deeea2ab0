"""All factorisations that could have made a table, by label noise: Gibbs sampling of depth two.

The labels have Gaussian noise, each column with a level of its own, and the layers Gaussian priors,
which are weight decay as a probability. Given one layer, the lines of the other are independent
Gaussians: their mean is the step of alternating exact minimisation, and noise on the labels with as
much on the penalty makes a draw of it. The means and precisions of the priors and the levels of the
noise are drawn as well (normal, Wishart and gamma, all vague), so that nothing is chosen on held-out
entries: Salakhutdinov and Mnih 2008, with biases, noise by column, and overrelaxed draws.

Lines are drawn by XLA from `LineBuckets`, as an accelerator wants them, or in machine code from
`CompressedLines`, several times as fast on a CPU; the few numbers of the priors by NumPy.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from .._buckets import Bucket, LineBuckets, in_turn
from ._compressed import CompressedLines, draw_compressed

Lines = LineBuckets | CompressedLines

# What a direction keeps of squares over all lines without data: small, so that it can vanish, and not
# so small that it cannot come back.
_SCALE = 0.2
# How many entries' worth of belief there is that columns are equally noisy.
_EVEN = 4.0
# The largest precision of the noise, in units of the data's: what float32 can tell from none.
_LARGEST_PRECISION = 1e5
# Entries predicted at once.
_GATHERED = 2**13


class State(NamedTuple):
    """One draw: factors that end with the bias, their priors, and the noise of each column.

    `noise_level` is the precision that columns without entries would have.
    """

    rows: Float[np.ndarray, "m q"]
    columns: Float[np.ndarray, "n q"]
    row_mean: Float[np.ndarray, " q"]
    column_mean: Float[np.ndarray, " q"]
    row_precision: Float[np.ndarray, "q q"]
    column_precision: Float[np.ndarray, "q q"]
    noise_precision: Float[np.ndarray, " n"]
    noise_level: np.float32


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
    return State(rows, columns, mean, mean, precision, precision, noise, noise[0])


def draw_lines(
    lines: Lines,
    other: Float[np.ndarray, "n q"],
    own: Float[np.ndarray, "m q"],
    mean: Float[np.ndarray, " q"],
    precision: Float[np.ndarray, "q q"],
    noise: tuple[Float[np.ndarray, " m"], Float[np.ndarray, " n"]],
    biased: bool,
    over: float,
    normal: Float[np.ndarray, "m q"],
) -> tuple[Float[np.ndarray, "m q"], Float[np.ndarray, "m q"], Float[np.ndarray, " m"]]:
    """Every line's conditional mean given the other side, a draw, and its squared residuals.

    An entry's noise has the precision noise[0] of its line times noise[1] of its place in it; the
    squares are weighted by the latter. The draw lies on the other side of the mean from `own`, with
    correlation -over (Adler 1981): the distribution is the same, and averages of successive draws
    vary less.
    """
    if isinstance(lines, CompressedLines):
        return draw_compressed(lines, other, own, mean, precision, noise, biased, over, normal)
    arrays = (other, own, mean, precision, noise, np.float32(biased), np.float32(over), normal)
    means, draws, squares = draw_bucketed(lines, *jax.tree.map(jnp.asarray, arrays))
    return np.asarray(means), np.asarray(draws), np.asarray(squares)


@eqx.filter_jit
def draw_bucketed(
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
    """`draw_lines` by XLA, arrays in float32."""
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
    kept = jnp.ones((1, q), dtype).at[:, -1].set(biased)
    return found[:, :q] * kept, found[:, q:-1] * kept, found[:, -1]


def sweep(
    by_row: Lines,
    by_column: Lines,
    degrees: Float[np.ndarray, " n"],
    state: State,
    biased: bool,
    over: float,
    random: np.random.Generator,
) -> tuple[State, Float[np.ndarray, "m q"], float]:
    """The next draw, the rows' means given the columns it began with, and its mean square residual.

    `degrees` are the columns' numbers of entries.
    """
    (m, q), n = state.rows.shape, len(state.columns)
    ones = np.ones(m, np.float32)
    means, rows, _ = draw_lines(
        by_row,
        state.columns,
        state.rows,
        state.row_mean,
        state.row_precision,
        (ones, state.noise_precision),
        biased,
        over,
        random.standard_normal((m, q), np.float32),
    )
    _, columns, squares = draw_lines(
        by_column,
        rows,
        state.columns,
        state.column_mean,
        state.column_precision,
        (state.noise_precision, ones),
        biased,
        over,
        random.standard_normal((n, q), np.float32),
    )
    row_mean, row_precision = drawn_prior(rows, random)
    column_mean, column_precision = drawn_prior(columns, random)
    if not biased:
        row_mean[-1] = column_mean[-1] = 0
    noise, level = drawn_noise(squares, degrees, state.noise_level, random)
    priors = row_mean, column_mean, row_precision, column_precision
    square = float(np.sum(squares, dtype=float) / np.sum(degrees))
    return State(rows, columns, *priors, noise, level), means, square


def drawn_prior(
    factors: Float[np.ndarray, "m q"], random: np.random.Generator
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, "q q"]]:
    """Mean and precision given the lines' factors: normal and Wishart, one line's worth of prior."""
    m, q = factors.shape
    factors = factors.astype(float)
    centre = np.sum(factors, axis=0) / (1 + m)
    scatter = factors.T @ factors - (1 + m) * np.outer(centre, centre) + _SCALE * np.eye(q)
    # Bartlett: root root^T is Wishart, of m + q + 1 degrees of freedom and the scatter's inverse.
    bartlett = np.tril(random.normal(size=(q, q)), -1)
    bartlett[np.diag_indices(q)] = np.sqrt(random.chisquare(m + q + 1 - np.arange(q)))
    lower = np.linalg.cholesky(scatter)
    root = scipy.linalg.solve_triangular(lower, bartlett, lower=True, trans="T")
    spread = lower @ scipy.linalg.solve_triangular(
        bartlett, random.normal(size=q), lower=True, trans="T"
    )
    mean = centre + spread / (1 + m) ** 0.5
    return mean.astype(np.float32), (root @ root.T).astype(np.float32)


def drawn_noise(
    squares: Float[np.ndarray, " n"],
    degrees: Float[np.ndarray, " n"],
    level: np.floating,
    random: np.random.Generator,
) -> tuple[Float[np.ndarray, " n"], np.float32]:
    """Columns' precisions given the squares of their residuals, and what they have in common.

    Gamma numbers around the level; one over it is a gamma number, whose scale the precisions are.
    """
    noise = random.gamma((_EVEN + degrees) / 2) / (0.5 * _EVEN / level + 0.5 * squares)
    noise = np.minimum(noise, _LARGEST_PRECISION).astype(np.float32)
    common = 0.5 * _EVEN * np.sum(noise) / random.gamma(1 + _EVEN * len(degrees) / 2)
    return noise, np.float32(common)


def moments(
    draws: Draws, rows: np.ndarray, columns: np.ndarray
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Mean and variance over the draws of the entries at (rows_i, columns_i)."""
    mean, variance = np.empty(len(rows)), np.empty(len(rows))
    # In parts whose factors stay in the cache.
    for begin in range(0, len(rows), _GATHERED):
        part = slice(begin, begin + _GATHERED)
        i, j = rows[part], columns[part]
        values = np.empty((len(draws.rows), len(i)))
        for k, (left, right) in enumerate(zip(draws.rows, draws.columns, strict=True)):
            a, b = left.take(i, axis=0), right.take(j, axis=0)
            values[k] = np.einsum("ek,ek->e", a[:, :-1], b[:, :-1]) + a[:, -1] + b[:, -1]
        mean[part], variance[part] = values.mean(axis=0), values.var(axis=0)
    return mean, variance
