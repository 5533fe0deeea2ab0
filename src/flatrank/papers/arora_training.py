"""Arora et al. 2019: the problems, the training of their networks, and what it goes through."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._progress import OnStep
from ..dynamics import (
    GradientDescent,
    Run,
    mean_square,
    scale_by_global_rms,
    singular_value_speeds,
    train,
)
from ..measurements import AbstractMeasurements
from ..network import DeepLinear
from ..norms import effective_rank, nuclear_norm
from ..plots import BAND, SERIES, Curve, Panel, panels
from ..problems import unit_entries_problem
from ..reports import Claim, highest_mean, largest_of
from ._paper import Finding, Rows

_SMOOTHING, _EPSILON = 0.99, 1e-4
# How often the train loss is compared with where training stops.
_EVERY = 20


def starts_at(side: int, depth: int, scales: tuple[float, ...], seed: int) -> DeepLinear:
    """Layers with entries N(0, s^{2/L} / side), one network (a leading axis) for each scale s."""
    key = jax.random.key(10_000 + seed)
    # Scale one: the entries of the product have standard deviation 1 / sqrt(side).
    unit = DeepLinear.gaussian(key, (side, side), depth, scale=side**-0.5)
    networks = jax.vmap(unit.scaled)(jnp.asarray(scales))
    return jax.tree.map(lambda layer: layer.astype(jnp.float32), networks)


def descent(learning_rate: float, depth: int, side: int) -> GradientDescent:
    """Gradient descent scaled by the root of the running mean of the gradient's squared norm.

    `scale_by_global_rms` takes the mean square over all parameters where the paper's code takes the
    sum: learning rate and epsilon are divided by the root of their number, which makes both the same.
    """
    root = (depth * side * side) ** 0.5
    scaling = scale_by_global_rms(_SMOOTHING, _EPSILON / root)
    return GradientDescent(learning_rate / root, transformation=scaling)


def trained_networks(
    A: AbstractMeasurements,
    truth: np.ndarray,
    starts: DeepLinear,
    learning_rate: float,
    stop_at: float,
    most_steps: int,
) -> tuple[list[DeepLinear], Run]:
    """One trained network for each start, in float32, and the run."""
    y = A.apply(jnp.asarray(truth, jnp.float32))
    depth, side = starts.depth, A.shape[0]
    run = train(
        starts,
        A,
        y,
        descent(learning_rate, depth, side),
        steps=most_steps,
        record=("loss",),
        record_every=_EVERY,
        until={"loss": stop_at},
        throw=False,
    )
    count = len(starts.layers[0])
    return [jax.tree.map(lambda x, k=k: x[k], run.network) for k in range(count)], run


@eqx.filter_jit
def measured(network: DeepLinear, truth: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Relative error, nuclear norm and effective rank, in float64 from the layers on."""
    matrix = jax.tree.map(lambda layer: layer.astype(truth.dtype), network).matrix()
    error = jnp.linalg.norm(matrix - truth) / jnp.linalg.norm(truth)
    return error, nuclear_norm(matrix), effective_rank(matrix)


def singular_values(
    *,
    seed: int,
    on_step: OnStep,
    side: int,
    rank: int,
    measurements: int,
    depths: tuple[int, ...],
    scale: float,
    learning_rate: float,
    steps: int,
    seeds: int,
) -> Finding:
    """The ten largest singular values along training, and their speeds against theorem 3."""
    table = Rows()
    values: dict[int, np.ndarray] = {}
    off: dict[int, np.ndarray] = {}
    scatter: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for k, depth in enumerate(depths):
        every, theory, actual = [], [], []
        for number in range(seeds):
            on_step(f"depth {depth}", (k + number / seeds) / len(depths))
            A, truth = unit_entries_problem("completion", side, rank, measurements, seed + number)
            starts = starts_at(side, depth, (scale,), seed + number)
            run = train(
                jax.tree.map(lambda x: x[0], starts),
                A,
                A.apply(jnp.asarray(truth, jnp.float32)),
                descent(learning_rate, depth, side),
                steps=steps,
                record={
                    "singular_values": lambda network, A, y: network.svd()[1][:10],
                    "theorem": lambda network, A, y: singular_value_speeds(network, A, y)[:10],
                    "speed": _speeds,
                },
            )
            history = run.history
            every.append(history["singular_values"])
            theory.append(history["theorem"][:, :rank])
            actual.append(history["speed"][:, :rank])
            for r in range(10):
                table.add(
                    depth=depth,
                    seed=number,
                    index=r + 1,
                    step=history["step"],
                    singular_value=history["singular_values"][:, r],
                    speed=history["speed"][:, r],
                    speed_by_theorem=history["theorem"][:, r],
                )
        values[depth] = np.stack(every)
        predicted, moving = np.stack(theory), np.stack(actual)
        difference = np.linalg.norm((predicted - moving).reshape(seeds, -1), axis=1)
        off[depth] = difference / np.linalg.norm(moving.reshape(seeds, -1), axis=1)
        scatter[depth] = (predicted.ravel(), moving.ravel())
    step = history["step"]
    drawn = [
        Panel(
            "step",
            "ten largest singular values of W",
            [
                Curve(step, values[depth][:, :, r], None, SERIES[0] if r < rank else "grey")
                for r in range(10)
            ],
            f"depth {depth} (blue: the first {rank}, the rank; grey: the others)",
        )
        for depth in depths
    ]
    ends = np.asarray(
        [min(p.min() for p, _ in scatter.values()), max(p.max() for p, _ in scatter.values())]
    )
    points = [
        Curve(*scatter[depth], f"depth {depth}", SERIES[k], "", ".")
        for k, depth in enumerate(depths)
    ]
    drawn.append(
        Panel(
            "speed by theorem 3",
            "speed under gradient flow (per unit of time)",
            [*points, Curve(ends, ends, "equal", "black", ":")],
            f"the first {rank} singular values, all records",
        )
    )
    claims = _dynamics_claims(values, off, depths, rank)
    title = f"completion, {side} x {side}, rank {rank}, N = {measurements}, {seeds} seeds\n{BAND}"
    return Finding(panels(title, drawn), claims, table.columns())


def _speeds(network: DeepLinear, A: AbstractMeasurements, y: jax.Array) -> jax.Array:
    """d s_r / dt under gradient flow of the layers, u_r^T (dW/dt) v_r: balanced or not."""
    velocity = jax.tree.map(jnp.negative, jax.grad(mean_square)(network, A, y))
    matrix, moving = jax.jvp(DeepLinear.matrix, (network,), (velocity,))
    u, _, vt = jnp.linalg.svd(matrix)
    return jnp.einsum("ir,ij,rj->r", u, moving, vt)[:10]


def _when_half_grown(values: np.ndarray, index: int) -> np.ndarray:
    """s_index / s_1 of each seed where s_1 first is half of what it ends at; (seeds, records, 10)."""
    first = values[:, :, 0]
    at = np.argmax(first >= first[:, -1:] / 2, axis=1)
    seeds = np.arange(len(values))
    return values[seeds, at, index] / first[seeds, at]


def _dynamics_claims(
    values: dict[int, np.ndarray], off: dict[int, np.ndarray], depths: tuple[int, ...], rank: int
) -> tuple[Claim, ...]:
    worst, difference = highest_mean(off)
    tails = {
        depth: np.log10(found[:, -1, rank] / found[:, -1, 0]) for depth, found in values.items()
    }
    deep, remaining = highest_mean({d: tails[d] - tails[depths[0]] for d in depths[1:]})
    small = {depth: np.log10(_when_half_grown(found, rank - 1)) for depth, found in values.items()}
    pairs = itertools.pairwise(depths)
    at, slower = highest_mean({pair: small[pair[1]] - small[pair[0]] for pair in pairs})
    return (
        Claim(
            "Singular values move as theorem 3 says, ds_r/dt = -L (s_r²)^{1 - 1/L} <grad, u_r v_r^T>, "
            "to 5%, although the start is not exactly balanced.",
            f"relative difference of speeds over the whole run, the largest over depths (depth {worst})",
            difference,
            most=0.05,
        ),
        Claim(
            "Depth makes small singular values grow more slowly: when the first is half grown, "
            f"s_{rank} relative to it is smaller with every layer more.",
            f"log10 of s_{rank} / s_1 then: depth {at[1]} less depth {at[0]}, the largest of all "
            "neighbouring depths",
            slower,
            most=0.0,
        ),
        Claim(
            f"Deeper networks than depth {depths[0]} end with smaller singular values beyond the "
            "rank.",
            f"log10 of s_{rank + 1} / s_1 at the end, less that of depth {depths[0]}, the largest over "
            f"depths (depth {deep})",
            remaining,
            most=0.0,
        ),
    )


def learning_rates(
    *,
    seed: int,
    on_step: OnStep,
    side: int,
    rank: int,
    measurements: int,
    depths: tuple[int, ...],
    scale: float,
    rates: tuple[float, ...],
    stop_at: float,
    most_steps: int,
    seeds: int,
) -> Finding:
    """The same starts at several learning rates: where they end."""
    table = Rows()
    found = np.zeros((len(depths), len(rates), 3, seeds))
    for i, depth in enumerate(depths):
        for k, rate in enumerate(rates):
            on_step(f"depth {depth}, learning rate {rate:g}", (i + k / len(rates)) / len(depths))
            for number in range(seeds):
                A, truth = unit_entries_problem(
                    "completion", side, rank, measurements, seed + number
                )
                starts = starts_at(side, depth, (scale,), seed + number)
                (network,), run = trained_networks(A, truth, starts, rate, stop_at, most_steps)
                found[i, k, :, number] = [
                    float(value) for value in measured(network, jnp.asarray(truth))
                ]
                table.add(
                    depth=depth,
                    learning_rate=rate,
                    seed=number,
                    error=found[i, k, 0, number],
                    nuclear_norm=found[i, k, 1, number],
                    effective_rank=found[i, k, 2, number],
                    steps=run.history["step"][-1],
                )
    _, norms, effective = np.moveaxis(np.abs(found[:, 1:] / found[:, :1] - 1), 2, 0)
    claims = (
        Claim(
            "Where gradient descent ends does not depend on the learning rate: the same nuclear norm "
            "within 0.5%.",
            "relative change of the nuclear norm",
            largest_of(norms, "depths, rates and seeds"),
            most=0.005,
        ),
        Claim(
            "And the same effective rank within 5%.",
            "relative change of the effective rank",
            largest_of(effective, "depths, rates and seeds"),
            most=0.05,
        ),
    )
    words = ("relative reconstruction error", "nuclear norm of W", "effective rank of W")
    drawn = [
        Panel(
            "learning rate",
            word,
            [
                Curve(rates, found[i, :, q].T, f"depth {depth}", SERIES[i], marker="o")
                for i, depth in enumerate(depths)
            ],
            logarithmic="x" if q else "xy",
        )
        for q, word in enumerate(words)
    ]
    title = f"completion, {side} x {side}, rank {rank}, N = {measurements}, scale {scale:g}"
    return Finding(panels(f"{title}\n{seeds} seeds; {BAND}", drawn, 3), claims, table.columns())
