"""The spectrum of the Hessian of a deep linear network's loss, from exact products with it.

`flatrank.flatness.general` does the same for any loss of any model.
"""

from typing import Any

import lineax as lx
from jaxtyping import Array, Float

from . import general
from ._lanczos import SpectralDensity
from ._trace import check_values, fitting, loss
from .general import Eigenpairs


def hessian_operator(network: Any, A: Any, y: Any) -> lx.FunctionLinearOperator:
    """The Hessian of `loss` as a lineax operator on networks: products, no matrix.

    One product costs about two gradients (forward over reverse). Raises ValueError if the shapes
    do not fit.
    """
    network, A = fitting(network, A)
    return general.hessian_operator(loss, network, A, check_values(y, A))


def dense_hessian(network: Any, A: Any, y: Any) -> Float[Array, "p p"]:
    """The whole Hessian of `loss`, layers flattened W_1 first, shape (p, p).

    Raises MemoryError before allocating what would not fit.
    """
    network, A = fitting(network, A)
    return general.dense_hessian(loss, network, A, check_values(y, A))


def largest_eigenvalues(
    network: Any,
    A: Any,
    y: Any,
    count: int = 1,
    *,
    key: Any = None,
    tolerance: Any = None,
) -> Eigenpairs:
    """The largest (most positive) eigenvalues of the Hessian of `loss`, largest first.

    Exact up to 400 parameters, then Lanczos with residuals that bound its error: see
    `flatrank.flatness.general.largest_eigenvalues`. Raises ValueError for a count above the
    parameters.
    """
    network, A = fitting(network, A)
    y = check_values(y, A)
    return general.largest_eigenvalues(
        loss, network, A, y, count=count, key=key, tolerance=tolerance
    )


def largest_eigenvalue(network: Any, A: Any, y: Any) -> Float[Array, ""]:
    """The largest eigenvalue of the Hessian of `loss`; see `largest_eigenvalues` for its error."""
    return largest_eigenvalues(network, A, y).values[0]


def spectral_density(
    network: Any,
    A: Any,
    y: Any,
    *,
    key: Any,
    probes: int = 16,
    points: int = 40,
) -> SpectralDensity:
    """The eigenvalue density of the Hessian of `loss`, by stochastic Lanczos quadrature.

    An estimate, which carries its standard error; what is exact (`trace_of_hessian`) should not be
    read from it. Raises ValueError for fewer than two probes, which have no scatter.
    """
    network, A = fitting(network, A)
    y = check_values(y, A)
    return general.spectral_density(loss, network, A, y, key=key, probes=probes, points=points)
