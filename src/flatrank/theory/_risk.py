"""The population risk of interpolators under Gaussian measurements, and how it falls with N."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

from .._checks import between_0_and_1, positive_integer
from ._instances import nuclear
from ._theorem import Relation, Sides, Theorem, as_sides

# Each draw may violate the bound with this probability.
_FAILURE = 1e-4


def gaussian_risk_factor(m: int, n: int, N: int, confidence: Any = 0.95) -> float:
    """((sqrt(m) + sqrt(n)) / (N / sqrt(N + 1) - t))^2, t = sqrt(2 log(1 / (1 - confidence))).

    With this confidence over N Gaussian measurements, any two of their interpolators have ||M~ -
    M*||_F^2 <= factor * (||M~||_* + ||M*||_*)^2. Infinite while N is below t^2. Derived here from
    Gordon's escape through a mesh (docs/theory/risk.md).

    Raises ValueError for counts below one and a confidence outside (0, 1).
    """
    m, n, N = (positive_integer(v, name) for v, name in ((m, "m"), (n, "n"), (N, "N")))
    confidence = between_0_and_1(confidence, "confidence")
    t = math.sqrt(2 * math.log(1 / (1 - confidence)))
    seen = N / math.sqrt(N + 1) - t
    return ((math.sqrt(m) + math.sqrt(n)) / seen) ** 2 if seen > 0 else math.inf


def _hardest_in_kernel(
    measurements: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """A matrix that all measurements miss, of as small a nuclear norm as alternation finds.

    A random element of the kernel, then turns of truncation to half the rank and projection back.
    """
    factor = scipy.linalg.cho_factor(measurements @ measurements.T)

    def project(D: np.ndarray) -> np.ndarray:
        D = D.reshape(-1)
        for _ in range(2):
            D = D - measurements.T @ scipy.linalg.cho_solve(factor, measurements @ D)
        return D.reshape(shape)

    def spread(D: np.ndarray) -> float:
        return nuclear(D) / float(np.linalg.norm(D))

    best = project(rng.standard_normal(shape))
    D = best
    for _ in range(10):
        u, s, vt = np.linalg.svd(D, full_matrices=False)
        keep = max(1, len(s) // 2)
        D = project((u[:, :keep] * s[:keep]) @ vt[:keep])
        best = D if spread(D) < spread(best) else best
    return best / np.linalg.norm(best)


def _risk_sides(formula: Callable[..., Any], rng: np.random.Generator, quick: bool) -> Sides:
    """The risk of one interpolator on fresh measurements, when another is the truth.

    Truth and interpolator share out a direction D of the kernel so that ||M~||_* + ||M*||_* = ||D||_*:
    the worst case for the bound.
    """
    rows = []
    side = 40
    counts = (1599, 1200) if quick else (1599, 1599, 1400, 1200, 1000, 800)
    for N in counts:
        measurements = rng.standard_normal((N, side * side))
        D = _hardest_in_kernel(measurements, (side, side), rng)
        u, s, vt = np.linalg.svd(D)
        truth = -(u[:, : side // 2] * s[: side // 2]) @ vt[: side // 2]
        other = truth + D
        fresh = rng.standard_normal((4000, side * side))
        risk = np.mean((fresh @ (other - truth).ravel()) ** 2)
        factor = formula(side, side, N, 1 - _FAILURE)
        rows.append((risk, factor * (nuclear(truth) + nuclear(other)) ** 2))
    return as_sides(rows)


RISK = Theorem(
    name="population risk",
    statement=(
        "Interpolators of N Gaussian measurements have a risk E(<A, M~> - <A, M*>)^2 of at most "
        "((sqrt(m) + sqrt(n)) / (N / sqrt(N + 1) - t))^2 (||M~||_* + ||M*||_*)^2: it falls as 1/N."
    ),
    latex=r"\mathbb{E} \langle A, \tilde M - M^* \rangle^2 \le \Bigl( \frac{\sqrt m + \sqrt n}"
    r"{N/\sqrt{N+1} - t} \Bigr)^2 (\lVert \tilde M \rVert_* + \lVert M^* \rVert_*)^2",
    hypotheses=(
        "Independent standard normal entries, exact interpolation; probability 1 - exp(-t^2 / 2), "
        "here 1 - 1e-4. For the flattest M~, ||M~||_* is at most the RIP factor times ||M*||_*."
    ),
    source="Gordon 1988; derived here (docs/theory/risk.md)",
    relation=Relation.at_most,
    tolerance=0.0,
    formula=gaussian_risk_factor,
    sides=_risk_sides,
)

THEOREMS = (RISK,)
