"""All factorisations that could have made a table, by label noise: Gibbs sampling of depth two.

The labels have Gaussian noise, each column with a level of its own, and the layers Gaussian priors,
which are weight decay as a probability. Given one layer, the lines of the other are independent
Gaussians: their mean is the step of alternating exact minimisation, and noise on the labels with as
much on the penalty makes a draw of it. The means and precisions of the priors and the levels of the
noise are drawn as well (normal, Wishart and gamma, all vague), so that nothing is chosen on held-out
entries: Salakhutdinov and Mnih 2008, with biases, noise by column, and overrelaxed draws.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ...entries import Entries
from ._draws import State
from ._given import Given
from ._lines import Lines, arranged, draw_lines

# What a direction keeps of squares over all lines without data: small, so that it can vanish, and not
# so small that it cannot come back.
_SCALE = 0.2
# How many entries' worth of belief there is that columns are equally noisy.
_EVEN = 4.0
# The largest precision of the noise, in units of the data's: what float32 can tell from none.
_LARGEST_PRECISION = 1e5


class BothSides(NamedTuple):
    """A table by its rows and by its columns, and the columns' numbers of entries."""

    by_row: Lines
    by_column: Lines
    # Counted once, not in every sweep: an accelerator has to give the weights back for it.
    degrees: Float[np.ndarray, " n"]


def both_sides(entries: Entries, used: np.ndarray, width: int) -> BothSides:
    """The used entries, of variance one, arranged for networks of a width."""
    by_row, by_column = (
        arranged(entries, entries.unit, used, axis=axis, width=width) for axis in (0, 1)
    )
    return BothSides(by_row, by_column, by_column.degrees())


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


def sweep(
    table: BothSides, state: State, *, biased: bool, over: float, random: np.random.Generator
) -> tuple[State, Float[np.ndarray, "m q"], float]:
    """The next draw, the rows' means given the columns it began with, and its mean square residual."""
    (m, q), n = state.rows.shape, len(state.columns)
    ones = np.ones(m, np.float32)
    own_rows = Given(
        other=state.columns,
        own=state.rows,
        mean=state.row_mean,
        precision=state.row_precision,
        own_noise=ones,
        other_noise=state.noise_precision,
        normal=random.standard_normal((m, q), np.float32),
    )
    means, rows, _ = draw_lines(table.by_row, own_rows, biased=biased, over=over)
    own_columns = Given(
        other=rows,
        own=state.columns,
        mean=state.column_mean,
        precision=state.column_precision,
        own_noise=state.noise_precision,
        other_noise=ones,
        normal=random.standard_normal((n, q), np.float32),
    )
    _, columns, squares = draw_lines(table.by_column, own_columns, biased=biased, over=over)
    row_mean, row_precision = drawn_prior(rows, random)
    column_mean, column_precision = drawn_prior(columns, random)
    if not biased:
        row_mean[-1] = column_mean[-1] = 0
    noise, level = drawn_noise(squares, table.degrees, state.noise_level, random)
    priors = row_mean, column_mean, row_precision, column_precision
    square = float(np.sum(squares, dtype=float) / np.sum(table.degrees))
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
