"""How often flatness of each depth recovers a matrix, against nuclear norm and weight decay."""

import itertools
from typing import Any

import jax
import numpy as np

from .._progress import OnStep
from ..penalties import Flatness, WeightDecay
from ..plots import curves_over_seeds
from ..problems import draw_problem
from ..recovery import Auto, Lagrangian
from ..reports import (
    ABOVE_ZERO,
    Claim,
    highest_mean,
    lowest_mean,
    mean_of,
    share_of,
)
from ._paper import Finding, Rows
from ._recoveries import NUCLEAR, RECOVERED, network_method, recoveries

_NAMES = {
    "entries": "missing entries",
    "rank-one": "products of two Gaussian vectors",
    "gaussian": "Gaussian matrices",
}
_DECAY = "weight decay, depth 3"
# A difference of shares below this is no difference: the mean is over all oversamplings.
_SLIGHT = 0.05


def success(
    *,
    seed: int,
    on_step: OnStep,
    ensembles: tuple[str, ...],
    depths: tuple[int, ...],
    side: int,
    rank: int,
    oversamplings: tuple[float, ...],
    trials: int,
    outer_steps: int,
) -> Finding:
    """Errors of every method on the same matrices and measurements, against the oversampling."""
    table = Rows()
    freedom = rank * (2 * side - rank)
    counts = [round(oversampling * freedom) for oversampling in oversamplings]
    method = Auto(lagrangian=Lagrangian(max_outer_steps=outer_steps))
    methods = {_flat(depth): network_method(Flatness(), depth, method) for depth in depths}
    methods[_DECAY] = network_method(WeightDecay(), 3, method)
    names = (NUCLEAR, *methods)
    drawn: dict[str, dict[str, dict[str, Any]]] = {}
    claims: list[Claim] = []
    ended = dict.fromkeys(names, 0)
    for i, ensemble in enumerate(ensembles):
        errors = {name: np.full((trials, len(counts)), np.nan) for name in names}
        for number, (k, count) in itertools.product(range(trials), enumerate(counts)):
            done = (number * len(counts) + k) / (trials * len(counts))
            on_step(f"{_NAMES[ensemble]}, trial {number + 1}", (i + done) / len(ensembles))
            key = jax.random.fold_in(jax.random.key(seed), number)
            A, truth = draw_problem(key, ensemble, (side, side), rank, count, least=rank)
            for name, one in recoveries(A, truth, max(counts), methods).items():
                errors[name][number, k] = one.error
                ended[name] += one.converged
        for name, number in itertools.product(names, range(trials)):
            table.add(
                ensemble=ensemble,
                method=name,
                trial=number,
                oversampling=oversamplings,
                measurements=counts,
                error=errors[name][number],
            )
        claims += _claims(ensemble, {name: e < RECOVERED for name, e in errors.items()}, depths)
        drawn[_NAMES[ensemble]] = {name: _curve(oversamplings, errors[name]) for name in names}
    solves = trials * len(counts) * len(ensembles)
    facts = (
        ("solves that converged", ", ".join(f"{n} {k} of {solves}" for n, k in ended.items())),
    )
    picture = curves_over_seeds(
        drawn,
        "oversampling N / r(m + n - r)",
        f"share of trials with error < {RECOVERED:g}",
        f"{side} x {side}, rank {rank}, {trials} trials\nbands: 95% Wilson intervals",
    )
    return Finding(picture, tuple(claims), table.columns(), facts)


def _curve(oversamplings: tuple[float, ...], errors: np.ndarray) -> dict[str, Any]:
    """The share of recoveries with its interval, from errors (trials, oversamplings)."""
    shares = [share_of(column < RECOVERED) for column in errors.T]
    return {
        "x": oversamplings,
        "middle": [share.value for share in shares],
        "low": [share.low for share in shares],
        "high": [share.high for share in shares],
    }


def _flat(depth: int) -> str:
    return f"flatness, depth {depth}"


def _claims(
    ensemble: str, recovered: dict[str, np.ndarray], depths: tuple[int, ...]
) -> tuple[Claim, ...]:
    """From shares of each trial over all oversamplings, paired: every method sees the same problems."""
    share = {name: np.mean(found, axis=1) for name, found in recovered.items()}
    kind = _NAMES[ensemble][:1].upper() + _NAMES[ensemble][1:]
    deepest = depths[-1]
    gain = mean_of(share[_flat(deepest)] - share[_flat(2)])
    decay = Claim(
        f"{kind}: weight decay of depth 3 recovers no less than flatness of any depth.",
        "difference of shares recovered, over all oversamplings, the smallest over depths",
        lowest_mean({d: share[_DECAY] - share[_flat(d)] for d in depths})[1],
        least=0.0,
    )
    if ensemble == "gaussian":
        apart = {d: share[_flat(d)] - share[NUCLEAR] for d in depths}
        most, above = highest_mean(apart)
        least, below = lowest_mean(apart)
        return (
            Claim(
                f"{kind}: no depth recovers more than the least nuclear norm (by {_SLIGHT:g}).",
                f"difference of shares recovered, the largest over depths (depth {most})",
                above,
                most=_SLIGHT,
            ),
            Claim(
                f"{kind}: nor less.",
                f"difference of shares recovered, the smallest over depths (depth {least})",
                below,
                least=-_SLIGHT,
            ),
            decay,
        )
    step, worst = lowest_mean(
        {(a, b): share[_flat(b)] - share[_flat(a)] for a, b in itertools.pairwise(depths)}
    )
    return (
        Claim(
            f"{kind}: depth changes what flatness recovers: depth {deepest} more than depth 2.",
            "difference of shares recovered, over all oversamplings",
            gain,
            least=_SLIGHT,
        ),
        Claim(
            f"{kind}: no depth recovers less than the one before (by {_SLIGHT:g}).",
            f"difference of shares recovered, the smallest (depth {step[1]} less depth {step[0]})",
            worst,
            least=-_SLIGHT,
        ),
        Claim(
            f"{kind}: flatness of depth 2, a weighted trace norm, recovers more than the nuclear norm.",
            "difference of shares recovered, over all oversamplings",
            mean_of(share[_flat(2)] - share[NUCLEAR]),
            least=ABOVE_ZERO,
        ),
        decay,
    )
