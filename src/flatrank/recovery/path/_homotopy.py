"""The interpolator of least Schatten quasi-norm: Gauss-Newton along a penalty that falls to zero.

Weight decay at depth L induces L ||X||_{S_q}^q, q = 2 / L. For q < 1 (depth 3 and more) its
interpolators have low rank, and a path of

    minimise 1/2 ||A(X) - y||^2 + (weight / q) sum_i s_i(X)^q,      weight = p t^{2 - q},  t -> 0

finds one. The measurements are scaled so that ||X||_F is about 1, and p so that ||A(X)||^2 is about
p ||X||_F^2; t is then about the size below which a singular value does not pay for itself.

Each step is one Gauss-Newton step on balanced factors X = P Q^T, in which the penalty is majorised by a
ridge that weighs direction i with s_i^{q-1} (as in iteratively reweighted least squares), solved by
preconditioned conjugate gradients, so that badly conditioned matrices cost iterations and not accuracy.
Three things make it reach the information limit:

* It starts wider than any rank that N measurements can determine, and t falls slowly until the rank is
  within that limit: the penalty, not the start, chooses the directions.
* Afterwards a direction is added when the residual's leading singular pair pays for itself, which
  brings back small singular values (condition number 1e5) once the large ones are fitted.
* Once the residual is below t, t follows the residual, and the steps converge superlinearly to
  round-off, with the rank that is left.

With noise, t stops at the level where a singular pair of pure noise would begin to pay for itself.
"""

from typing import Any, NamedTuple

from jaxtyping import PRNGKeyArray

from ..._progress import OnStep
from .._low_rank_matrix import LowRankMatrix, leading_singular_triples
from .._machine import Stop
from .._scale import safe_norm
from .._step_limits import StepLimits
from ..factored import AbstractFactored
from ._gauss_newton import gauss_newton
from ._growth import grown

# The start: the fit weighs this many times the penalty.
_START = 4.0
# t falls by the first factor a step while the rank is too large to be determined, then by the second.
_CAREFUL, _BRISK = 1.05, 1.15
# Relative accuracy of the inner solves, on the way and at the end.
_INNER, _INNER_END = 0.1, 0.03
# Directions sought in the residual at a time.
_PROBES = 4
# Random probes that take the place of those that were used, in turn.
_POOL = 8
# After so many steps without progress the objective may rise by this factor. In a curved valley (a line
# with hardly more entries than the rank) steps along it are halved to nothing; full steps leave it and
# come back further down.
_PATIENCE, _BOLD = 4, 1e6
# Singular values below this fraction of t are dropped.
_NEGLIGIBLE = 1e-3
# How much wider than any rank that can be determined the start is, and how wide at least.
_WIDER, _LEAST_WIDE = 3, 10


class PathEnd(NamedTuple):
    """Where the path ended: the matrix, ||A(X) - y|| / ||y||, steps and inner steps taken, history."""

    X: LowRankMatrix
    residual: Any
    steps: Any
    inner_steps: Any
    history: Any


class _State(NamedTuple):
    X: LowRankMatrix
    probes: Any  # guess of the residual's leading right singular vectors
    R: Any
    t: Any
    ending: Any
    solved: Any  # whether the last inner solve reached its accuracy
    steps: Any
    inner_steps: Any
    residual: Any
    best: LowRankMatrix
    least: Any
    stalled: Any
    done: Any
    history: Any


class PathSettings(NamedTuple):
    """What a path needs to know beside the data.

    * `q`: 2 / depth.
    * `rank_limit`: the largest rank that the measurements can determine.
    * `eps`: the resolution of the data's type.
    * `limits`: of steps, and of conjugate gradients in each.
    * `sweeps`: of subspace iteration in the spectral start; 0 is a random one.
    * `on_step`: is told of each step.
    * `stop`: ends it early with the best so far; on the host only.
    """

    q: float
    rank_limit: int
    eps: float
    limits: StepLimits
    sweeps: int = 5
    on_step: OnStep | None = None
    stop: Stop | None = None


def start_width(shape: tuple[int, int], rank_limit: int) -> int:
    """How many directions a path starts with."""
    return min(max(_WIDER * rank_limit, _LEAST_WIDE), *shape)


def homotopy(
    F: AbstractFactored,
    y: Any,
    key: PRNGKeyArray,
    settings: PathSettings,
    *,
    floor: Any = None,
    watch: tuple[AbstractFactored, Any] | None = None,
) -> PathEnd:
    """The path from a spectral start.

    It ends at round-off; at `floor` (in the units of the matrix) if t gets there; or where the error
    on the measurements to `watch`, which are not fitted, has long passed its least value, and then the
    matrix of that least error is returned.
    """
    machine, xp = F.machine, F.machine.xp
    n = F.shape[1]
    q, rank_limit, limits = settings.q, settings.rank_limit, settings.limits
    target = F.arranged(y)
    dtype = target.dtype
    wide = start_width(F.shape, rank_limit)
    scale = safe_norm(xp, target) / xp.sqrt(F.power)
    scale = xp.where(scale > 0, scale, 1.0)
    target = target / scale
    # All at once: XLA on a CPU may hang on loops that do not depend on each other (decision 3).
    random = machine.normal(key, (n, wide + (1 + _POOL) * _PROBES), dtype)
    begin, probes = random[:, :wide], random[:, wide:].reshape(n, 1 + _POOL, _PROBES)
    X = leading_singular_triples(F, target, begin, sweeps=settings.sweeps)
    X = X._replace(s=X.s / xp.linalg.norm(X.s))
    t = (q / (_START * xp.sum(X.s**q))) ** (1 / (2 - q))
    inf = xp.asarray(xp.inf, dtype)
    state = _State(
        X=X,
        probes=probes[:, _POOL, :n],
        R=-target,
        t=t,
        ending=xp.asarray(False),
        solved=xp.asarray(True),
        steps=machine.integer(0),
        inner_steps=machine.integer(0),
        residual=xp.asarray(1.0, dtype),
        best=X,
        least=inf,
        stalled=machine.integer(0),
        done=xp.asarray(False),
        history=xp.full(limits.outer, xp.nan, dtype),
    )
    floor = None if floor is None else floor / scale
    if watch is not None:
        watch = (watch[0], watch[0].arranged(watch[1]) / scale)
    pool = xp.swapaxes(probes[:, :_POOL, :n], 0, 1)
    problem = _Problem(F, target, settings, pool, floor, watch)

    def too_wide(state: _State) -> Any:
        return xp.sum(state.X.s > _NEGLIGIBLE * state.t) > rank_limit

    if wide > rank_limit:
        state = machine.loop(
            lambda state: ~state.done & too_wide(state) & (state.steps < limits.outer // 4),
            lambda state: problem.step(state, growing=False),
            state,
            settings.stop,
        )
        X = state.X.leading(rank_limit)
        state = state._replace(X=X, best=X, least=inf, stalled=machine.integer(0))
    state = machine.loop(
        lambda state: ~state.done & (state.steps < limits.outer),
        lambda state: problem.step(state, growing=True),
        state,
        settings.stop,
    )
    best = state.best._replace(s=state.best.s * scale)
    return PathEnd(best, state.least, state.steps, state.inner_steps, state.history)


class _Problem(NamedTuple):
    """What a step needs to know and does not change."""

    F: AbstractFactored
    target: Any
    settings: PathSettings
    pool: Any  # fresh probes, (_POOL, n, probes)
    floor: Any
    watch: tuple[AbstractFactored, Any] | None

    def step(self, state: _State, growing: bool) -> _State:
        """One Gauss-Newton step at the present t, then the next t."""
        F, machine, xp = self.F, self.F.machine, self.F.machine.xp
        q, rank_limit, eps = self.settings.q, self.settings.rank_limit, self.settings.eps
        limits = self.settings.limits
        weight = F.power * state.t ** (2 - q)
        X, probes = state.X, state.probes
        if growing:
            X, probes = grown(
                F,
                X,
                state.R,
                probes,
                self.pool[state.steps % _POOL],
                weight=weight,
                q=q,
                rank_limit=rank_limit,
                allowed=state.solved,
            )
        s = xp.where(X.s > _NEGLIGIBLE * state.t, X.s, 0.0)
        X = LowRankMatrix(*machine.live(s > 0, X.U, s, X.V))
        live = X.s > 0
        # With noise there is no end to fall to, and bold steps would go to and fro.
        bold = growing and self.floor is None and self.watch is None
        ridge = weight * xp.where(live, xp.where(live, X.s, 1.0) ** (q - 1), 0.0)
        moved = gauss_newton(
            F,
            self.target,
            X,
            ridge,
            xp.where(state.ending, _INNER_END, _INNER),
            limits.inner,
            blocks=growing,
            eps=eps,
            stop=self.settings.stop,
            boldness=xp.where(state.stalled >= _PATIENCE, _BOLD, 1.0) if bold else 1.0,
        )
        X, R = moved.X, moved.R
        residual = xp.linalg.norm(R) / xp.linalg.norm(self.target)
        error = residual
        if self.watch is not None:
            F_watch, y_watch = self.watch
            fit = F_watch.apply(X.factors(machine))
            error = xp.linalg.norm(fit - y_watch) / xp.linalg.norm(y_watch)
        better = error < state.least
        stalled = xp.where(error < 0.9 * state.least, 0, state.stalled + 1)
        # Round-off is reached when nothing is gained any more.
        done = (residual < eps ** (2 / 3)) & (stalled > 3)
        done |= (residual < 100 * eps) & (residual > 0.5 * state.least)
        # At the largest rank that can be determined and still not there: there is no such matrix.
        if growing and self.floor is None:
            done |= (stalled > 16) & (xp.sum(X.s > 0) >= rank_limit)
        if self.watch is not None:
            done |= (stalled > 10) & (error > 1.2 * state.least)
        determined = xp.sum(X.s > _NEGLIGIBLE * state.t) <= rank_limit
        falling = state.t / xp.where(determined, _BRISK, _CAREFUL)
        ending = (residual < falling) & (moved.fraction > 0.1) & determined
        t = xp.where(ending, residual, falling)
        if self.floor is not None:
            t = xp.maximum(t, self.floor)
            done |= (state.t <= self.floor) & (xp.abs(residual - state.residual) < 1e-3 * residual)
        machine.tell(self.settings.on_step, state.steps, residual, limits.outer)
        return _State(
            X=X,
            probes=probes,
            R=R,
            t=t,
            ending=ending,
            solved=moved.inner_steps < limits.inner,
            steps=state.steps + 1,
            inner_steps=state.inner_steps + moved.inner_steps,
            residual=residual,
            best=machine.chosen(better, X, state.best),
            least=xp.minimum(error, state.least),
            stalled=stalled,
            done=done | ~xp.isfinite(residual),
            history=machine.put(state.history, state.steps, residual),
        )
