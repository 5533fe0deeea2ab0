"""Gatmiry et al. 2023: what label noise does to the trace and the nuclear norm, and how fast."""

import jax
import jax.numpy as jnp
import numpy as np

from ...data import low_rank_matrix
from ...dynamics import FlatFlow, GradientDescent, LabelNoise, equivalent_penalty, train
from ...flatness import trace_of_hessian
from ...measurements import DenseMeasurements, gaussian_measurements
from ...network import DeepLinear
from ...norms import nuclear_norm
from ...plots import BAND, SERIES, Curve, Panel, panels
from ...recover import recover
from ...theory import rip_constant
from ..claims import Claim, Number, largest_of, mean_of, worst_mean
from ..drift import zero_loss_problem
from ..nuclear import nuclear_minimum
from ..training import interpolating_network
from .paper import Finding, OnStep, Table, padded

_RECORDED = ("loss", "trace", "nuclear_norm")


def _problem(
    depth: int, side: int, rank: int, count: int, seed: int, scale: float
) -> tuple[DenseMeasurements, jax.Array, DeepLinear]:
    """Gaussian measurements of a unit matrix, the matrix, and a random network."""
    keys = jax.random.split(jax.random.key(seed), 3)
    truth = low_rank_matrix(keys[0], (side, side), rank)
    truth = truth / jnp.linalg.norm(truth)
    A = gaussian_measurements(keys[1], count, (side, side))
    return A, truth, DeepLinear.gaussian(keys[2], (side, side), depth, scale=scale)


def training(
    *,
    seed: int,
    on_step: OnStep,
    depths: tuple[int, ...],
    side: int,
    rank: int,
    measurements: int,
    initial_scale: float,
    learning_rate: float,
    noise: float,
    batch_size: int,
    steps: int,
    seeds: int,
) -> Finding:
    """One random start, trained with and without label noise: loss, test loss, trace, nuclear norm."""
    table = Table()
    optimizers = {
        "label noise": LabelNoise(learning_rate, noise, batch_size),
        "no label noise": GradientDescent(learning_rate, batch_size),
    }
    floor = float(equivalent_penalty(optimizers["label noise"]))
    found: dict[tuple[int, str], dict[str, np.ndarray]] = {}
    for k, depth in enumerate(depths):
        on_step(f"training at depth {depth}", k / len(depths))
        for name, optimizer in optimizers.items():
            histories = []
            for number in range(seeds):
                A, truth, start = _problem(
                    depth, side, rank, measurements, seed + number, initial_scale
                )
                run = train(
                    start,
                    A,
                    A.apply(truth),
                    optimizer,
                    steps=steps,
                    key=jax.random.key(seed + number),
                    record=_RECORDED,
                    truth=truth,
                    throw=False,
                )
                history = run.history
                # The truth has unit norm, the measurements unit variance: E (<A, W> - <A, M>)^2.
                kept = {name: history[name] for name in _RECORDED}
                kept["test_loss"] = history["test_error"] ** 2
                table.add(depth=depth, optimizer=name, seed=number, step=history["step"], **kept)
                histories.append(kept)
            found[depth, name] = {
                quantity: np.stack([one[quantity] for one in histories]) for quantity in histories[0]
            }
    step = np.asarray(history["step"])
    claims = _training_claims(found, depths, floor)
    words = (
        ("loss", "train loss (mean square)", "xy"),
        ("test_loss", "test loss (population)", "xy"),
        ("trace", "trace of the Hessian of the loss", "xy"),
        ("nuclear_norm", "nuclear norm of W / ||truth||_F", "xy"),
    )
    drawn = []
    for quantity, ylabel, logarithmic in words:
        curves = [
            Curve(
                step[1:],
                np.maximum(found[depth, name][quantity][:, 1:], 1e-12),
                f"depth {depth}" if name == "label noise" else None,
                SERIES[k],
                "-" if name == "label noise" else "--",
            )
            for k, depth in enumerate(depths)
            for name in optimizers
        ]
        drawn.append(Panel("step", ylabel, curves, logarithmic=logarithmic))
    title = f"SGD with (solid) and without (dashed) label noise\n{seeds} seeds; {BAND}"
    return Finding(panels(title, drawn), claims, table.columns())


def _training_claims(
    found: dict[tuple[int, str], dict[str, np.ndarray]], depths: tuple[int, ...], floor: float
) -> tuple[Claim, ...]:
    noisy = {depth: found[depth, "label noise"] for depth in depths}
    quiet = {depth: found[depth, "no label noise"] for depth in depths}

    def ratio(quantity: str) -> dict[int, np.ndarray]:
        return {d: noisy[d][quantity][:, -1] / quiet[d][quantity][:, -1] for d in depths}

    def second_half(values: np.ndarray) -> np.ndarray:
        return values[:, values.shape[1] // 2 :]

    fallen, trace = worst_mean(ratio("trace"))
    moved, change = worst_mean(
        {
            d: np.abs(quiet[d]["trace"][:, -1] / second_half(quiet[d]["trace"])[:, 0] - 1)
            for d in depths
        }
    )
    # Of ratios that differ by powers of ten the mean of the logarithm is looked at.
    logs = {depth: np.log10(one) for depth, one in ratio("test_loss").items()}
    tested, test = worst_mean(logs)
    shallow = min(depths)
    level = mean_of(
        np.concatenate(
            [
                second_half(noisy[d]["loss"] / (floor * noisy[d]["trace"])).mean(1)
                for d in depths
            ]
        )
    )
    return (
        Claim(
            "With label noise the trace of the Hessian ends at less than half of what it is without.",
            f"trace with / without label noise at the end, the largest over depths (depth {fallen})",
            trace,
            most=0.5,
        ),
        Claim(
            "Without label noise the trace stays where the loss has become small: it changes by less "
            "than 5% in the second half.",
            f"relative change of the trace, the largest over depths (depth {moved})",
            change,
            most=0.05,
        ),
        Claim(
            "Meanwhile the train loss stays at the noise floor, learning rate x noise^2 / 2 B x tr H.",
            "loss / floor, mean over the second half, all depths",
            level,
            0.9,
            1.1,
        ),
        Claim(
            f"At depth {shallow} the test loss ends at less than a tenth of what it is without label noise.",
            "log10 of test loss with / without",
            mean_of(logs[shallow]),
            most=-1.0,
        ),
        Claim(
            "At every depth the test loss ends lower with label noise (although it holds the noise floor).",
            f"log10 of test loss with / without, the largest over depths (depth {tested})",
            test,
            most=0.0,
        ),
    )


def drift_speed(
    *,
    seed: int,
    on_step: OnStep,
    depth: int,
    side: int,
    measurements: int,
    learning_rates: tuple[float, ...],
    noises: tuple[float, ...],
    batch_size: int,
    time: float,
    seeds: int,
) -> Finding:
    """The trace from one start at every noise level and learning rate, against steps and flow time."""
    problem = zero_loss_problem(depth, (side, side), 1, measurements, seed)
    A, y, start = problem.A, problem.y, problem.network
    on_step("the flow", 0.0)
    flow = train(start, A, y, FlatFlow(time / 40), steps=40, record=("trace",), record_every=1)
    limit = float(trace_of_hessian(recover(A, y, depth).network, A))
    first = float(flow.history["trace"][0])
    half = (first + limit) / 2
    pairs = [(rate, noise) for rate in learning_rates for noise in noises]
    keys = jax.random.split(jax.random.key(seed), seeds)
    table, halved, by_step, by_time = Table(), [], [], []
    for k, (rate, noise) in enumerate(pairs):
        on_step(f"learning rate {rate:g}, noise {noise:g}", (k + 1) / (len(pairs) + 1))
        optimizer = LabelNoise(rate, noise, batch_size)
        every = max(1, round(time / float(optimizer.flatness_rate(None)) / 100))
        run = train(
            start,
            A,
            y,
            optimizer,
            steps=100 * every,
            record_every=every,
            record=("trace", "loss"),
            key=keys,
        )
        step, trace = run.history["step"], run.history["trace"]
        halved.append([_crossing(step, one, half) for one in trace])
        label = f"η = {rate:g}, σ = {noise:.2g}"
        colour = SERIES[k % len(SERIES)]
        style = ("-", "--", ":")[k // len(SERIES) % 3]
        by_step.append(Curve(step[1:], trace[:, 1:], label, colour, style))
        by_time.append(Curve(run.history["time"], trace, None, colour, style))
        for number in range(seeds):
            table.add(
                learning_rate=rate,
                noise=noise,
                seed=number,
                step=step,
                time=run.history["time"],
                trace=trace[number],
                loss=run.history["loss"][number],
            )
    by_time.append(
        Curve(flow.history["time"], flow.history["trace"], "flow of the trace", "black", "-.")
    )
    logs = np.column_stack([np.ones(len(pairs)), np.log(pairs)])
    # (constant, exponent of the learning rate, exponent of the noise) of each seed.
    slopes = np.linalg.lstsq(logs, np.log(np.asarray(halved)), rcond=None)[0]
    at_half = _crossing(flow.history["time"], flow.history["trace"], half)
    unit = np.asarray([float(LabelNoise(*pair, batch_size).flatness_rate(None)) for pair in pairs])
    ratios = (np.asarray(halved) * unit[:, None]).mean(0) / at_half
    claims = (
        Claim(
            "The speed of the drift grows with the square of the learning rate.",
            "- exponent of the steps to half way in the learning rate",
            mean_of(-slopes[1]),
            1.85,
            2.15,
        ),
        Claim(
            "The speed of the drift grows with the square of the noise.",
            "- exponent of the steps to half way in the noise",
            mean_of(-slopes[2]),
            1.85,
            2.15,
        ),
        Claim(
            "In units of η² σ² / 2 B a step, all follow one flow, -P grad tr H.",
            "time to half way / the flow's, mean over all pairs",
            mean_of(ratios),
            0.9,
            1.1,
        ),
    )
    drawn = [
        Panel("step", "trace of the Hessian of the loss", by_step, logarithmic="x", bottom=0.0),
        Panel("time = step x η² σ² / 2 B", "trace of the Hessian of the loss", by_time, bottom=0.0),
    ]
    title = f"Label noise σ, learning rate η, depth {depth}\n{seeds} seeds; {BAND}"
    return Finding(panels(title, drawn), claims, table.columns())


def _crossing(x: np.ndarray, falling: np.ndarray, level: float) -> float:
    """Where a falling curve first is at a level, between records; NaN where it never is."""
    below = np.flatnonzero(falling <= level)
    if not len(below) or below[0] == 0:
        return float("nan")
    k = below[0]
    share = (falling[k - 1] - level) / (falling[k - 1] - falling[k])
    return float(x[k - 1] + share * (x[k] - x[k - 1]))


def end_points(
    *,
    seed: int,
    on_step: OnStep,
    depths: tuple[int, ...],
    side: int,
    rank: int,
    counts: tuple[int, ...],
    initial_scale: float,
    flow_time: float,
    seeds: int,
) -> Finding:
    """Nuclear norms of three interpolators, over the convex minimum: at every depth and count."""
    table = Table()
    ratios: dict[tuple[int, int, str], list[float]] = {}
    for i, count in enumerate(counts):
        for number in range(seeds):
            A, truth, _ = _problem(2, side, rank, count, seed + 1000 * i + number, 1.0)
            convex = nuclear_minimum(A, np.asarray(A.apply(truth)))
            # Zero matrices tell nothing; with them all counts share one compiled program.
            same = padded(A, max(counts))
            ends = rip_constant(same, 1, starts=16, steps=200)
            for k, depth in enumerate(depths):
                done = ((i * seeds + number) * len(depths) + k) / (len(counts) * seeds * len(depths))
                on_step(f"{count} measurements, depth {depth}", done)
                start = _problem(depth, side, rank, 1, seed + number, initial_scale)[2]
                norms = _norms(start, same, same.apply(truth), flow_time)
                bound = float(ends.largest / ends.smallest) ** (depth / (2 * (depth - 1)))
                found = {kind: norm / convex.nuclear_norm for kind, norm in norms.items()}
                for kind, ratio in {**found, "bound": bound}.items():
                    ratios.setdefault((count, depth, kind), []).append(ratio)
                table.add(
                    measurements=count,
                    depth=depth,
                    seed=number,
                    convex_nuclear_norm=convex.nuclear_norm,
                    convex_lower_bound=convex.lower_bound,
                    bound_over_convex=bound,
                    **{f"{kind}_over_convex".replace(" ", "_"): one for kind, one in found.items()},
                )
    values = {key: np.asarray(found) for key, found in ratios.items()}
    drawn = [
        Panel(
            "depth L",
            "nuclear norm / least nuclear norm",
            [
                Curve(depths, np.transpose([values[count, d, kind] for d in depths]), kind, *look)
                for kind, look in _LOOKS.items()
                if kind != "bound"
            ],
            f"N = {count} measurements",
            "y",
            ticks=depths,
        )
        for count in counts
    ]
    drawn.append(
        Panel(
            "depth L",
            "nuclear norm / least nuclear norm",
            [
                Curve(depths, np.transpose([values[max(counts), d, kind] for d in depths]), kind, *look)
                for kind, look in _LOOKS.items()
                if kind in ("flattest", "bound")
            ],
            f"the bound by the isometry constant, N = {max(counts)}",
            "y",
            ticks=depths,
        )
    )
    title = f"{side} x {side}, rank {rank}\n{seeds} seeds; {BAND}"
    claims = _end_claims(values, depths, counts)
    return Finding(panels(title, drawn, across=3), claims, table.columns())


_LOOKS = {
    "gradient flow": (SERIES[0], "-", "o"),
    "limit of label noise": (SERIES[1], "-", "s"),
    "flattest": (SERIES[2], "--", "x"),
    "bound": ("grey", ":", ""),
}


def _norms(
    start: DeepLinear, A: DenseMeasurements, y: jax.Array, flow_time: float
) -> dict[str, float]:
    """Nuclear norms of where gradient flow ends, of where the flow of the trace does, of the flattest."""
    interpolator = interpolating_network(start, A, y)
    # From not too far to not too far: the first trial steps of the solver are not finite otherwise.
    flow = FlatFlow(flow_time / 50)
    limit = train(interpolator, A, y, flow, steps=50, record=("loss",)).network
    flattest = recover(A, y, start.depth, width=min(A.shape)).network
    return {
        "gradient flow": float(nuclear_norm(interpolator)),
        "limit of label noise": float(nuclear_norm(limit)),
        "flattest": float(nuclear_norm(flattest)),
    }


def _end_claims(
    values: dict[tuple[int, int, str], np.ndarray],
    depths: tuple[int, ...],
    counts: tuple[int, ...],
) -> tuple[Claim, ...]:
    few, most = min(counts), max(counts)
    worst, flat = worst_mean({d: values[most, d, "flattest"] for d in depths})
    worst_few, flat_few = worst_mean({d: values[few, d, "flattest"] for d in depths})
    easiest, below = worst_mean({d: -values[most, d, "gradient flow"] for d in depths})
    least = Number(-below.value, -below.high, -below.low, below.how)
    pairs = [
        values[most, d, "limit of label noise"] / values[most, d, "flattest"] for d in depths
    ]
    slack = [
        values[count, d, "flattest"] / values[count, d, "bound"] for count in counts for d in depths
    ]
    return (
        Claim(
            f"With {most} measurements the flattest interpolator of every depth has the least nuclear "
            "norm, within 1%.",
            f"nuclear norm / convex minimum, the largest over depths (depth {worst})",
            flat,
            most=1.01,
        ),
        Claim(
            f"With only {few} it is still within 10% of it.",
            f"nuclear norm / convex minimum, the largest over depths (depth {worst_few})",
            flat_few,
            most=1.1,
        ),
        Claim(
            "Label noise leads to the nuclear norm of the flattest interpolator, within 2%.",
            f"largest ratio of the two with {most} measurements",
            largest_of(np.concatenate(pairs)),
            0.98,
            1.02,
        ),
        Claim(
            "Without label noise, gradient flow ends at least 20% above the minimum.",
            f"nuclear norm / convex minimum, the smallest over depths (depth {easiest})",
            least,
            least=1.2,
        ),
        Claim(
            "The flattest interpolator's nuclear norm is at most ((1 + δ)/(1 - δ))^{L/(2(L-1))} times "
            "the least; (1 + δ)/(1 - δ) is the ratio of the extremes of ||A(X)||² over rank-one X, "
            "searched from inside, so that the bound tested is not above the true one.",
            "nuclear norm / bound",
            largest_of(np.concatenate(slack)),
            most=1.0,
        ),
    )
