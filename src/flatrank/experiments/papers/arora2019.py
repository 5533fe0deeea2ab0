"""Arora, Cohen, Hu, Luo 2019: implicit regularisation of gradient descent, deep against convex."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...data import low_rank_matrix
from ...dynamics import GradientDescent, Run, scale_by_global_rms, singular_value_speeds, train
from ...dynamics.optimizers import mean_square
from ...measurements import AbstractMeasurements, DenseMeasurements, EntryMeasurements
from ...network import DeepLinear
from ...norms import effective_rank, nuclear_norm
from ...plots import BAND, SERIES, Curve, Panel, panels
from ..claims import Claim, largest_of, mean_of, worst_mean
from ..nuclear import nuclear_minimum
from .paper import Finding, OnStep, Paper, PaperFigure, Table

_SMOOTHING, _EPSILON = 0.99, 1e-4
# How often the train loss is compared with where training stops.
_EVERY = 20
# Nuclear norms of the convex solutions that the paper reports, for 2000 and 5000.
_PUBLISHED = {"completion": (210.15, 221.03), "sensing": (220.10, 221.03)}


def _problem(
    ensemble: str, side: int, rank: int, count: int, seed: int
) -> tuple[AbstractMeasurements, np.ndarray]:
    """Entries, or matrices with entries N(0, 1)/side, and a matrix of Frobenius norm `side`, in float64."""
    truth_key, key = jax.random.split(jax.random.key(seed))
    truth = np.asarray(low_rank_matrix(truth_key, (side, side), rank), np.float64)
    truth = truth * (side / np.linalg.norm(truth))
    if ensemble == "completion":
        chosen = jnp.sort(jax.random.choice(key, side * side, (count,), replace=False))
        return EntryMeasurements(chosen // side, chosen % side, (side, side)), truth
    matrices = jax.random.normal(key, (count, side, side), jnp.float32) / side
    return DenseMeasurements(matrices), truth


def _starts(side: int, depth: int, scales: tuple[float, ...], seed: int) -> DeepLinear:
    """Layers with entries N(0, s^{2/L} / side), one network (a leading axis) for each scale s."""
    key = jax.random.key(10_000 + seed)

    def start(scale: jax.Array) -> DeepLinear:
        # The entries of the product have standard deviation s / sqrt(side).
        return DeepLinear.gaussian(key, (side, side), depth, scale=scale)  # type: ignore[arg-type]

    networks = jax.vmap(start)(jnp.asarray(scales) / side**0.5)
    return jax.tree.map(lambda layer: layer.astype(jnp.float32), networks)


def _descent(learning_rate: float, depth: int, side: int) -> GradientDescent:
    """Gradient descent scaled by the root of the running mean of the gradient's squared norm.

    `scale_by_global_rms` takes the mean square over all parameters where the paper's code takes the
    sum: learning rate and epsilon are divided by the root of their number, which makes both the same.
    """
    root = (depth * side * side) ** 0.5
    scaling = scale_by_global_rms(_SMOOTHING, _EPSILON / root)
    return GradientDescent(learning_rate / root, transformation=scaling)


def _trained(
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
        _descent(learning_rate, depth, side),
        steps=most_steps,
        record=("loss",),
        record_every=_EVERY,
        until={"loss": stop_at},
        throw=False,
    )
    count = len(starts.layers[0])
    return [jax.tree.map(lambda x, k=k: x[k], run.network) for k in range(count)], run


@eqx.filter_jit
def _measured(network: DeepLinear, truth: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Relative error, nuclear norm and effective rank, in float64 from the layers on."""
    matrix = jax.tree.map(lambda layer: layer.astype(truth.dtype), network).matrix()
    error = jnp.linalg.norm(matrix - truth) / jnp.linalg.norm(truth)
    return error, nuclear_norm(matrix), effective_rank(matrix)


def against_convex(
    *,
    seed: int,
    on_step: OnStep,
    ensemble: str,
    side: int,
    rank: int,
    counts: tuple[int, ...],
    depths: tuple[int, ...],
    scales: tuple[float, ...],
    learning_rate: float,
    stop_at: float,
    most_steps: int,
    seeds: int,
) -> Finding:
    """Error, nuclear norm and effective rank against the scale of the start, beside the convex solution."""
    table = Table()
    # (count, depth; 0: convex) -> quantity, seed, scale
    found = {
        (count, depth): np.full((3, seeds, len(scales)), np.nan)
        for count in counts
        for depth in (0, *depths)
    }
    losses, gaps, norms = [], [], np.zeros((len(counts), seeds, 2))
    for i, count in enumerate(counts):
        for number in range(seeds):
            A, truth = _problem(ensemble, side, rank, count, seed + number)
            done = (i * seeds + number) / (len(counts) * seeds)
            on_step(f"N = {count}, convex solution", done)
            convex = nuclear_minimum(A, np.asarray(A.apply(jnp.asarray(truth, jnp.float32))))
            gaps.append(convex.gap)
            matrix = jnp.asarray(convex.matrix)
            values = (
                np.linalg.norm(convex.matrix - truth) / np.linalg.norm(truth),
                convex.nuclear_norm,
                float(effective_rank(matrix)),
            )
            found[count, 0][:, number] = np.asarray(values)[:, None]
            norms[i, number] = convex.nuclear_norm, np.linalg.norm(truth, "nuc")
            for k, depth in enumerate(depths):
                on_step(
                    f"N = {count}, depth {depth}", done + k / (len(depths) * len(counts) * seeds)
                )
                starts = _starts(side, depth, scales, seed + number)
                trained, run = _trained(A, truth, starts, learning_rate, stop_at, most_steps)
                for at, network in enumerate(trained):
                    found[count, depth][:, number, at] = [
                        float(value) for value in _measured(network, jnp.asarray(truth))
                    ]
                losses.append(np.nanmin(run.history["loss"], axis=1))
            for depth in (0, *depths):
                error, norm, effective = found[count, depth][:, number]
                table.add(
                    measurements=count,
                    depth=depth,
                    seed=number,
                    scale=scales,
                    error=error,
                    nuclear_norm=norm,
                    effective_rank=effective,
                )
    claims = _convex_claims(found, counts, depths, np.asarray(losses), np.asarray(gaps), stop_at)
    title = f"{ensemble}, {side} x {side}, rank {rank}, learning rate {learning_rate:g}, {seeds} seeds"
    picture = panels(
        f"{title}\n{BAND}; convex: least nuclear norm", _convex_panels(found, counts, depths, scales), 3
    )
    published = _PUBLISHED[ensemble]
    facts = tuple(
        (
            f"least nuclear norm, N = {count} (truth)",
            f"{norms[i, :, 0].mean():.2f} ({norms[i, :, 1].mean():.2f}), means of {seeds} seeds",
        )
        for i, count in enumerate(counts)
    )
    other = (
        "the paper's least nuclear norms, N = 2000, 5000 (100 x 100, another random matrix)",
        ", ".join(f"{value:.2f}" for value in published),
    )
    return Finding(picture, claims, table.columns(), (*facts, other))


def _convex_panels(
    found: dict[tuple[int, int], np.ndarray],
    counts: tuple[int, ...],
    depths: tuple[int, ...],
    scales: tuple[float, ...],
) -> list[Panel]:
    drawn = []
    words = ("relative reconstruction error", "nuclear norm of W", "effective rank of W")
    for count in counts:
        for quantity, ylabel in enumerate(words):
            curves = [
                Curve(scales, found[count, d][quantity], f"depth {d}", SERIES[k], marker="o")
                for k, d in enumerate(depths)
            ]
            curves.append(Curve(scales, found[count, 0][quantity], "convex", "black", "--"))
            drawn.append(
                Panel(
                    "scale of the initialisation",
                    ylabel,
                    curves,
                    f"N = {count}",
                    "x" if quantity else "xy",
                    reverse=True,
                )
            )
    return drawn


def _convex_claims(
    found: dict[tuple[int, int], np.ndarray],
    counts: tuple[int, ...],
    depths: tuple[int, ...],
    losses: np.ndarray,
    gaps: np.ndarray,
    stop_at: float,
) -> tuple[Claim, ...]:
    few, most = min(counts), max(counts)
    deep = [depth for depth in depths if depth > 2]
    error = {depth: np.log10(found[few, depth][0][:, -1]) for depth in (0, *depths)}
    norm, effective = ({d: found[few, d][q][:, -1] for d in (0, *depths)} for q in (1, 2))
    at_two, against_two = worst_mean({d: error[d] - error[2] for d in deep})
    at_convex, against_convex = worst_mean({d: error[d] - error[0] for d in deep})
    shallow = np.log10(found[few, 2][0])
    at_rank, lower = worst_mean({d: effective[d] - effective[0] for d in deep})
    at_norm, above = worst_mean({d: 1 - norm[d] / norm[0] for d in deep})
    least = mean_of(norm[at_norm] / norm[0] - 1)
    same, agreement = worst_mean(
        {d: np.abs(found[most, d][1] / found[most, 0][1] - 1).max(1) for d in depths}
    )
    accurate, accuracy = worst_mean({d: found[most, d][0][:, -1] for d in depths})
    return (
        Claim(
            f"With few measurements (N = {few}) depth 3 and more reconstruct better than depth 2, by a "
            "factor of at least two, at the smallest initialisation.",
            f"log10 of the ratio of errors, the largest over depths (depth {at_two})",
            against_two,
            most=float(np.log10(0.5)),
        ),
        Claim(
            f"There (N = {few}) they reconstruct better than the least nuclear norm.",
            f"log10 of the ratio of errors, the largest over depths (depth {at_convex})",
            against_convex,
            most=0.0,
        ),
        Claim(
            f"At depth 2 (N = {few}) the error falls with the scale of the initialisation.",
            "log10 of the error at the smallest scale / at the largest",
            mean_of(shallow[:, -1] - shallow[:, 0]),
            most=0.0,
        ),
        Claim(
            f"With few measurements (N = {few}) gradient descent of depth 3 and more does not end at the "
            "least nuclear norm: its norm is at least 0.5% above.",
            f"nuclear norm / least - 1, the smallest over depths (depth {at_norm})",
            least,
            least=0.005,
        ),
        Claim(
            f"It ends (N = {few}) at a lower effective rank than the least nuclear norm has.",
            f"difference of effective ranks, the largest over depths (depth {at_rank})",
            lower,
            most=0.0,
        ),
        Claim(
            f"With many measurements (N = {most}) it ends at the least nuclear norm at every depth and "
            "scale, within 1%.",
            f"|nuclear norm / least - 1|, the largest over depths (depth {same}) and scales",
            agreement,
            most=0.01,
        ),
        Claim(
            f"There (N = {most}) every depth reconstructs the matrix to 1% at the smallest scale.",
            f"relative error, the largest over depths (depth {accurate})",
            accuracy,
            most=0.01,
        ),
        Claim(
            f"All runs end at a train loss of {stop_at:g} (what they are compared at).",
            "train loss at the end",
            largest_of(losses, "runs"),
            most=stop_at,
        ),
        Claim(
            "The convex solutions are proved to be within 0.1% of the least nuclear norm.",
            "relative gap to the lower bound by duality",
            largest_of(gaps, "problems"),
            most=1e-3,
        ),
    )


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
    table = Table()
    values: dict[int, np.ndarray] = {}
    off: dict[int, np.ndarray] = {}
    scatter: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for k, depth in enumerate(depths):
        every, theory, actual = [], [], []
        for number in range(seeds):
            on_step(f"depth {depth}", (k + number / seeds) / len(depths))
            A, truth = _problem("completion", side, rank, measurements, seed + number)
            starts = _starts(side, depth, (scale,), seed + number)
            run = train(
                jax.tree.map(lambda x: x[0], starts),
                A,
                A.apply(jnp.asarray(truth, jnp.float32)),
                _descent(learning_rate, depth, side),
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
        predicted, measured = np.stack(theory), np.stack(actual)
        difference = np.linalg.norm((predicted - measured).reshape(seeds, -1), axis=1)
        off[depth] = difference / np.linalg.norm(measured.reshape(seeds, -1), axis=1)
        scatter[depth] = (predicted.ravel(), measured.ravel())
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
    ends = np.asarray([min(p.min() for p, _ in scatter.values()), max(p.max() for p, _ in scatter.values())])
    points = [
        Curve(*scatter[depth], f"depth {depth}", SERIES[k], "", ".") for k, depth in enumerate(depths)
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


def _dynamics_claims(
    values: dict[int, np.ndarray], off: dict[int, np.ndarray], depths: tuple[int, ...], rank: int
) -> tuple[Claim, ...]:
    worst, difference = worst_mean(off)
    tails = {depth: np.log10(found[:, -1, rank] / found[:, -1, 0]) for depth, found in values.items()}
    pairs = list(zip(depths[:-1], depths[1:], strict=True))
    at, drop = worst_mean({pair: tails[pair[1]] - tails[pair[0]] for pair in pairs})
    return (
        Claim(
            "Singular values move as theorem 3 says, d s_r / dt = -L (s_r²)^{1 - 1/L} <grad, u_r v_r^T>: "
            "to 5%, although the start is not exactly balanced.",
            f"relative difference of speeds over the whole run, the largest over depths (depth {worst})",
            difference,
            most=0.05,
        ),
        Claim(
            "The deeper the network, the smaller the singular values beyond the rank remain.",
            f"log10 of s_{rank + 1} / s_1 at the end: depth {at[1]} less depth {at[0]}, the largest over "
            "neighbouring depths",
            drop,
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
    table = Table()
    found = np.zeros((len(depths), len(rates), 3, seeds))
    for i, depth in enumerate(depths):
        for k, rate in enumerate(rates):
            on_step(f"depth {depth}, learning rate {rate:g}", (i + k / len(rates)) / len(depths))
            for number in range(seeds):
                A, truth = _problem("completion", side, rank, measurements, seed + number)
                starts = _starts(side, depth, (scale,), seed + number)
                (network,), run = _trained(A, truth, starts, rate, stop_at, most_steps)
                found[i, k, :, number] = [
                    float(value) for value in _measured(network, jnp.asarray(truth))
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
    change = {
        depth: np.abs(found[i, :, 1] / found[i, :1, 1] - 1).max(0) for i, depth in enumerate(depths)
    }
    ranks = {
        depth: np.abs(found[i, :, 2] / found[i, :1, 2] - 1).max(0) for i, depth in enumerate(depths)
    }
    worst, norms = worst_mean(change)
    at, effective = worst_mean(ranks)
    claims = (
        Claim(
            "Where gradient descent ends does not depend on the learning rate: the same nuclear norm "
            "within 0.5%.",
            f"largest relative change of the nuclear norm (depth {worst})",
            norms,
            most=0.005,
        ),
        Claim(
            "And the same effective rank within 5%.",
            f"largest relative change of the effective rank (depth {at})",
            effective,
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
    title = (
        f"completion, {side} x {side}, rank {rank}, N = {measurements}, scale {scale:g}, {seeds} seeds"
    )
    return Finding(panels(f"{title}\n{BAND}", drawn, 3), claims, table.columns())


_TEXT = (
    "Gradient descent on all measurements from Gaussian layers with standard deviation scale^{1/L} / "
    "sqrt(n) until the train loss is small, against the interpolator of least nuclear norm (convex)."
)
_COMMON = {
    "side": 100,
    "rank": 5,
    "counts": (2000, 5000),
    "depths": (2, 3, 4),
    "scales": (1e-3, 1e-4, 1e-5, 1e-6),
    "learning_rate": 1e-3,
    "stop_at": 1e-6,
    "most_steps": 500_000,
    "seeds": 3,
}

COMPLETION = PaperFigure(
    "matrix completion: depth against the least nuclear norm",
    _TEXT,
    against_convex,
    full={"ensemble": "completion", **_COMMON},
    quick={"scales": (1e-3, 1e-4, 1e-5), "learning_rate": 5e-3, "most_steps": 30_000},
)

SENSING = PaperFigure(
    "matrix sensing: depth against the least nuclear norm",
    f"{_TEXT} Measurements have entries N(0, 1)/n. Quick scale takes a smaller matrix with the same rank "
    "/ n and N / n².",
    against_convex,
    full={"ensemble": "sensing", **_COMMON, "scales": (1e-3, 1e-5), "learning_rate": 3e-3, "seeds": 2},
    quick={
        "side": 40,
        "rank": 2,
        "counts": (320, 800),
        "scales": (1e-3, 1e-4, 1e-5),
        "most_steps": 30_000,
        "seeds": 3,
    },
)

SINGULAR_VALUES = PaperFigure(
    "singular values along training",
    "Time runs in steps of scaled gradient descent; speeds are those of gradient flow at the networks "
    "that it goes through.",
    singular_values,
    full={
        "side": 100,
        "rank": 5,
        "measurements": 2000,
        "depths": (2, 3, 4),
        "scale": 1e-3,
        "learning_rate": 1e-3,
        "steps": 50_000,
        "seeds": 3,
    },
    quick={"learning_rate": 5e-3, "steps": 8_000},
)

LEARNING_RATES = PaperFigure(
    "the learning rate does not matter",
    "What quick scale rests on, which takes larger learning rates than the paper (1e-3 and 3e-4).",
    learning_rates,
    full={
        "side": 100,
        "rank": 5,
        "measurements": 2000,
        "depths": (2, 3, 4),
        "scale": 1e-3,
        "rates": (3e-4, 1e-3, 3e-3, 5e-3),
        "stop_at": 1e-6,
        "most_steps": 1_000_000,
        "seeds": 3,
    },
    quick={"depths": (2, 3), "rates": (1e-3, 5e-3), "seeds": 2},
)

PAPER = Paper(
    "arora2019",
    "S. Arora, N. Cohen, W. Hu, Y. Luo: Implicit Regularization in Deep Matrix Factorization, 2019 "
    "(arXiv 1905.13655)",
    "Full scale takes the paper's sizes, depths, initialisations and its learning rate 1e-3; random "
    "matrices and measurements are other ones. The gradient is divided by the root of a running mean of "
    "its squared norm over all layers (alpha 0.99, eps 1e-4), as in the paper's code but for the "
    "correction of the running mean's start, which makes the first hundred steps up to ten times as long "
    "here. Training in float32. Intervals are over seeds: other matrices, measurements and starts.",
    (COMPLETION, SENSING, SINGULAR_VALUES, LEARNING_RATES),
)
