"""The test: what no measurement sees of a random tangent, and which measurements nothing confirms."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from ..._checks import is_traced
from ...measurements import AbstractMeasurements, EntryMeasurements, IsotropicMeasurements
from .._low_rank_matrix import LowRankMatrix
from .._machine import Stop
from ..factored import AbstractFactored, factored
from ._determined import Determinacy, Determined, Move, nothing_known
from ._redundancy import core
from ._tangent import INNER_STEPS, Projection, TangentSpace, negligible

# So many random values are fitted before a measurement has leverage one; of one alone hardly anything
# is left by chance in one of 1e6 cases.
_PROBES = 3


def determined_at(
    A: AbstractMeasurements,
    F: AbstractFactored,
    X: LowRankMatrix,
    key: PRNGKeyArray,
    max_inner_steps: int = INNER_STEPS,
    stop: Stop | None = None,
) -> Determined:
    """What the measurements determine of the matrices of the rank of X, which is positive, at X.

    A random tangent comes back from its own measurements unless they are blind to a part of it. What
    is determined is confirmed if no measurement has leverage one, those aside that complete a line of
    as many entries as the rank. Where values are traced these cannot be told: with such a line the
    answer is `undecided`.
    """
    (m, n), machine, xp = F.shape, F.machine, F.machine.xp
    X = LowRankMatrix(*machine.live(X.s > 0, X.U, X.s, X.V))
    space = TangentSpace(F, X, max_inner_steps, stop)
    traced = is_traced(X, F)
    measurements = None if traced else A
    nowhere = Move(X.U, X.V, xp.zeros_like(X.U)[None], xp.zeros_like(X.V)[None])
    if _sees_every_entry(A):
        return _answer(Determinacy.yes, nowhere, measurements)
    blind = machine.run(_blind_move, space, key)
    # A matrix of full rank moves as it likes: the problem is linear, and nothing needs to confirm it.
    full = xp.sum(X.s > 0) == min(m, n)
    if traced:
        # One after the other (decision 3).
        later = X._replace(U=machine.after(blind.move.A, X.U))
        left = _left(space._replace(X=later), _seen(F, A), jax.random.fold_in(key, 1))
        confirmed = xp.abs(left.left) > negligible(X.U.dtype)
        confirmed = xp.all(confirmed | ~_seen(F, A)) & left.settled
        yes = blind.still & blind.settled & (full | confirmed)
        return _answer(_either(yes, Determinacy.yes, Determinacy.undecided), blind.move, None)
    if not blind.settled:
        return nothing_known(m, n)
    if blind.still and full:
        return _answer(Determinacy.yes, nowhere, A)
    unconfirmed = _unconfirmed(A, space, key)
    if unconfirmed is None:
        return nothing_known(m, n)
    if not len(unconfirmed):
        if blind.still:
            return _answer(Determinacy.yes, nowhere, A)
        return _answer(Determinacy.partly, _another(space, blind, key), A)
    rest = np.setdiff1d(np.arange(A.count), unconfirmed)
    if len(rest):
        F_rest = factored(A.part(rest), X.U.shape[1], machine, X.U.dtype)
        without = machine.run(_blind_move, space._replace(F=F_rest), key)
        if not without.settled:
            return nothing_known(m, n)
        move = _another(space._replace(F=F_rest), without, key)
    else:
        move = _random_move(space, key)
    return _answer(Determinacy.one_of_several if blind.still else Determinacy.partly, move, A)


def blind_everywhere(
    A: AbstractMeasurements,
    F: AbstractFactored,
    rank: int,
    key: PRNGKeyArray,
    max_inner_steps: int = INNER_STEPS,
    stop: Stop | None = None,
) -> bool:
    """Whether the measurements are blind to moves of a random matrix of a rank: then at nearly all."""
    if _sees_every_entry(A):
        return False
    (m, n), machine, xp = F.shape, F.machine, F.machine.xp
    random = machine.normal(key, (m + n, rank), F.arranged(xp.ones(A.count)).dtype)
    U, V = (xp.linalg.qr(side)[0] for side in (random[:m], random[m:]))
    space = TangentSpace(F, LowRankMatrix(U, xp.ones(rank), V), max_inner_steps, stop)
    blind = machine.run(_blind_move, space, jax.random.fold_in(key, 1))
    return bool(blind.settled) and not blind.still


class _Blind(NamedTuple):
    """A move that no measurement sees, whether there is none, and whether that settled."""

    move: Move
    still: Any
    settled: Any


def _sees_every_entry(A: AbstractMeasurements) -> bool:
    whole = A.count == A.shape[0] * A.shape[1]
    return isinstance(A, IsotropicMeasurements) or (isinstance(A, EntryMeasurements) and whole)


def _random_move(space: TangentSpace, key: PRNGKeyArray) -> Move:
    xp, m, Z = space.F.machine.xp, space.F.shape[0], space.orthonormal
    random = space.F.machine.normal(key, Z.shape, Z.dtype)
    random = random * xp.where(xp.sum(Z * Z, axis=0) > 0, 1.0, 0.0).astype(Z.dtype)[None]
    return Move(Z[:m], Z[m:], random[None, :m], random[None, m:])


def _blind_move(space: TangentSpace, key: PRNGKeyArray) -> _Blind:
    xp, m = space.F.machine.xp, space.F.shape[0]
    move = _random_move(space, key)
    tangent = xp.concatenate([move.A[0], move.B[0]])
    fit = space.projection(space.measured(tangent))
    rest = space.without_gauge(tangent - fit.tangent)
    still = xp.max(xp.abs(rest)) <= negligible(rest.dtype)
    return _Blind(move._replace(A=rest[None, :m], B=rest[None, m:]), still, fit.settled)


def _another(space: TangentSpace, blind: _Blind, key: PRNGKeyArray) -> Move:
    """The move with a second one."""
    key = jax.random.fold_in(key, 1 + _PROBES)
    moves = blind.move, space.F.machine.run(_blind_move, space, key).move
    A, B = (np.concatenate([np.asarray(move[side]) for move in moves]) for side in (2, 3))
    return blind.move._replace(A=A, B=B)


def _seen(F: AbstractFactored, A: AbstractMeasurements) -> Any:
    """Which places of the layout of residuals have a measurement."""
    xp = F.machine.xp
    return F.arranged(xp.ones(A.count)) > 0


def _left(space: TangentSpace, seen: Any, key: PRNGKeyArray) -> Projection:
    """Random values, fitted by tangents: their square is one less the leverage on average."""
    random = space.F.machine.normal(key, seen.shape, space.X.s.dtype)
    return space.projection(space.F.machine.xp.where(seen, random, 0.0))


def _unconfirmed(
    A: AbstractMeasurements, space: TangentSpace, key: PRNGKeyArray
) -> Int[np.ndarray, " unconfirmed"] | None:
    """The measurements that nothing confirms and something needs; None if it was not decided."""
    F, machine = space.F, space.F.machine
    seen = _seen(F, A)
    # Places of the layout, in the order of the measurements.
    places = np.argsort(
        np.where(seen, F.arranged(machine.xp.arange(1.0, A.count + 1)), np.inf).ravel()
    )
    places = places[: A.count]
    rank = int(np.sum(np.asarray(space.X.s) > 0))
    needed = core(A, rank) if isinstance(A, EntryMeasurements) else np.ones(A.count, bool)
    if not needed.any():
        # As many entries as the matrix takes numbers: nothing is confirmed.
        return np.arange(A.count)
    for probe in range(_PROBES):
        if not needed.any():
            break
        fit = machine.run(_left, space, seen, jax.random.fold_in(key, 1 + probe))
        if not fit.settled:
            return None
        left = np.abs(np.asarray(fit.left).ravel()[places])
        needed &= left <= negligible(space.X.U.dtype)
    return np.flatnonzero(needed)


def _either(condition: Any, yes: Any, no: Any) -> Any:
    return Determinacy.where(condition, yes, no)


def _answer(status: Any, move: Move, A: AbstractMeasurements | None) -> Determined:
    return Determined(status, Move(*(jax.device_put(part) for part in move)), A)
