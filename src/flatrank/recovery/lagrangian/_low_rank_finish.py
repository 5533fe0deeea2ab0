"""From a nearly low-rank iterate to a low-rank interpolator at round-off: Gauss-Newton."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from ...measurements import AbstractMeasurements
from ...network import DeepLinear


class RankGap(NamedTuple):
    """Where the singular values of an iterate fall off: after `rank`, by a factor `ratio`."""

    rank: Array
    ratio: Array


def rank_gap(singular_values: Float[Array, " k"]) -> RankGap:
    """The largest ratio of consecutive singular values above round-off."""
    floor = 100 * jnp.finfo(singular_values.dtype).eps * singular_values[0]
    s = jnp.maximum(singular_values, floor)
    s = jnp.concatenate([s, floor[None]])
    ratios = s[:-1] / s[1:]
    # A ratio to the end of the list says nothing when the width itself cut the list.
    ratios = ratios.at[-1].set(1.0)
    where = jnp.argmax(ratios)
    return RankGap(where + 1, ratios[where])


def interpolate_at_rank(
    svd: tuple[Float[Array, "m k"], Float[Array, " k"], Float[Array, "k n"]],
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    rank: Array,
    max_steps: int = 20,
    max_inner_steps: int = 2000,
) -> tuple[DeepLinear, Array]:
    """The matrix of given rank nearest to the measurements, from the best of that rank.

    Gauss-Newton on two factors (U, V): each step is the least-norm solution of the linearised
    measurements by LSMR, halved while the residual grows, and the factors are balanced again after
    it. Shapes do not depend on the rank: columns beyond it are zero, and have zero derivative, so
    that least-norm steps keep them zero. Returns the depth-2 network and ||A(W) - y|| / ||y||.
    """
    u, s, vt = svd
    s = jnp.where(jnp.arange(len(s)) < rank, s, 0.0)
    eps = float(jnp.finfo(y.dtype).eps)
    y_norm = jnp.linalg.norm(y)

    def residual(pair: DeepLinear) -> Array:
        return A.apply_network(pair) - y

    def relative(pair: DeepLinear) -> Array:
        return jnp.linalg.norm(residual(pair)) / y_norm

    def moved(pair: DeepLinear, step: DeepLinear, fraction: Array) -> DeepLinear:
        return jax.tree.map(lambda x, dx: x + fraction * dx, pair, step)

    # lineax's LSMR (0.1.1) works in the default type only, which float32 data need not have.
    default = jnp.zeros(0).dtype

    def wide(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.astype(default), tree)

    def narrow(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.astype(y.dtype), tree)

    def gauss_newton(carry: tuple) -> tuple:
        pair, before, _, steps = carry
        value, jvp = jax.linearize(residual, pair)
        operator = lx.FunctionLinearOperator(
            lambda direction: wide(jvp(narrow(direction))), jax.eval_shape(lambda: wide(pair))
        )
        solver = lx.LSMR(rtol=eps**0.5, atol=0.0, max_steps=max_inner_steps)
        step = narrow(lx.linear_solve(operator, wide(-value), solver, throw=False).value)

        def too_long(state: tuple) -> Array:
            fraction, after = state
            return (after > before) & (fraction > 1e-3)

        def halve(state: tuple) -> tuple:
            fraction = 0.5 * state[0]
            return fraction, relative(moved(pair, step, fraction))

        one = jnp.ones((), y.dtype)
        fraction, after = jax.lax.while_loop(
            too_long, halve, (one, relative(moved(pair, step, one)))
        )
        better = after < before
        after_pair = DeepLinear.from_svd(*moved(pair, step, fraction).svd(), depth=2)
        pair = jax.tree.map(lambda new, old: jnp.where(better, new, old), after_pair, pair)
        return pair, jnp.where(better, after, before), before, steps + 1

    def unfinished(carry: tuple) -> Array:
        _, now, before, steps = carry
        return (steps < max_steps) & (now > 20 * eps) & (now < 0.9 * before)

    start = DeepLinear.from_svd(u, s, vt, depth=2)
    first = relative(start)
    carry = (start, first, jnp.full_like(first, jnp.inf), 0)
    pair, now, _, _ = jax.lax.while_loop(unfinished, gauss_newton, carry)
    return pair, now
