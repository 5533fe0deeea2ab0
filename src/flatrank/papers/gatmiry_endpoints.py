"""Gatmiry et al. 2023: where label noise leads, the flattest interpolator, the least nuclear norm."""

import jax
import numpy as np

from .._progress import OnStep
from ..dynamics import FlatFlow, interpolating_network, train
from ..measurements import DenseMeasurements
from ..network import DeepLinear
from ..norms import nuclear_norm
from ..penalties import Flatness
from ..plots import BAND, SERIES, Curve, Panel, panels
from ..problems import gaussian_problem
from ..recovery import nuclear_minimum, recover
from ..reports import Claim, highest_mean, largest_of, lowest_mean
from ..theory import rip_constant
from ._paper import Finding, Rows, padded


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
    table = Rows()
    ratios: dict[tuple[int, int, str], list[float]] = {}
    for i, count in enumerate(counts):
        for number in range(seeds):
            A, truth, _ = gaussian_problem(
                2, (side, side), rank, count, seed + 1000 * i + number, 1.0
            )
            convex = nuclear_minimum(A, np.asarray(A.apply(truth)))
            # Zero matrices tell nothing; with them all counts share one compiled program.
            same = padded(A, max(counts))
            ends = rip_constant(same, 1, starts=16, steps=200)
            for k, depth in enumerate(depths):
                done = ((i * seeds + number) * len(depths) + k) / (
                    len(counts) * seeds * len(depths)
                )
                on_step(f"{count} measurements, depth {depth}", done)
                start = gaussian_problem(
                    depth, (side, side), rank, 1, seed + number, initial_scale
                )[2]
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
            bottom=0.0,
            ticks=depths,
        )
        for count in counts
    ]
    drawn.append(
        Panel(
            "depth L",
            "nuclear norm / least nuclear norm",
            [
                Curve(
                    depths,
                    np.transpose([values[max(counts), d, kind] for d in depths]),
                    kind,
                    *look,
                )
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
    """Nuclear norms: where gradient flow ends, where the flow of the trace does, and the flattest."""
    interpolator = interpolating_network(start, A, y)
    # Short pieces: a long one begins with trial steps so large that they overflow.
    flow = FlatFlow(flow_time / 50)
    limit = train(interpolator, A, y, flow, steps=50, record=("loss",)).network
    flattest = recover(A, y, start.depth, Flatness(), width=min(A.shape)).network
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
    worst, flat = highest_mean({d: values[most, d, "flattest"] for d in depths})
    worst_few, flat_few = highest_mean({d: values[few, d, "flattest"] for d in depths})
    easiest, least = lowest_mean({d: values[most, d, "gradient flow"] for d in depths})
    apart = [
        np.abs(values[most, d, "limit of label noise"] / values[most, d, "flattest"] - 1)
        for d in depths
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
            f"relative difference of the two with {most} measurements",
            largest_of(np.concatenate(apart)),
            most=0.02,
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
