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

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._progress import OnStep
from .._factored_measurements import AbstractFactored
from .._low_rank_matrix import LowRankMatrix, leading_singular_triples
from .._scale import safe_norm
from .._step_limits import StepLimits
from .._tell import tell
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
# Singular values below this fraction of t are dropped.
_NEGLIGIBLE = 1e-3
# How much wider than any rank that can be determined the start is.
WIDER = 3


class PathEnd(NamedTuple):
    """Where the path ended: the matrix, ||A(X) - y|| / ||y||, steps and inner steps taken, history."""

    X: LowRankMatrix
    residual: Array
    steps: Array
    inner_steps: Array
    history: Array


class _State(NamedTuple):
    X: LowRankMatrix
    probes: Array  # guess of the residual's leading right singular vectors
    R: Array
    t: Array
    ending: Array
    solved: Array  # whether the last inner solve reached its accuracy
    steps: Array
    inner_steps: Array
    residual: Array
    best: LowRankMatrix
    least: Array
    stalled: Array
    done: Array
    history: Array


@eqx.filter_jit
def homotopy(
    F: AbstractFactored,
    y: Float[Array, " N"],
    shape: tuple[int, int],
    power: Float[Array, ""],
    depth: int,
    rank_limit: int,
    key: PRNGKeyArray,
    limits: StepLimits,
    *,
    floor: Float[Array, ""] | None = None,
    watch: tuple[AbstractFactored, Float[Array, " K"]] | None = None,
    on_step: OnStep | None = None,
) -> PathEnd:
    """The path from a spectral start; `power` is p.

    It ends at round-off; at `floor` (in the units of the matrix) if t gets there; or where the error
    on the measurements to `watch`, which are not fitted, has long passed its least value, and then the
    matrix of that least error is returned. `on_step` is told of each step.
    """
    m, n = shape
    q = 2 / depth
    dtype = y.dtype
    wide = min(WIDER * rank_limit, m, n)
    scale = safe_norm(y) / jnp.sqrt(power)
    scale = jnp.where(scale > 0, scale, 1.0)
    target = F.arranged(y / scale)
    # All at once: XLA on a CPU may hang on loops that do not depend on each other (decision 3).
    random = jax.random.normal(key, (n, wide + (1 + _POOL) * _PROBES), dtype)
    begin, probes = random[:, :wide], random[:, wide:].reshape(n, 1 + _POOL, _PROBES)
    X = leading_singular_triples(F, target, begin, sweeps=5)
    X = X._replace(s=X.s / jnp.linalg.norm(X.s))
    t = (q / (_START * jnp.sum(X.s**q))) ** (1 / (2 - q))
    inf = jnp.asarray(jnp.inf, dtype)
    state = _State(
        X=X,
        probes=probes[:, _POOL, :n],
        R=-target,
        t=t,
        ending=jnp.asarray(False),
        solved=jnp.asarray(True),
        steps=jnp.asarray(0),
        inner_steps=jnp.asarray(0),
        residual=jnp.asarray(1.0, dtype),
        best=X,
        least=inf,
        stalled=jnp.asarray(0),
        done=jnp.asarray(False),
        history=jnp.full(limits.outer, jnp.nan, dtype),
    )
    floor = None if floor is None else floor / scale
    if watch is not None:
        watch = (watch[0], watch[0].arranged(watch[1] / scale))
    pool = jnp.swapaxes(probes[:, :_POOL, :n], 0, 1)
    problem = _Problem(F, target, power, q, rank_limit, pool, floor, watch, limits, on_step)

    def too_wide(state: _State) -> Array:
        return _live(state) > rank_limit

    if wide > rank_limit:
        state = jax.lax.while_loop(
            lambda state: ~state.done & too_wide(state) & (state.steps < limits.outer // 4),
            lambda state: problem.step(state, growing=False),
            state,
        )
        X = jax.tree.map(lambda x: x[..., :rank_limit], state.X)
        state = state._replace(X=X, best=X, least=inf, stalled=jnp.asarray(0))
    state = jax.lax.while_loop(
        lambda state: ~state.done & (state.steps < limits.outer),
        lambda state: problem.step(state, growing=True),
        state,
    )
    best = state.best._replace(s=state.best.s * scale)
    return PathEnd(best, state.least, state.steps, state.inner_steps, state.history)


class _Problem(eqx.Module):
    """What a step needs to know and does not change."""

    F: AbstractFactored
    target: Array
    power: Array
    q: float
    rank_limit: int
    pool: Array  # fresh probes, (_POOL, n, probes)
    floor: Array | None
    watch: tuple[AbstractFactored, Array] | None
    limits: StepLimits
    on_step: OnStep | None

    def step(self, state: _State, growing: bool) -> _State:
        """One Gauss-Newton step at the present t, then the next t."""
        F, q = self.F, self.q
        eps = float(jnp.finfo(state.t.dtype).eps)
        weight = self.power * state.t ** (2 - q)
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
                rank_limit=self.rank_limit,
                allowed=state.solved,
            )
        s = jnp.where(X.s > _NEGLIGIBLE * state.t, X.s, 0.0)
        live = s > 0
        ridge = weight * jnp.where(live, jnp.where(live, s, 1.0) ** (q - 1), 0.0)
        accuracy = jnp.where(state.ending, _INNER_END, _INNER)
        moved = gauss_newton(
            F,
            self.target,
            X._replace(s=s),
            ridge,
            self.power,
            accuracy,
            self.limits.inner,
            blocks=growing,
        )
        X, R = moved.X, moved.R
        residual = jnp.linalg.norm(R) / jnp.linalg.norm(self.target)
        error = residual
        if self.watch is not None:
            F_watch, y_watch = self.watch
            fit = F_watch.apply(X.U * X.s[None], X.V)
            error = jnp.linalg.norm(fit - y_watch) / jnp.linalg.norm(y_watch)
        better = error < state.least
        stalled = jnp.where(error < 0.9 * state.least, 0, state.stalled + 1)
        # Round-off is reached when nothing is gained any more.
        done = (residual < eps ** (2 / 3)) & (stalled > 5)
        done |= (residual < eps ** (3 / 4)) & (residual > 0.5 * state.least)
        # At the largest rank that can be determined and still not there: there is no such matrix.
        if growing and self.floor is None:
            done |= (stalled > 16) & (jnp.sum(X.s > 0) >= self.rank_limit)
        if self.watch is not None:
            done |= (stalled > 10) & (error > 1.2 * state.least)
        determined = jnp.sum(X.s > _NEGLIGIBLE * state.t) <= self.rank_limit
        falling = state.t / jnp.where(determined, _BRISK, _CAREFUL)
        ending = (residual < falling) & (moved.fraction > 0.1) & determined
        t = jnp.where(ending, residual, falling)
        if self.floor is not None:
            t = jnp.maximum(t, self.floor)
            done |= (state.t <= self.floor) & (jnp.abs(residual - state.residual) < 1e-3 * residual)
        tell(self.on_step, state.steps, residual, self.limits.outer)
        return _State(
            X=X,
            probes=probes,
            R=R,
            t=t,
            ending=ending,
            solved=moved.inner_steps < self.limits.inner,
            steps=state.steps + 1,
            inner_steps=state.inner_steps + moved.inner_steps,
            residual=residual,
            best=jax.tree.map(lambda new, old: jnp.where(better, new, old), X, state.best),
            least=jnp.minimum(error, state.least),
            stalled=stalled,
            done=done | ~jnp.isfinite(residual),
            history=state.history.at[state.steps].set(residual),
        )


def _live(state: _State) -> Array:
    return jnp.sum(state.X.s > _NEGLIGIBLE * state.t)
