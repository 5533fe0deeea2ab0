"""The compiled training loop: one program for all optimisers, for one run or many at once.

The program advances to any step; where it stops is an argument, so that a run cut into pieces, or
resumed, computes bit for bit what it would have in one. Nothing leaves the device between records.
The number of a step is the same for all runs, so that under `vmap` no loop has to wait or select.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from .._order import after
from ..measurements import AbstractMeasurements
from ..network import DeepLinear
from ._minibatches import draw_minibatches
from ._optimizers import AbstractOptimizer
from ._quantities import Quantity, error_against

# Random numbers of so many steps are drawn at once.
_STRETCH = 256
NEVER = np.iinfo(np.int32).max


class Problem(eqx.Module):
    """What does not change in a run."""

    A: AbstractMeasurements
    y: Float[Array, " N"]
    optimizer: AbstractOptimizer
    key: Key[Array, "*runs"]
    truth: Float[Array, "m n"] | None


class State(eqx.Module):
    """Where a run stands: all that a checkpoint has to keep, besides the number of the step."""

    network: DeepLinear
    memory: Any
    history: dict[str, Array]
    lost_at: Int[Array, "*runs"]  # the first step whose loss was not finite
    sound: DeepLinear  # at the last record at which all was finite
    reached: Bool[Array, "*runs"]  # what `until` asks was true at some record


class Plan(eqx.Module):
    """What a run records and when it ends; part of the program."""

    steps: int = eqx.field(static=True)
    record_every: int = eqx.field(static=True)
    quantities: tuple[tuple[str, Quantity], ...] = eqx.field(static=True)
    until: tuple[tuple[str, float], ...] = eqx.field(static=True)

    @property
    def records(self) -> int:
        """Records of a whole run: the start, every `record_every` steps, and the end."""
        return 1 + -(-self.steps // self.record_every)

    def step_of_record(self) -> np.ndarray:
        """The step of each record."""
        return np.minimum(np.arange(self.records) * self.record_every, self.steps)

    def measured(self, network: DeepLinear, problem: Problem) -> dict[str, Array]:
        """One record."""
        found: dict[str, Array] = {}
        for name, quantity in self.quantities:
            value = jnp.asarray(quantity(network, problem.A, problem.y))
            # Whole numbers have no NaN for records that are not there.
            inexact = jnp.issubdtype(value.dtype, jnp.inexact)
            found[name] = value if inexact else value.astype(problem.y.dtype)
            # One batch of factorisations at a time (decision 3).
            network = jax.tree.map(partial(after, found[name]), network)
        if problem.truth is not None:
            found["test_error"] = error_against(network, problem.truth)
        return found

    def ended(self, record: Mapping[str, Array]) -> Array:
        """Whether each quantity of `until` is at or below its bound (never, if there is none)."""
        if not self.until:
            return jnp.asarray(False)
        return jnp.all(jnp.stack([jnp.all(record[name] <= bound) for name, bound in self.until]))


def first_state(plan: Plan, problem: Problem, network: DeepLinear) -> State:
    """The state before the first step, its record made."""
    record = plan.measured(network, problem)
    history = {
        name: jnp.full((plan.records, *value.shape), jnp.nan, value.dtype).at[0].set(value)
        for name, value in record.items()
    }
    memory = problem.optimizer.start(network, problem.A, problem.y)
    lost_at = jnp.where(_finite(record), NEVER, 0).astype(jnp.int32)
    return State(network, memory, history, lost_at, network, plan.ended(record))


def _finite(record: Mapping[str, Array]) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in record.values()]))


def advance(plan: Plan, problem: Problem, state: State, step: Array, stop: Array) -> State:
    """The state at step `stop`, from the state at `step`."""
    A, y, optimizer = problem.A, problem.y, problem.optimizer
    batch_size, epochs, noise = optimizer.chance(A.count)
    every = plan.record_every

    def stretch(carry: tuple[State, Array]) -> tuple[State, Array]:
        state, first = carry
        next_record = jnp.minimum((first // every + 1) * every, plan.steps)
        end = jnp.minimum(jnp.minimum(stop, next_record), first + _STRETCH)
        minibatches = draw_minibatches(
            problem.key, first, _STRETCH, A.count, batch_size, epochs, noise, y.dtype
        )

        def one(t: Array, inner: tuple[DeepLinear, Any, Array]) -> tuple[DeepLinear, Any, Array]:
            network, memory, lost_at = inner
            network, memory, value = optimizer.step(
                network, memory, A, y, minibatches.at(t - first)
            )
            lost = jnp.where(jnp.isfinite(value), NEVER, t).astype(jnp.int32)
            return network, memory, jnp.minimum(lost_at, lost)

        inner = (state.network, state.memory, state.lost_at)
        network, memory, lost_at = jax.lax.fori_loop(first, end, one, inner)
        state = eqx.tree_at(
            lambda s: (s.network, s.memory, s.lost_at),
            state,
            (network, memory, lost_at),
            is_leaf=lambda x: x is None,
        )
        state = jax.lax.cond(end == next_record, recorded, lambda s, _: s, state, end)
        return state, end

    def recorded(state: State, at: Array) -> State:
        record = plan.measured(state.network, problem)
        lost_at = jnp.where(_finite(record), state.lost_at, jnp.minimum(state.lost_at, at))
        # Among many runs those that have reached what they should only wait for the others.
        sound = (lost_at == NEVER) & ~state.reached
        number = -(-at // every)
        history = {
            name: state.history[name].at[number].set(jnp.where(sound, value, jnp.nan))
            for name, value in record.items()
        }
        last = jax.tree.map(lambda new, old: jnp.where(sound, new, old), state.network, state.sound)
        reached = state.reached | (sound & plan.ended(record))
        return State(state.network, state.memory, history, lost_at, last, reached)

    state, _ = jax.lax.while_loop(lambda carry: carry[1] < stop, stretch, (state, step))
    return state
