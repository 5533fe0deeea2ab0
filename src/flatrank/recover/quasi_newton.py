"""Limited-memory BFGS on a pytree, compiled as one loop around optax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
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
    solver = optax.lbfgs(
        memory_size=memory,
        linesearch=optax.scale_by_zoom_linesearch(
            max_linesearch_steps=20, initial_guess_strategy="one"
        ),
    )
    # The line search ends at a point whose value and gradient it knows: they are not computed twice.
    value_and_grad = optax.value_and_grad_from_state(objective)

    def step(carry: tuple) -> tuple:
        point, state, _, steps, _ = carry
        value, gradient = value_and_grad(point, state=state)
        # optax mixes integer types and ranks, which callers may have forbidden.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, state = solver.update(
                gradient, state, point, value=value, grad=gradient, value_fn=objective
            )
        moved = optax.tree.norm(updates) > 0
        gradient_norm = optax.tree.norm(optax.tree.get(state, "grad"))
        return optax.apply_updates(point, updates), state, gradient_norm, steps + 1, moved

    def unfinished(carry: tuple) -> Array:
        _, _, gradient_norm, steps, moved = carry
        return (gradient_norm > gradient_tolerance) & (steps < max_steps) & moved

    gradient_norm = optax.tree.norm(jax.grad(objective)(start))
    carry = (start, solver.init(start), gradient_norm, jnp.asarray(0), jnp.asarray(True))
    point, _, gradient_norm, steps, _ = jax.lax.while_loop(unfinished, step, carry)
    return Minimum(point, gradient_norm, steps)
