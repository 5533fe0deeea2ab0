"""What became of a path: the network of its matrix, numbers of it, and how it is judged."""

from typing import Any, NamedTuple

import jax

from ...network import DeepLinear, balanced_layers
from .._low_rank_matrix import LowRankMatrix
from .._method import Problem
from .._scale import safe_norm
from .._solution import Result, where
from ..determined import Determinacy, Determined, nothing_known
from ..factored import AbstractFactored
from ._homotopy import PathEnd


class Outcome(NamedTuple):
    """The balanced network of a path's matrix, what is known of it, and the path's end."""

    network: DeepLinear
    residual: Any  # ||A(X) - y|| / ||y||
    penalty: Any
    rank: Any
    determined: Determined
    result: Any  # a `Result`
    end: PathEnd


def outcome(
    F: AbstractFactored, problem: Problem, X: LowRankMatrix, end: PathEnd, limit: int
) -> Outcome:
    """The outcome of a path that ended at X, of a rank up to `limit`; not judged yet."""
    y, depth, xp = problem.y, problem.depth, F.machine.xp
    y_here = xp.asarray(y)
    # The path of measurements that are all zero is NaN.
    zero = xp.all(y_here == 0)
    U, s, V = (xp.where(zero, 0.0, part).astype(y.dtype) for part in X)
    width = problem.width or limit
    network = DeepLinear(
        tuple(jax.device_put(layer) for layer in balanced_layers(xp, U, s, V.T, depth, width))
    )
    target = F.arranged(y_here)
    difference = F.apply(LowRankMatrix(U, s, V).factors(F.machine)) - target
    size = safe_norm(xp, target)
    residual = safe_norm(xp, difference) / xp.where(size > 0, size, 1.0)
    return Outcome(
        network,
        residual,
        depth * xp.sum(s ** (2 / depth)),
        xp.sum(s > 0),
        nothing_known(*F.shape),
        Result.undecided,
        end,
    )


def judged(determined: Determined, yes: Any) -> Any:
    """The result of a matrix that meets its measurements, `yes` where they determine it."""
    result: Any = Result.undecided
    for status, what in (
        (Determinacy.yes, yes),
        (Determinacy.partly, Result.partly_determined),
        (Determinacy.one_of_several, Result.one_of_several),
    ):
        result = where(determined.status == status, what, result)
    return result
