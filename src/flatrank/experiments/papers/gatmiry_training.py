"""Gatmiry et al. 2023: what label noise does to the trace and the nuclear norm, and how fast."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...data import low_rank_matrix
from ...dynamics import FlatFlow, GradientDescent, LabelNoise, equivalent_penalty, train
from ...flatness import trace_of_hessian
from ...measurements import gaussian_measurements
from ...network import DeepLinear
from ...norms import nuclear_norm
from ...plots import BAND, SERIES, Curve, Panel, panels
from ...recover import recover
from ...theory import rip_constant
from ..claims import Claim, Number, largest_of, mean_of
from ..drift import ZeroLossProblem, zero_loss_problem
from ..nuclear import nuclear_minimum
from .paper import Finding, OnStep, Table

_RECORDED = ("loss", "trace", "nuclear_norm")


def _problem(depth: int, side: int, rank: int, count: int, seed: int, scale: float) -> Any:
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
                f"depth {depth}, {name}" if quantity == "nuclear_norm" else None,
                SERIES[k],
                "-" if name == "label noise" else "--",
            )
            for k, depth in enumerate(depths)
            for name in optimizers
        ]
        drawn.append(Panel("step", ylabel, curves, logarithmic=logarithmic))
    title = f"SGD with (solid) and without (dashed) label noise, {seeds} seeds; {BAND}"
    return Finding(panels(title, drawn), claims, table.columns())


def _training_claims(
    found: dict[tuple[int, str], dict[str, np.ndarray]], depths: tuple[int, ...], floor: float
) -> tuple[Claim, ...]:
    noisy = {depth: found[depth, "label noise"] for depth in depths}
    quiet = {depth: found[depth, "no label noise"] for depth in depths}

    def worst(values: dict[int, np.ndarray]) -> tuple[int, Number]:
        """The depth with the largest upper end of the interval of the mean."""
        each = {depth: mean_of(one) for depth, one in values.items()}
        depth = max(each, key=lambda depth: each[depth].high)
        return depth, each[depth]

    def ratio(quantity: str) -> dict[int, np.ndarray]:
        return {d: noisy[d][quantity][:, -1] / quiet[d][quantity][:, -1] for d in depths}

    def second_half(values: np.ndarray) -> np.ndarray:
        return values[:, values.shape[1] // 2 :]

    fallen, trace = worst(ratio("trace"))
    moved, change = worst(
        {
            d: np.abs(quiet[d]["trace"][:, -1] / second_half(quiet[d]["trace"])[:, 0] - 1)
            for d in depths
        }
    )
    tested, test = worst(ratio("test_loss"))
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
            "The test loss ends at less than a tenth of what it is without label noise.",
            f"test loss with / without, the largest over depths (depth {tested})",
            test,
            most=0.1,
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
    title = f"Label noise σ, learning rate η, depth {depth}, {seeds} seeds; {BAND}"
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
    flow_time: float,
    seeds: int,
) -> Finding:
    """Nuclear norms of four interpolators: gradient flow's, label noise's limit, flattest, convex."""
    table = Table()
    kinds = ("gradient flow", "limit of label noise", "flattest")
    ratios: dict[tuple[int, int, str], list[float]] = {}
    slack, bounds = [], {}
    for i, count in enumerate(counts):
        for number in range(seeds):
            convex = None
            for k, depth in enumerate(depths):
                done = (i * seeds + number) * len(depths) + k
                on_step(
                    f"{count} measurements, depth {depth}", done / len(counts) / seeds / len(depths)
                )
                problem = zero_loss_problem(
                    depth, (side, side), rank, count, seed + 1000 * i + number
                )
                if convex is None:
                    convex = nuclear_minimum(problem.A, np.asarray(problem.y))
                    found = rip_constant(problem.A, 1, starts=16, steps=200)
                    spread = float(found.largest / found.smallest)
                norms = _norms(problem, flow_time)
                for kind, norm in zip(kinds, norms, strict=True):
                    ratios.setdefault((count, depth, kind), []).append(norm / convex.nuclear_norm)
                bound = spread ** (depth / (2 * (depth - 1)))
                slack.append(norms[2] / convex.nuclear_norm / bound)
                bounds.setdefault((count, depth), []).append(bound)
                table.add(
                    measurements=count,
                    depth=depth,
                    seed=number,
                    convex=convex.nuclear_norm,
                    convex_lower_bound=convex.lower_bound,
                    bound=bound,
                    **{kind.replace(" ", "_"): norm for kind, norm in zip(kinds, norms, strict=True)},
                )
    most = max(counts)
    flat = {d: mean_of(ratios[most, d, "flattest"]) for d in depths}
    worst = max(flat, key=lambda depth: flat[depth].high)
    near = [np.asarray(ratios[most, d, kinds[1]]) / ratios[most, d, "flattest"] for d in depths]
    least = {d: mean_of(ratios[most, d, "gradient flow"]) for d in depths}
    easiest = min(least, key=lambda depth: least[depth].low)
    few = min(counts)
    at_few = {d: mean_of(ratios[few, d, "flattest"]) for d in depths}
    worst_few = max(at_few, key=lambda depth: at_few[depth].high)
    claims = (
        Claim(
            f"With {most} measurements the flattest interpolator of every depth has the least nuclear "
            "norm, within 1%.",
            f"nuclear norm / convex minimum, the largest over depths (depth {worst})",
            flat[worst],
            most=1.01,
        ),
        Claim(
            f"With only {few} it is still within 10% of it.",
            f"nuclear norm / convex minimum, the largest over depths (depth {worst_few})",
            at_few[worst_few],
            most=1.1,
        ),
        Claim(
            "Where label noise leads has the nuclear norm of the flattest interpolator, within 2%.",
            f"ratio of the two with {most} measurements, all depths",
            largest_of(near),
            0.98,
            1.02,
        ),
        Claim(
            "Without label noise, gradient flow ends at least 20% above the minimum.",
            f"nuclear norm / convex minimum, the smallest over depths (depth {easiest})",
            least[easiest],
            least=1.2,
        ),
        Claim(
            "The flattest interpolator's nuclear norm is at most ((1 + δ)/(1 - δ))^{L/(2(L-1))} times "
            "the minimum; (1 + δ)/(1 - δ) is measured as the ratio of the extremes of ||A(X)||^2 over "
            "rank-one X, found by a search from inside, which makes the test stricter.",
            "nuclear norm / bound",
            largest_of(slack),
            most=1.0,
        ),
    )
    drawn = []
    for count in counts:
        curves = [
            Curve(depths, np.transpose([ratios[count, d, kind] for d in depths]), kind, colour, marker="o")
            for kind, colour in zip(kinds, SERIES, strict=False)
        ]
        curves.append(
            Curve(depths, np.transpose([bounds[count, d] for d in depths]), "bound for the flattest", "grey", ":")
        )
        drawn.append(
            Panel(
                "depth L",
                "nuclear norm / convex minimum",
                curves,
                f"N = {count} measurements",
                "y",
                ticks=depths,
            )
        )
    title = f"{side} x {side}, rank {rank}, {seeds} seeds; {BAND}"
    return Finding(panels(title, drawn), claims, table.columns())


def _norms(problem: ZeroLossProblem, flow_time: float) -> tuple[float, float, float]:
    """Nuclear norms of the start, of where the flow of the trace leads from it, and of the flattest."""
    A, y, start = problem.A, problem.y, problem.network
    flow = train(start, A, y, FlatFlow(flow_time), steps=1, record=("loss",))
    flattest = recover(A, y, start.depth).network
    found = [float(nuclear_norm(network)) for network in (start, flow.network, flattest)]
    return found[0], found[1], found[2]
