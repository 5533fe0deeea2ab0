"""One entry: a network trained, and what was recorded on the way."""

import time
import warnings
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._checks import (
    as_function,
    as_keys,
    as_number,
    as_path,
    as_positive,
    found,
    is_traced,
    positive_integer,
)
from .._progress import OnStep, silent
from .._renamed import nothing_left, taken_over
from ..flatness import check_values, fitting, largest_eigenvalue
from ..measurements import as_measurements
from ..network import DeepLinear, as_network, held_network
from ._checkpoint import Checkpoints, described, fingerprint
from ._flows import AbstractFlow
from ._loop import (
    NEVER,
    Plan,
    Problem,
    State,
    advance,
    first_state,
)
from ._optimizers import as_optimizer
from ._quantities import QUANTITIES, chosen_quantities
from ._run import DivergenceError, Run, TrainingResult

# Seconds that one call of the compiled program is meant to take.
_CALL = 0.5
# What a group of runs may touch in a step: about a core's second-level cache.
_GROUP_BYTES = 2**21
# Room in 32 bits for a record and a block of draws more.
_MOST_STEPS = 2**30
_QUANTITIES = ("loss", "trace", "nuclear_norm")
_WITHOUT_TRACE = {*QUANTITIES, "test_error"} - {"trace", "layer_traces", "tangent_slope"}


def train(
    network: Any,
    A: Any,
    y: Any,
    optimizer: Any,
    *,
    steps: int,
    key: Any = None,
    record: Any = _QUANTITIES,
    record_every: int | None = None,
    truth: Any = None,
    until: Any = None,
    on_step: Any = silent,
    checkpoint: Any = None,
    checkpoint_minutes: Any = 5.0,
    throw: bool = True,
    **renamed: Any,
) -> Run:
    """Train a network for `steps` steps and record what is asked every `record_every` of them.

    `optimizer` is `GradientDescent`, `LabelNoise`, `SAM`, `GradientFlow` or `FlatFlow`. `record` names
    quantities ("loss", "trace", "layer_traces", "largest_eigenvalue", "tangent_slope", "nuclear_norm",
    "effective_rank", "singular_values" (the ten largest), "singular_value_speeds", "weight_decay"; with
    `truth`, the matrix (m, n), "test_error" is always there), or maps names to functions of (network,
    A, y). `record_every` is a hundredth of the steps by default. The run ends early at the first record
    at which all quantities named in `until` are at or below their bounds.

    *Many runs at once*: all layers (with an axis more), any of the optimiser's hyperparameters and the
    keys may have a leading axis of runs; all else is shared. A single key gives all runs the same
    chance; pass `jax.random.split(key, runs)` for independent ones.

    `on_step(what, fraction done)` is called about twice a second. With `checkpoint`, a
    folder, the run is saved every `checkpoint_minutes` and at its end, and a call with the same
    arguments goes on from there, bit for bit as if it had not been interrupted.

    A run whose loss is no longer finite raises `DivergenceError` with the step, the likely cause and
    the run up to the last sound record; with `throw=False`, or among other runs, it is returned so,
    with `result` `TrainingResult.diverged`. Works under `jit`, `vmap` and forward differentiation,
    where `until`, `on_step` and `checkpoint` cannot act and nothing is raised.

    Raises TypeError or ValueError for arguments that do not fit, ValueError for a folder with the
    checkpoints of another run, FileExistsError for a file in its place, and MemoryError where an
    optimiser's arrays would not fit.

    >>> import jax
    >>> import flatrank as fr
    >>> truth = jax.numpy.outer(jax.numpy.arange(1.0, 4.0), jax.numpy.ones(3))
    >>> A = fr.gaussian_measurements(jax.random.key(0), 20, (3, 3))
    >>> start = fr.DeepLinear.gaussian(jax.random.key(1), (3, 3), depth=2)
    >>> descent = fr.dynamics.GradientDescent(0.02)
    >>> run = fr.train(start, A, A.apply(truth), descent, steps=400, record_every=100)
    >>> run.history["step"]
    array([  0, 100, 200, 300, 400])
    >>> bool(run.history["loss"][-1] < 1e-6 * run.history["loss"][0])
    True
    """
    A = as_measurements(A)
    y = check_values(y, A)
    held = held_network(network)
    network = as_network(network) if held is None else held
    optimizer = as_optimizer(optimizer)
    key = None if key is None else as_keys(key)
    steps = positive_integer(steps, "steps")
    on_step = as_function(_progress(on_step, renamed, steps), "on_step", "of (what, fraction)")
    checkpoint = None if checkpoint is None else as_path(checkpoint, "checkpoint")
    checkpoint_minutes = as_positive(
        checkpoint_minutes, "checkpoint_minutes", "pass minutes, such as 5.0", zero=True
    )
    runs = _number_of_runs(network, optimizer, key)
    one = network if runs is None else _run_of(network, 0, 2)
    one, A = fitting(one, A)
    if one.layers[0].dtype != y.dtype:
        raise TypeError(
            f"`network` has data type {one.layers[0].dtype} and the measurements have {y.dtype}: "
            "convert one of them with `.astype`."
        )
    optimizer = jax.tree.map(lambda x: jnp.asarray(x, y.dtype), optimizer)
    # Said here, before anything is compiled.
    batch_size, _, noise = optimizer.chance(A.count)
    if (batch_size is not None or noise is not None) and key is None:
        raise ValueError("`key` is None and the optimiser draws at random: pass jax.random.key(0).")
    # Runs that share the network share its check.
    for k in range(len(network.layers[0]) if network.layers[0].ndim == 3 else 1):
        optimizer.check(_run_of(network, k, 2), A, y)
    if record_every is None:
        record_every = max(1, steps // 100)
    record_every = positive_integer(record_every, "record_every")
    if steps > _MOST_STEPS or record_every > _MOST_STEPS:
        raise ValueError(f"`steps` is {steps}: steps are counted up to {_MOST_STEPS:,}.")
    quantities, truth = chosen_quantities(record, truth, A.shape)
    names = {*quantities, *(() if truth is None else ("test_error",))}
    if not names:
        raise ValueError("`record` is empty: name at least one quantity, for example 'loss'.")
    if not isinstance(until, Mapping | None):
        raise TypeError(
            f"`until` must map quantities to their bounds, as {{'loss': 1e-6}}, found {found(until)}."
        )
    # Part of the program: as Python's own numbers.
    bounds = tuple(
        (name, as_number(bound, f"until[{name!r}]", "pass the bound at which the run ends"))
        for name, bound in (until or {}).items()
    )
    for name, _ in bounds:
        if name not in names:
            raise ValueError(
                f"`until` bounds {name!r}, which `record` does not name: add it there."
            )
    plan = Plan(steps, record_every, tuple(quantities.items()), bounds)
    # Exact traces are cheap once the ensemble's second moment is prepared; that itself is not.
    asked = A
    if not is_traced(A) and (optimizer.needs_trace or names - _WITHOUT_TRACE):
        A = A.prepared(one.depth, one.width)
    key = jax.random.key(0) if key is None else key
    problem = Problem(A, y, optimizer, key, truth)
    axes = None if runs is None else _axes(problem)

    if is_traced(problem, network):
        state = _first(plan, problem, network, axes)
        zero, end = jnp.asarray(0, jnp.int32), jnp.asarray(steps, jnp.int32)
        return _as_run(plan, problem, _advance(plan, problem, state, zero, end, axes), steps, runs)

    store = None
    if checkpoint is not None:
        settings = {
            "problem": fingerprint(asked, y, truth),
            # Another form of the second moments rounds otherwise.
            "form of the moments, which free memory decides": str(jax.tree.structure(A)),
            "network": fingerprint(network),
            "optimizer": described(optimizer),
            "key": fingerprint(key),
            "steps": steps,
            "record_every": plan.record_every,
            "record": described(dict(record) if isinstance(record, Mapping) else sorted(names)),
            "until": sorted(bounds),
        }
        store = Checkpoints(checkpoint, settings)
    try:
        state, done = _run_loop(
            plan, problem, network, axes, on_step, store, 60 * checkpoint_minutes
        )
    finally:
        if store is not None:
            store.close()
    run = _as_run(plan, problem, state, done, runs)
    return _told(run, problem, network, runs, throw)


def _progress(on_step: OnStep, renamed: dict[str, Any], steps: int) -> OnStep:
    """What tells the progress; `callback(step)`, its name in release 0.1, is wrapped."""
    found = taken_over(renamed, "callback", "on_step", on_step, silent)
    nothing_left(renamed, "train")
    if found is on_step:
        return on_step
    return lambda what, fraction: found(round(fraction * steps)) if found is not None else None


def _run_loop(
    plan: Plan,
    problem: Problem,
    network: DeepLinear,
    axes: Any,
    on_step: OnStep,
    store: Checkpoints | None,
    save_every: float,
) -> tuple[State, int]:
    """The state at the end, and the step there: the program called again and again."""
    state, done = _first(plan, problem, network, axes), 0
    if store is not None and (found := store.latest(state)) is not None:
        done, state = found
    saved, size, compiled = time.monotonic(), 1, False

    def over() -> bool:
        return done == plan.steps or bool(jnp.all(state.reached | (state.lost_at != NEVER)))

    while not over():
        # Where a run may end early no piece goes past a record, so that it always ends at the same.
        next_record = min((done // plan.record_every + 1) * plan.record_every, plan.steps)
        stop = min(done + size, next_record if plan.until else plan.steps)
        begun = time.monotonic()
        ends = (jnp.asarray(done, jnp.int32), jnp.asarray(stop, jnp.int32))
        state = jax.block_until_ready(_advance(plan, problem, state, *ends, axes))
        now = time.monotonic()
        if compiled:
            rate = (stop - done) / max(now - begun, 1e-9)
            size = int(min(max(1, rate * _CALL), 10 * size))
        done, compiled = stop, True
        on_step(f"step {done:,} of {plan.steps:,}", done / plan.steps)
        if store is not None and now - saved >= save_every and not over():
            store.save(done, state)
            saved = time.monotonic()
    if store is not None and (found is None or found[0] != done):
        store.save(done, state)
    return state, done


def _as_run(plan: Plan, problem: Problem, state: State, done: int, runs: int | None) -> Run:
    """The run up to step `done`, without the records that were not made."""
    step = plan.step_of_record()
    # In the order in which they were asked for, which compiled programs do not keep.
    names = [*dict(plan.quantities), *(() if problem.truth is None else ("test_error",))]
    history: dict[str, Any] = {name: state.history[name] for name in names}
    if not is_traced(state):
        history = {name: np.asarray(values) for name, values in history.items()}
        records = int(np.sum(step <= done)) if done < plan.steps else plan.records
        # Up to the last record that any run has.
        there = np.flatnonzero(np.any(_sound(history, runs), axis=0))
        records = min(records, int(there[-1]) + 1 if len(there) else 0)
        cut = (slice(None), slice(records)) if runs else slice(records)
        step = step[:records]
        history = {name: values[cut] for name, values in history.items()}
    try:
        rate: Any = problem.optimizer.flatness_rate(problem.A.count)
    except ValueError:
        times = {}
    else:
        rate = rate if is_traced(rate) else np.asarray(rate)
        passed = step.astype(problem.y.dtype)
        times = {"time": rate[..., None] * passed if jnp.ndim(rate) else rate * passed}
    lost = (state.lost_at != NEVER) & ~state.reached
    ended = lost | state.reached
    result = (
        _result(state.reached, lost) if runs is None else jax.vmap(_result)(state.reached, lost)
    )
    network = jax.tree.map(
        lambda sound, last: jnp.where(ended.reshape((*ended.shape, 1, 1)), sound, last),
        state.sound,
        state.network,
    )
    return Run(
        network, {"step": step, **times, **history}, result, jnp.where(lost, state.lost_at, -1)
    )


def _sound(history: Mapping[str, Any], runs: int | None) -> np.ndarray:
    """Which records are there, (runs, records)."""
    values = [np.asarray(v) for name, v in history.items() if name not in ("step", "time")]
    values = [v[None] if runs is None else v for v in values]
    return np.all([np.isfinite(v).all(axis=tuple(range(2, v.ndim))) for v in values], axis=0)


def _result(reached: Array, lost: Array) -> Any:
    # Any: the members are items, which type checkers take for the sentences.
    results: Any = TrainingResult
    result = results.where(reached, results.reached, results.completed)
    return results.where(lost, results.diverged, result)


def _told(run: Run, problem: Problem, start: DeepLinear, runs: int | None, throw: bool) -> Run:
    """The run, or a DivergenceError or a warning about those that diverged."""
    lost = np.flatnonzero(np.atleast_1d(run.diverged_at) >= 0)
    if not len(lost) or not throw:
        return run
    number = int(lost[0])
    recorded = run.history["step"][_sound(run.history, runs)[number if runs else 0]]
    which = "" if runs is None else f"{len(lost)} of {runs} runs diverged; in run {number} "
    if len(recorded):
        at_start, at_end = (
            float(largest_eigenvalue(_run_of(network, number, 2), problem.A, problem.y))
            for network in (start, run.network)
        )
        cause = problem.optimizer.likely_cause(at_start, at_end, number)
        at = int(np.atleast_1d(run.diverged_at)[number])
        sentence = (
            f"{which}the loss was not finite at step {at} (last sound record: step {recorded[-1]}); "
            f"{cause}."
        )
    else:
        sentence = (
            f"{which}the loss or another recorded quantity is not finite at the start: check the scale "
            "of `network` and of the measurements."
        )
    sentence = sentence[0].upper() + sentence[1:]
    if runs is None or len(lost) == runs:
        raise DivergenceError(sentence, run)
    warnings.warn(sentence, stacklevel=3)
    return run


@eqx.filter_jit
def _first(plan: Plan, problem: Problem, network: DeepLinear, axes: Any) -> State:
    if axes is None:
        return first_state(plan, problem, network)
    layers = 0 if network.layers[0].ndim == 3 else None
    mapped = eqx.filter_vmap(
        lambda problem, network: first_state(plan, problem, network), in_axes=(axes, layers)
    )
    return mapped(problem, network)


@eqx.filter_jit
def _advance(
    plan: Plan, problem: Problem, state: State, step: Array, stop: Array, axes: Any
) -> State:
    if axes is None:
        return advance(plan, problem, state, step, stop)
    own, shared = eqx.partition(problem, jax.tree.map(lambda axis: axis == 0, axes, is_leaf=_none))
    runs = state.lost_at.shape[0]
    # Groups of runs one after the other: all at once would go through memory in every step.
    fitting = max(1, _GROUP_BYTES // _bytes_of_a_step(problem, state))
    if isinstance(problem.optimizer, AbstractFlow):
        fitting = 1  # adaptive steps: together, all runs would take the slowest one's
    group = max(size for size in range(1, runs + 1) if runs % size == 0 and size <= fitting)
    return jax.lax.map(
        lambda one: advance(plan, eqx.combine(one[0], shared), one[1], step, stop),
        (own, state),
        batch_size=group,
    )


def _bytes_of_a_step(problem: Problem, state: State) -> int:
    """What one run reads and writes in a step that other runs do not: minibatch, layers, gradient."""
    batch_size = problem.optimizer.chance(problem.A.count)[0]
    per_run = sum(leaf.size // len(leaf) for leaf in jax.tree.leaves(state.network))
    own = 0
    if batch_size is not None:
        arrays = [leaf for leaf in jax.tree.leaves(problem.A) if leaf.ndim]
        each = sum(leaf.size // len(leaf) for leaf in arrays if len(leaf) == problem.A.count)
        own = batch_size * each
    return (own + 3 * per_run) * problem.y.dtype.itemsize


def _none(x: Any) -> bool:
    return x is None


def _number_of_runs(network: Any, optimizer: Any, key: Any) -> int | None:
    """The common length of the leading axes of runs, None if there is none."""
    found: dict[str, set[int]] = {}
    for name, tree, single in (("network", network, 2), ("optimizer", optimizer, 0)):
        arrays = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_array_like(leaf)]
        sizes = {jnp.shape(leaf)[0] for leaf in arrays if jnp.ndim(leaf) == single + 1}
        if sizes:
            found[name] = sizes
    if key is not None and key.ndim == 1:
        found["key"] = {key.shape[0]}
    sizes = set().union(*found.values())
    if len(sizes) > 1:
        told = ", ".join(f"`{name}` {sorted(sizes)}" for name, sizes in found.items())
        raise ValueError(
            f"Arguments have different numbers of runs: {told}; give all the same number, or one only."
        )
    return sizes.pop() if sizes else None


def _run_of(tree: Any, number: int, single: int) -> Any:
    """One run's part of a tree whose leaves have `single` axes, or one more."""
    return jax.tree.map(lambda x: x[number] if jnp.ndim(x) == single + 1 else x, tree)


def _axes(problem: Problem) -> Problem:
    """Which leaves of the problem have an axis of runs, as `in_axes` of `vmap`."""
    shared = jax.tree.map(lambda _: None, problem)
    return eqx.tree_at(
        lambda p: (p.optimizer, p.key),
        shared,
        (
            jax.tree.map(lambda x: 0 if jnp.ndim(x) == 1 else None, problem.optimizer),
            0 if problem.key.ndim == 1 else None,
        ),
        is_leaf=_none,
    )
