"""The spectrum of the Hessian of a deep linear network's loss, from exact products with it.

`flatrank.flatness.general` does the same for any loss of any model.
"""

import lineax as lx
from jaxtyping import Array, Float, PRNGKeyArray

from ..measurements import AbstractMeasurements
from ..network import DeepLinear
from . import general
from ._lanczos import SpectralDensity
from ._trace import check_fit, check_values, loss
from .general import Eigenpairs


def hessian_operator(
    network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
) -> lx.FunctionLinearOperator:
    """The Hessian of `loss` as a lineax operator on networks: products, no matrix.

    One product costs about two gradients (forward over reverse). Raises ValueError if the shapes
    do not fit.
    """
    check_fit(network, A)
    return general.hessian_operator(loss, network, A, check_values(y, A))


def dense_hessian(
    network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
) -> Float[Array, "p p"]:
    """The whole Hessian of `loss`, layers flattened W_1 first, shape (p, p).

    Raises MemoryError before allocating what would not fit.
    """
    check_fit(network, A)
    return general.dense_hessian(loss, network, A, check_values(y, A))


def largest_eigenvalues(
    network: DeepLinear,
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    count: int = 1,
    *,
    key: PRNGKeyArray | None = None,
    tolerance: float | None = None,
) -> Eigenpairs:
    """The largest (most positive) eigenvalues of the Hessian of `loss`, largest first.

    Exact up to 400 parameters, then Lanczos with residuals that bound its error: see
    `flatrank.flatness.general.largest_eigenvalues`. Raises ValueError for a count above the
    parameters.
    """
    check_fit(network, A)
    y = check_values(y, A)
    return general.largest_eigenvalues(
        loss, network, A, y, count=count, key=key, tolerance=tolerance
    )


def largest_eigenvalue(
    network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
) -> Float[Array, ""]:
    """The largest eigenvalue of the Hessian of `loss`; see `largest_eigenvalues` for its error."""
    return largest_eigenvalues(network, A, y).values[0]


def spectral_density(
    network: DeepLinear,
    A: AbstractMeasurements,
    y: Float[Array, " N"],
    *,
    key: PRNGKeyArray,
    probes: int = 16,
    points: int = 40,
) -> SpectralDensity:
    """The eigenvalue density of the Hessian of `loss`, by stochastic Lanczos quadrature.

    An estimate, which carries its standard error; what is exact (`trace_of_hessian`) should not be
    read from it. Raises ValueError for fewer than two probes, which have no scatter.
    """
    check_fit(network, A)
    y = check_values(y, A)
    return general.spectral_density(loss, network, A, y, key=key, probes=probes, points=points)
