"""Which directions to add: singular pairs of the residual that pay for themselves."""

from typing import Any, NamedTuple

from .._low_rank_matrix import LowRankMatrix, leading_singular_triples, low_rank_product
from ..factored import AbstractFactored


class Grown(NamedTuple):
    """The matrix with what was added to it, and probes (n, k) for the next search."""

    X: LowRankMatrix
    probes: Any


def grown(
    F: AbstractFactored,
    X: LowRankMatrix,
    R: Any,
    probes: Any,
    fresh: Any,
    *,
    weight: Any,
    q: float,
    rank_limit: int,
    allowed: Any,
) -> Grown:
    """The matrix with those singular pairs of its residual R that pay for themselves.

    Along u v^T the residual falls by s^2 / (2 c) at the size s / c, c = ||A(u v^T)||^2, and the
    penalty rises by weight / q times that size to the power q. One sweep from the probes finds the
    pairs; a probe whose pair was added is replaced by a fresh one.
    """
    machine, xp = F.machine, F.machine.xp
    new = leading_singular_triples(F, -R, probes, sweeps=1)
    cover = F.square_norms(new.U, new.V)
    size = new.s / xp.where(cover > 0, cover, 1.0)
    alive = xp.sum(X.s > 0)
    room = alive + xp.arange(len(size)) < rank_limit
    pays = (0.5 * new.s * size > weight * size**q / q) & (cover > 0)
    pays = pays & room & allowed

    def joined() -> LowRankMatrix:
        both = low_rank_product(
            machine,
            xp.concatenate([X.U * X.s[None], new.U * xp.where(pays, size, 0.0)[None]], 1),
            xp.concatenate([X.V, new.V], 1),
        )
        return both.leading(rank_limit)

    X = machine.either(xp.any(pays), joined, lambda: X)
    return Grown(X, xp.where(pays[None], fresh / len(fresh) ** 0.5, new.V))
