"""Cells of a sweep computed: those of one program together, one row of results a cell."""

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import memory_budget
from ..dynamics import (
    SAM,
    AbstractOptimizer,
    GradientDescent,
    LabelNoise,
    TrainingResult,
    train,
)
from ..flatness import trace_of_hessian
from ..measurements import AbstractMeasurements, EntryMeasurements
from ..network import DeepLinear
from ..norms import effective_rank, nuclear_norm
from ..penalties import Flatness, WeightDecay
from ..problems import MOST_MASKS, draw_covering_entries, draw_measurements, draw_truth
from ..recovery import Auto, Lagrangian, Result, recover
from ._settings import Cell

_LARGEST_BATCH = 16
# The small programs that draw problems keep memory maps, of which a process may have few.
_FORGET_AFTER = 50
# Parts of a seed's key: far from 0 and 1, which the truth and the measurements take.
_NOISE, _NETWORK, _CHANCE = 1001, 1002, 1003
NO_MASK = (
    f"No mask was found with at least as many entries as the rank in every row and column, in "
    f"{MOST_MASKS} draws: nothing was computed."
)
SETTINGS = {
    "method": "VARCHAR",
    "ensemble": "VARCHAR",
    "m": "INTEGER",
    "n": "INTEGER",
    "rank": "INTEGER",
    "count": "INTEGER",
    "oversampling": "DOUBLE",
    "noise": "DOUBLE",
    "depth": "INTEGER",
    "width": "INTEGER",
    "penalty": "VARCHAR",
    "max_outer_steps": "INTEGER",
    "max_inner_steps": "INTEGER",
    "optimizer": "VARCHAR",
    "learning_rate": "DOUBLE",
    "label_noise": "DOUBLE",
    "radius": "DOUBLE",
    "batch_size": "INTEGER",
    "steps": "INTEGER",
    "scale": "DOUBLE",
    "seed": "BIGINT",
}
RESULTS = {
    "error": "DOUBLE",
    "train_loss": "DOUBLE",
    "test_loss": "DOUBLE",
    "trace": "DOUBLE",
    "nuclear_norm": "DOUBLE",
    "effective_rank": "DOUBLE",
    "identified_rank": "INTEGER",
    "successful": "BOOLEAN",
    "result": "VARCHAR",
    "seconds": "DOUBLE",
    "flatrank": "VARCHAR",
    "jax": "VARCHAR",
}
# Names and SQL types of what is kept of a cell. `error` is ||W - M||_F / ||M||_F; `train_loss` the
# loss on the measurements as they were given, errors included; `test_loss` that of a fresh exact
# measurement on average (for missing entries, of those not seen: NULL where all were); `identified_rank`
# the exact rank that `recover` found (0: none).
COLUMNS = {"key": "VARCHAR", **SETTINGS, **RESULTS}


class _Problem(NamedTuple):
    """What differs between the cells of one program; arrays, so that they can be stacked."""

    A: AbstractMeasurements
    y: Float[Array, " N"]
    truth: Float[Array, "m n"]
    noise: Array  # standard deviation of the error in y
    learning_rate: Array  # here and below: zero where the cell has none
    label_noise: Array
    radius: Array
    scale: Array
    network_key: PRNGKeyArray
    key: PRNGKeyArray


def batches(cells: Sequence[Cell]) -> list[tuple[list[Cell], int]]:
    """Cells grouped by program, and cut into batches of one size a program, which is the second item.

    A batch fits into half of the free memory. Raises MemoryError for a cell that does not.
    """
    groups: dict[Cell, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.program, []).append(cell)
    cut: list[tuple[list[Cell], int]] = []
    for group in groups.values():
        needed = _bytes(group[0])
        fitting = memory_budget() // needed
        if fitting == 0:
            cell = group[0]
            raise MemoryError(
                f"{cell.count} measurements of a {cell.m} x {cell.n} matrix ({cell.ensemble}) need "
                f"{needed / 2**30:.1f} GiB, more than half of the free memory: take fewer, or smaller "
                "matrices."
            )
        number = -(-len(group) // min(_LARGEST_BATCH, fitting))
        size = -(-len(group) // number)
        cut.extend((group[at : at + size], size) for at in range(0, len(group), size))
    return cut


def run_batch(cells: Sequence[Cell], size: int) -> list[dict[str, Any]]:
    """The rows of cells of one program, computed in float64; columns as in `COLUMNS`.

    The compiled program is for `size` cells: the last one stands in for those that are missing.
    """
    with _float64():
        found = [_draw(cell) for cell in cells]
        drawn = [(k, problem) for k, problem in enumerate(found) if problem is not None]
        rows = [_row(cell) for cell in cells]
        if not drawn:
            return rows
        program, batch = _prepared(cells[0].program, [problem for _, problem in drawn], size)
        begun = time.perf_counter()
        values, results = jax.block_until_ready(program(batch))
        seconds = (time.perf_counter() - begun) / len(drawn)
        sentences: Any = Result if cells[0].method == "recover" else TrainingResult
        for place, (k, _) in enumerate(drawn):
            rows[k].update({name: _known(values[name][place].item()) for name in values})
            rows[k]["result"] = sentences[jax.tree.map(lambda x, at=place: x[at], results)]
            rows[k]["seconds"] = seconds
    return rows


def _known(value: Any) -> Any:
    """None for what is not finite, and for the -1 of a rank that was not looked for."""
    nothing = not math.isfinite(value) or (isinstance(value, int) and value == -1)
    return None if nothing else value


def _row(cell: Cell) -> dict[str, Any]:
    """The row of a cell of which nothing was computed."""
    return {
        **dict.fromkeys(COLUMNS),
        "key": cell.key,
        **asdict(cell),
        "result": NO_MASK,
        "flatrank": version("flatrank"),
        "jax": version("jax"),
    }


def _draw(cell: Cell) -> _Problem | None:
    """The cell's problem, the same for every depth, penalty and optimiser; None: no mask found."""
    shape, seed = (cell.m, cell.n), jax.random.key(cell.seed)
    truth, key = draw_truth(seed, shape, cell.rank)
    A: AbstractMeasurements | None
    if cell.ensemble == "entries":
        A = draw_covering_entries(key, shape, cell.count, least=cell.rank)
    else:
        A = draw_measurements(key, cell.ensemble, shape, cell.count)
    if A is None:
        return None
    y = A.apply(truth)
    noise = cell.noise * jnp.sqrt(jnp.mean(y**2))
    if cell.noise > 0:
        y = y + noise * jax.random.normal(jax.random.fold_in(seed, _NOISE), y.shape)
    return _Problem(
        A,
        y,
        truth,
        noise,
        jnp.asarray(cell.learning_rate or 0.0),
        jnp.asarray(cell.label_noise or 0.0),
        jnp.asarray(cell.radius or 0.0),
        jnp.asarray(cell.scale or 0.0),
        jax.random.fold_in(seed, _NETWORK),
        jax.random.fold_in(seed, _CHANCE),
    )


def _prepared(
    cell: Cell, problems: list[_Problem], size: int
) -> tuple[jax.stages.Compiled, _Problem]:
    """The program of a batch, and the problems stacked to its size."""
    problems = problems + problems[-1:] * (size - len(problems))
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)
    leaves, structure = jax.tree.flatten(batch)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    if _compiled.cache_info().misses % _FORGET_AFTER == _FORGET_AFTER - 1:
        jax.clear_caches()
    return _compiled(cell, structure, shapes), batch


@functools.lru_cache(maxsize=1)  # programs hold much memory
def _compiled(cell: Cell, structure: Any, shapes: tuple) -> jax.stages.Compiled:
    """The compiled program of a batch of problems with these shapes."""
    solve = _recovered if cell.method == "recover" else _trained
    size = shapes[0].shape[0]

    def run(batch: _Problem) -> tuple[dict[str, Array], Any]:
        return jax.lax.map(
            functools.partial(solve, cell), batch, batch_size=_together(cell.method, size)
        )

    return jax.jit(run).lower(jax.tree.unflatten(structure, shapes)).compile()


def _together(method: str, size: int) -> int:
    """How many cells of a batch take each step together.

    On a CPU the loops of `recover` run one after the other: together each step waits for the slowest
    cell, and both branches of every decision are computed (55 times as long, decision 11).
    """
    return 1 if method == "recover" and jax.default_backend() == "cpu" else size


def _recovered(cell: Cell, problem: _Problem) -> tuple[dict[str, Array], Any]:
    assert cell.depth is not None
    assert cell.max_outer_steps is not None
    assert cell.max_inner_steps is not None
    solution = recover(
        problem.A,
        problem.y,
        cell.depth,
        Flatness() if cell.penalty == "flatness" else WeightDecay(),
        noise=problem.noise if cell.noise > 0 else None,
        width=cell.width,
        method=Auto(lagrangian=Lagrangian(cell.max_outer_steps, cell.max_inner_steps)),
    )
    values = _measured(problem, solution.network)
    rank = solution.rank.astype(int)
    return {**values, "identified_rank": rank, "successful": solution.successful}, solution.result


def _trained(cell: Cell, problem: _Problem) -> tuple[dict[str, Array], Any]:
    assert cell.depth is not None
    assert cell.steps is not None
    unit = DeepLinear.gaussian(problem.network_key, (cell.m, cell.n), cell.depth, cell.width)
    run = train(
        unit.scaled(problem.scale),
        problem.A,
        problem.y,
        _optimizer(cell, problem),
        steps=cell.steps,
        key=problem.key,
        record=("loss",),
        record_every=cell.steps,
    )
    sound = run.diverged_at < 0
    # The last sound record of a run that diverged is its start, of which there is nothing to say.
    values = _measured(problem, run.network)
    values = {name: jnp.where(sound, value, jnp.nan) for name, value in values.items()}
    return {**values, "identified_rank": jnp.asarray(-1), "successful": sound}, run.result


def _optimizer(cell: Cell, problem: _Problem) -> AbstractOptimizer:
    if cell.optimizer == "label-noise":
        return LabelNoise(problem.learning_rate, problem.label_noise, cell.batch_size)
    if cell.optimizer == "sam":
        return SAM(problem.learning_rate, problem.radius, cell.batch_size)
    return GradientDescent(problem.learning_rate, cell.batch_size)


def _measured(problem: _Problem, network: DeepLinear) -> dict[str, Array]:
    """What there is to say about a network that was found."""
    W, A = network.matrix(), problem.A
    difference = W - problem.truth
    error = jnp.linalg.norm(difference)
    test_loss = error**2
    if isinstance(A, EntryMeasurements):
        seen = jnp.zeros(A.shape).at[A.rows, A.columns].set(1.0)
        test_loss = jnp.sum((1 - seen) * difference**2) / (seen.size - A.count)
    return {
        "error": error / jnp.linalg.norm(problem.truth),
        "train_loss": jnp.mean((A.apply(W) - problem.y) ** 2),
        "test_loss": test_loss,
        "trace": trace_of_hessian(network, A),
        "nuclear_norm": nuclear_norm(W),
        # Of the same decomposition, which the compiler makes once.
        "effective_rank": effective_rank(W),
    }


def _bytes(cell: Cell) -> int:
    """What a cell takes at most: measurements with copies, the moment tensor, matrices."""
    entries = cell.m * cell.n
    numbers = 40 * entries + 20 * cell.count
    if cell.ensemble == "gaussian":
        numbers += 4 * cell.count * entries
        if cell.penalty == "flatness" and (cell.depth or 2) > 2:
            numbers += entries**2 // 2
    elif cell.ensemble == "rank-one":
        numbers += 8 * cell.count * (cell.m + cell.n)
    return 8 * numbers


def _float64() -> Any:
    """Double precision within the block, whatever the process computes in."""
    return jax.enable_x64(True)
