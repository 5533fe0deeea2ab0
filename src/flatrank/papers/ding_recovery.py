"""Ding et al. 2022: how often flat minima recover a matrix, over its size and the measurements."""

import itertools

import jax
import numpy as np

from .._progress import OnStep
from ..penalties import Flatness
from ..plots import success_map
from ..problems import draw_problem
from ..reports import Claim, lowest_mean, mean_of, share_of, smallest_of
from ._paper import Finding, Rows
from ._recoveries import NUCLEAR, RECOVERED, network_method, recoveries

NAMES = {
    "gaussian": "matrix sensing",
    "rank-one": "bilinear sensing",
    "quadratic": "quadratic network",
    "entries": "completion",
}
FLAT = "flat minimum"
# A difference of shares below this is no difference: the mean is over all sizes and counts.
_SLIGHT = 0.1


def maps(
    *,
    seed: int,
    on_step: OnStep,
    models: tuple[str, ...],
    sides: tuple[int, ...],
    rank: int,
    loads: tuple[float, ...],
    trials: int,
) -> Finding:
    """Errors of flat minima and of the least nuclear norm; a load is N / (r d)."""
    table = Rows()
    errors = {
        (model, name): np.full((trials, len(sides), len(loads)), np.nan)
        for model in models
        for name in (FLAT, NUCLEAR)
    }
    ended = 0
    for i, side in enumerate(sides):
        counts = [round(load * rank * side) for load in loads]
        methods = {FLAT: network_method(Flatness(), 2)}
        for j, model in enumerate(models):
            on_step(f"{NAMES[model]}, d = {side}", (i + j / len(models)) / len(sides))
            for number, (k, count) in itertools.product(range(trials), enumerate(counts)):
                key = jax.random.fold_in(jax.random.key(seed), number)
                A, truth = draw_problem(key, model, (side, side), rank, count)
                found = recoveries(A, truth, max(counts), methods)
                ended += found[FLAT].converged
                for name, one in found.items():
                    errors[model, name][number, i, k] = one.error
            for name, number in itertools.product((FLAT, NUCLEAR), range(trials)):
                table.add(
                    model=model,
                    method=name,
                    d=side,
                    trial=number,
                    measurements=counts,
                    error=errors[model, name][number, i],
                )
    shares = {
        f"{NAMES[model]},\n{name}": np.mean(errors[model, name] < RECOVERED, axis=0)
        for name in (FLAT, NUCLEAR)
        for model in models
    }
    picture = success_map(
        shares,
        [f"{load:g}" for load in loads],
        [str(side) for side in sides],
        "measurements N / (r d)",
        "side d of the matrix",
        f"rank {rank}, error < {RECOVERED:g}, {trials} trials (seeds) a cell",
    )
    solves = trials * len(sides) * len(loads) * len(models)
    facts = (("flat minima: solves that converged", f"{ended} of {solves}"),)
    return Finding(picture, _map_claims(errors, models, loads), table.columns(), facts)


def _map_claims(
    errors: dict[tuple[str, str], np.ndarray], models: tuple[str, ...], loads: tuple[float, ...]
) -> tuple[Claim, ...]:
    """Claims from errors (trials, sides, loads) of both methods; differences are paired."""
    recovered = {key: found < RECOVERED for key, found in errors.items()}
    claims = [
        Claim(
            f"{NAMES[model].capitalize()}: with N = {loads[-1]:g} r d flat minima recover the matrix "
            "in three trials of four or more.",
            f"share of trials of all sizes with an error below {RECOVERED:g}",
            share_of(recovered[model, FLAT][..., -1]),
            least=0.75,
        )
        for model in models
    ]
    for model in models:
        each = recovered[model, FLAT].mean((1, 2)) - recovered[model, NUCLEAR].mean((1, 2))
        matrices = "as often as the least nuclear norm does"
        more = "no less often than the least nuclear norm does"
        claims.append(
            Claim(
                f"{NAMES[model].capitalize()}: flat minima recover it "
                f"{more if model == 'entries' else matrices} (to {_SLIGHT:g}).",
                "difference of shares recovered, over all sizes and counts",
                mean_of(each),
                least=-_SLIGHT,
                **({} if model == "entries" else {"most": _SLIGHT}),
            )
        )
    growth = {
        model: (recovered[model, FLAT][:, -1] * 1.0 - recovered[model, FLAT][:, 0]).mean(1)
        for model in models
    }
    worst, least = lowest_mean(growth)
    few = [errors[model, FLAT][..., 0] for model in models if model != "quadratic"]
    return (
        *claims,
        Claim(
            "The number of measurements needed grows no faster than r d: at equal N / (r d) the largest "
            f"matrices are recovered no less often than the smallest (to {_SLIGHT:g}).",
            f"difference of shares recovered, over all N, the smallest of the models ({NAMES[worst]})",
            least,
            least=-_SLIGHT,
        ),
        Claim(
            f"N = {loads[0]:g} r d, below the degrees of freedom but of a symmetric matrix, is never "
            "enough.",
            "relative error, quadratic networks left out",
            smallest_of(np.asarray(few), "trials"),
            least=RECOVERED,
        ),
    )
