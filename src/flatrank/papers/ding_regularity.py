"""Ding et al. 2022: how near flat minima are to the least nuclear norm, and to the truth."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from .._progress import OnStep
from ..flatness import induced_regularizer
from ..measurements import AbstractMeasurements, DenseMeasurements, RankOneMeasurements
from ..penalties import Flatness
from ..plots import BAND, SERIES, Curve, Panel, panels
from ..problems import draw_problem
from ..recovery import nuclear_minimum
from ..reports import Claim, largest_of, mean_of, share_of, smallest_of
from ._paper import Finding, Rows
from ._recoveries import (
    NUCLEAR,
    independent,
    network_method,
    recoveries,
    same_shape,
)
from .ding_recovery import FLAT, NAMES

_QUANTITIES = ("norm", "bound", "convex trace", "truth trace", "nuclear trace")


def regularity(
    *,
    seed: int,
    on_step: OnStep,
    models: tuple[str, ...],
    side: int,
    rank: int,
    loads: tuple[float, ...],
    trials: int,
) -> Finding:
    """Norms of flat minima over the least, and traces over the flat minimum's, against N / (r d)."""
    table = Rows()
    counts = tuple(round(load * rank * side) for load in loads)
    methods = {FLAT: network_method(Flatness(), 2)}
    found = {
        (model, name): np.full((trials, len(counts)), np.nan)
        for model in models
        for name in _QUANTITIES
    }
    for i, model in enumerate(models):
        for number, (k, count) in itertools.product(range(trials), enumerate(counts)):
            on_step(NAMES[model], (i + number / trials) / len(models))
            key = jax.random.fold_in(jax.random.key(seed), number)
            A, truth = draw_problem(key, model, (side, side), rank, count)
            both = recoveries(A, truth, max(counts), methods)
            values = _ratios(A, truth, both[FLAT].matrix, both[NUCLEAR].matrix)
            for name, value in values.items():
                found[model, name][number, k] = value
        for number in range(trials):
            table.add(
                model=model,
                trial=number,
                measurements=counts,
                nuclear_norm_over_least=found[model, "norm"][number],
                bound=found[model, "bound"][number],
                convex_bound_over_flat=found[model, "convex trace"][number],
                truth_trace_over_flat=found[model, "truth trace"][number],
                nuclear_trace_over_flat=found[model, "nuclear trace"][number],
            )

    def panel(model: str, ylabel: str, names: dict[str, str]) -> Panel:
        curves = [
            Curve(loads, found[model, name], label, SERIES[k], "-" if k == 0 else "--", "ox"[k])
            for k, (name, label) in enumerate(names.items())
        ]
        return Panel("measurements N / (r d)", ylabel, curves, NAMES[model], ticks=loads)

    norms = {"norm": "flat minimum"}
    bound = {"bound": "bound (κ(R) κ(C))^{1/2}"}
    traces = {"truth trace": "truth", "nuclear trace": NUCLEAR}
    drawn = [panel(model, "nuclear norm / least nuclear norm", norms) for model in models]
    drawn += [panel(model, "trace of Hessian / flat minimum's", traces) for model in models]
    drawn += [panel(model, "nuclear norm / least, at most", bound) for model in models]
    title = f"{side} x {side}, rank {rank}\n{trials} seeds; {BAND}"
    picture = panels(title, drawn, across=len(models))
    return Finding(picture, _regularity_claims(found, models, counts), table.columns())


def _ratios(
    A: AbstractMeasurements, truth: jax.Array, flat: np.ndarray, nuclear: np.ndarray
) -> dict[str, float]:
    """The quantities of the figure for one problem."""
    same = same_shape(A, A.count)  # entries as products: a common factor leaves all ratios
    R = np.asarray(same.second_moment(jnp.eye(A.shape[1])))
    C = np.asarray(same.second_moment_adjoint(jnp.eye(A.shape[0])))
    trace, of_truth, of_nuclear = (
        float(induced_regularizer(jnp.asarray(M), same, 2)) for M in (flat, truth, nuclear)
    )
    return {
        "norm": float(np.linalg.norm(flat, "nuc") / np.linalg.norm(nuclear, "nuc")),
        "bound": float(np.linalg.cond(R) * np.linalg.cond(C)) ** 0.5,
        "convex trace": 4 * _weighted_norm_bound(same, truth, R, C) / trace,
        "truth trace": of_truth / trace,
        "nuclear trace": of_nuclear / trace,
    }


def _weighted_norm_bound(
    A: AbstractMeasurements, truth: jax.Array, R: np.ndarray, C: np.ndarray
) -> float:
    """A bound below ||R^{1/2} M C^{1/2}||_* of all interpolators M, convex, without a network.

    The least nuclear norm of R^{1/2} M C^{1/2}, measured by R^{-1/2} A_i C^{-1/2}.
    """
    left, right = _inverse_root(R), _inverse_root(C)
    A = independent(A)
    weighted: AbstractMeasurements
    if isinstance(A, DenseMeasurements):
        matrices = left @ np.asarray(A.matrices) @ right
        weighted = DenseMeasurements(matrices, prepare=False)
    else:
        assert isinstance(A, RankOneMeasurements)
        weighted = RankOneMeasurements(np.asarray(A.left) @ left, np.asarray(A.right) @ right)
    return nuclear_minimum(weighted, np.asarray(A.apply(truth)), tolerance=1e-6).lower_bound


def _inverse_root(moment: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(moment)
    return (vectors / np.sqrt(values)) @ vectors.T


def _regularity_claims(
    found: dict[tuple[str, str], np.ndarray], models: tuple[str, ...], counts: tuple[int, ...]
) -> tuple[Claim, ...]:
    """Claims from (trials, counts) of each model and quantity, counts from few to many."""
    few, most = counts[0], counts[-1]
    claims = [
        Claim(
            f"{NAMES[model].capitalize()}: with {most} measurements the flat minimum has the least "
            "nuclear norm, to 1% on average.",
            "nuclear norm / least nuclear norm",
            mean_of(found[model, "norm"][:, -1]),
            most=1.01,
        )
        for model in models
    ]

    def all_of(quantity: str) -> np.ndarray:
        return np.asarray([found[model, quantity] for model in models])

    claims += [
        Claim(
            "The flat minimum's nuclear norm is at most (κ(R) κ(C))^{1/2} times the least.",
            "nuclear norm / least nuclear norm / bound",
            largest_of(all_of("norm") / all_of("bound"), "trials"),
            most=1.0,
        ),
        Claim(
            "Flat minima are global: no interpolator's trace, 4 ||R^{1/2} M C^{1/2}||_*, is 0.1% less, "
            "by convex duality.",
            "lower bound / trace of the flat minimum",
            smallest_of(all_of("convex trace"), "trials"),
            least=0.999,
        ),
    ]
    if "entries" in models:
        truth, nuclear = (found["entries", name] for name in ("truth trace", "nuclear trace"))
        claims += [
            Claim(
                "Completion: the least nuclear norm is another interpolator, whose trace is at least 1% "
                f"above the flat minimum's with {few} entries.",
                "trace of the least nuclear norm's / flat minimum's",
                mean_of(nuclear[:, 0]),
                least=1.01,
            ),
            Claim(
                f"Completion: with {few} entries the truth is no flat minimum, by 1% of the trace, in "
                "half of the trials or more: exact recovery is not promised.",
                "share of trials with trace of truth / flat minimum's above 1.01",
                share_of(truth[:, 0] > 1.01),
                least=0.5,
            ),
            Claim(
                f"Completion: with {most} entries the truth is the flat minimum, to 0.1% of the trace, "
                "in half of the trials or more, without a proof that it is.",
                "share of trials with trace of truth / flat minimum's below 1.001",
                share_of(truth[:, -1] < 1.001),
                least=0.5,
            ),
        ]
    return tuple(claims)
