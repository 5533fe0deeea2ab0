"""Gatmiry et al. 2023: training with label noise, and how fast it drifts."""

import jax
import numpy as np

from .._progress import OnStep
from ..dynamics import FlatFlow, GradientDescent, LabelNoise, equivalent_penalty, train
from ..flatness import trace_of_hessian
from ..penalties import Flatness
from ..plots import BAND, SERIES, Curve, Panel, panels
from ..problems import gaussian_problem
from ..recovery import recover
from ..reports import Claim, highest_mean, mean_of
from ._drift import zero_loss_problem
from ._paper import Finding, Rows

_RECORDED = ("loss", "trace", "nuclear_norm")


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
    table = Rows()
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
                A, truth, start = gaussian_problem(
                    depth, (side, side), rank, measurements, seed + number, initial_scale
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
                )
                history = run.history
                # The truth has unit norm, the measurements unit variance: E (<A, W> - <A, M>)^2.
                kept = {name: history[name] for name in _RECORDED}
                kept["test_loss"] = history["test_error"] ** 2
                table.add(depth=depth, optimizer=name, seed=number, step=history["step"], **kept)
                histories.append(kept)
            found[depth, name] = {
                quantity: np.stack([one[quantity] for one in histories])
                for quantity in histories[0]
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

    fallen, trace = highest_mean(ratio("trace"))
    moved, change = highest_mean(
        {
            d: np.abs(quiet[d]["trace"][:, -1] / second_half(quiet[d]["trace"])[:, 0] - 1)
            for d in depths
        }
    )
    # Of ratios that differ by powers of ten the mean of the logarithm is looked at.
    logs = {depth: np.log10(one) for depth, one in ratio("test_loss").items()}
    tested, test = highest_mean(logs)
    shallow = min(depths)
    # Depths share the measurements of a seed: one number a seed.
    level = mean_of(
        np.mean(
            [second_half(noisy[d]["loss"] / (floor * noisy[d]["trace"])).mean(1) for d in depths],
            axis=0,
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
            "Meanwhile the train loss stays at the noise floor, learning rate x noise^2 / 2 B x tr H to "
            "first order in the learning rate.",
            "loss / floor, mean over the second half and all depths",
            level,
            0.8,
            1.25,
        ),
        Claim(
            f"At depth {shallow} the test loss ends at less than a tenth of what it is without label "
            "noise.",
            "log10 of test loss with / without",
            mean_of(logs[shallow]),
            most=-1.0,
        ),
        Claim(
            "At every depth the test loss ends lower with label noise (although it holds the noise "
            "floor).",
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
    limit = float(trace_of_hessian(recover(A, y, depth, Flatness()).network, A))
    first = float(flow.history["trace"][0])
    half = (first + limit) / 2
    pairs = [(rate, noise) for rate in learning_rates for noise in noises]
    keys = jax.random.split(jax.random.key(seed), seeds)
    table, halved, by_step, by_time = Rows(), [], [], []
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
