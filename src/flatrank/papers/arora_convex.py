"""Arora et al. 2019: gradient descent at every depth and initialisation against the convex solution."""

import jax.numpy as jnp
import numpy as np

from .._progress import OnStep
from ..norms import effective_rank
from ..plots import BAND, SERIES, Curve, Panel, panels
from ..problems import unit_entries_problem
from ..recovery import nuclear_minimum
from ..reports import Claim, highest_mean, largest_of, lowest_mean, mean_of
from ._paper import Finding, Rows
from .arora_training import measured, starts_at, trained_networks

# Nuclear norms of the convex solutions that the paper reports, for 2000 and 5000.
_PUBLISHED = {"completion": (210.15, 221.03), "sensing": (220.10, 221.03)}


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
    """Error, nuclear norm and effective rank against the scale of the start, beside the convex ones."""
    table = Rows()
    # (count, depth; 0: convex) -> quantity, seed, scale
    found = {
        (count, depth): np.full((3, seeds, len(scales)), np.nan)
        for count in counts
        for depth in (0, *depths)
    }
    losses, gaps, norms = [], [], np.zeros((len(counts), seeds, 2))
    for i, count in enumerate(counts):
        for number in range(seeds):
            A, truth = unit_entries_problem(ensemble, side, rank, count, seed + number)
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
                starts = starts_at(side, depth, scales, seed + number)
                trained, run = trained_networks(
                    A, truth, starts, learning_rate, stop_at, most_steps
                )
                for at, network in enumerate(trained):
                    found[count, depth][:, number, at] = [
                        float(value) for value in measured(network, jnp.asarray(truth))
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
    title = (
        f"{ensemble}, {side} x {side}, rank {rank}, learning rate {learning_rate:g}, {seeds} seeds"
    )
    picture = panels(
        f"{title}\n{BAND}; convex: least nuclear norm",
        _convex_panels(found, counts, depths, scales),
        3,
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
    at_two, against_two = highest_mean({d: error[d] - error[2] for d in deep})
    at_convex, against_convex = highest_mean({d: error[d] - error[0] for d in deep})
    shallow = np.log10(found[few, 2][0])
    at_rank, lower = highest_mean({d: effective[d] - effective[0] for d in deep})
    at_norm, least = lowest_mean({d: norm[d] / norm[0] - 1 for d in deep})
    same, agreement = highest_mean(
        {d: np.abs(found[most, d][1] / found[most, 0][1] - 1).max(1) for d in depths}
    )
    accurate, accuracy = highest_mean({d: found[most, d][0][:, -1] for d in depths})
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
            f"With few measurements (N = {few}) gradient descent of depth 3 and more does not end at "
            "the least nuclear norm: its norm is at least 0.5% above.",
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
