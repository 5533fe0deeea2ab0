"""Limited-memory BFGS on a pytree, compiled as one loop around optax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree


class Minimum(NamedTuple):
    """Where a minimisation stopped."""

    point: PyTree
    gradient_norm: Array
    steps: Array


def minimise(
    objective: Callable[[Any], Array],
    start: PyTree,
    max_steps: int,
    gradient_tolerance: Array | float,
    memory: int = 20,
) -> Minimum:
    """Minimise a smooth function by L-BFGS with a zoom line search (optax), from `start`.

    Stops when the norm of the gradient is at most `gradient_tolerance`, after `max_steps` steps, or
    when a step no longer changes the point.
    """
    # One vector instead of a pytree: a third of the operations to compile.
    flat, restore = ravel_pytree(start)

    def flat_objective(x: Array) -> Array:
        return objective(restore(x))

    solver = optax.lbfgs(
        memory_size=memory,
        linesearch=optax.scale_by_zoom_linesearch(
            max_linesearch_steps=20, initial_guess_strategy="one"
        ),
    )
    # The line search ends where it knows value and gradient: they are not computed twice.
    value_and_grad = optax.value_and_grad_from_state(flat_objective)

    def step(carry: tuple) -> tuple:
        x, state, _, steps, _ = carry
        value, gradient = value_and_grad(x, state=state)
        # optax mixes integer types and ranks, which callers may have forbidden.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, state = solver.update(
                gradient, state, x, value=value, grad=gradient, value_fn=flat_objective
            )
        gradient_norm = jnp.linalg.norm(optax.tree.get(state, "grad"))
        return x + updates, state, gradient_norm, steps + 1, jnp.any(updates != 0)

    def unfinished(carry: tuple) -> Array:
        _, _, gradient_norm, steps, moved = carry
        return (gradient_norm > gradient_tolerance) & (steps < max_steps) & moved

    infinity = jnp.asarray(jnp.inf, flat.dtype)
    carry = (flat, solver.init(flat), infinity, jnp.asarray(0), jnp.asarray(True))
    x, _, gradient_norm, steps, _ = jax.lax.while_loop(unfinished, step, carry)
    return Minimum(restore(x), gradient_norm, steps)
