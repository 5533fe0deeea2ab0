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

from ...flatness import change_basis
from ...network import DeepLinear
from ...penalties import Flatness
from .._biased import BiasedNetwork
from .._buckets import LineBuckets
from ._bucketed import BucketedEntries
from ._lines import last_layer_problem, solve_lines
from ._objective import Objective, ones_or_squares

_INNER_STEPS = 12
_HISTORY = 256


class Fit(NamedTuple):
    """A fit, the objective after each of its sweeps (NaN beyond the last), and their number."""

    model: BiasedNetwork
    history: Array
    sweeps: Array


def _transposed(model: BiasedNetwork) -> BiasedNetwork:
    layers = tuple(layer.T for layer in model.network.layers[::-1])
    return BiasedNetwork(DeepLinear(layers), model.column_bias, model.row_bias)


def _solve_last_layer(
    model: BiasedNetwork, lines: LineBuckets, objective: Objective, count: Array
) -> BiasedNetwork:
    problem = last_layer_problem(model, objective, count)
    solved = solve_lines(lines, problem)
    layers = (*model.network.layers[:-1], solved[:, :-1])
    row_bias = solved[:, -1] if objective.biased else model.row_bias
    return BiasedNetwork(DeepLinear(layers), row_bias, model.column_bias)


def _solve_inner_layer(
    model: BiasedNetwork, j: int, table: BucketedEntries, objective: Objective
) -> BiasedNetwork:
    """Layer j (counted from 0) by conjugate gradients, started where it stands."""
    layers = model.network.layers

    def whole(layer: Array) -> BiasedNetwork:
        network = DeepLinear((*layers[:j], layer, *layers[j + 1 :]))
        return BiasedNetwork(network, model.row_bias, model.column_bias)

    def half_objective(layer: Array) -> Array:
        return 0.5 * objective(whole(layer), table)

    gradient, hessian = jax.linearize(jax.grad(half_objective), layers[j])
    step, _ = jax.scipy.sparse.linalg.cg(hessian, -gradient, maxiter=_INNER_STEPS, tol=1e-3)
    return whole(layers[j] + step)


def _in_best_basis(network: DeepLinear, table: BucketedEntries, objective: Objective) -> DeepLinear:
    """The same matrix with a smaller penalty: each hidden layer in its best basis.

    Alternating minimisation finds these bases too, but only in the limit of many sweeps.
    """
    m, n = table.shape
    smoothing = objective.smoothing
    evenly = smoothing * table.count / (m * n)
    for j in range(network.depth - 1):
        lower, upper = network.layers[j], network.layers[j + 1]
        if isinstance(objective.penalty, Flatness):
            uppers, lowers = network.uppers(), network.lowers()
            above = ones_or_squares(uppers[j + 1], table.shape[0], lower.dtype, axis=1)
            below = ones_or_squares(lowers[j], table.shape[1], lower.dtype, axis=0)
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


@eqx.filter_jit
def alternate(
    model: BiasedNetwork,
    table: BucketedEntries,
    objective: Objective,
    *,
    tolerance: Float[Array, ""],
    max_sweeps: Array,
) -> Fit:
    """Sweep over the layers until the objective falls by less than `tolerance` in a sweep."""

    def sweep(carry: tuple) -> tuple:
        model, now, _, sweeps, history = carry
        model = _solve_last_layer(model, table.by_row, objective, table.count)
        for j in range(model.network.depth - 2, 0, -1):
            model = _solve_inner_layer(model, j, table, objective)
        other = _solve_last_layer(_transposed(model), table.by_column, objective, table.count)
        model = _transposed(other)
        network = _in_best_basis(model.network, table, objective)
        model = BiasedNetwork(network, model.row_bias, model.column_bias)
        after = objective(model, table)
        history = history.at[sweeps].set(after / table.count, mode="drop")
        return model, after, now, sweeps + 1, history

    def falling(carry: tuple) -> Array:
        _, now, before, sweeps, _ = carry
        return (sweeps < max_sweeps) & (now < (1 - tolerance) * before)

    start = objective(model, table)
    history = jnp.full(_HISTORY, jnp.nan, start.dtype)
    initial = (model, start, jnp.full_like(start, jnp.inf), jnp.asarray(0), history)
    model, _, _, sweeps, history = jax.lax.while_loop(falling, sweep, initial)
    return Fit(model, history, sweeps)
