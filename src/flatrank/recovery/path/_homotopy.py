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

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._order import after
from ...measurements import AbstractMeasurements
from ...network import svd_of_product
from .._solution import Callback, tell
from ._factored import AbstractFactored, Pair

# The start: the fit weighs this many times the penalty.
_START = 4.0
# t falls by the first factor a step while the rank is too large to be determined, then by the second.
_CAREFUL, _BRISK = 1.05, 1.15
# Relative accuracy of the inner solves, on the way and at the end.
_INNER, _INNER_END = 0.1, 0.03
_INNER_STEPS = 3000
_MAX_STEPS = 400
# Directions sought in the residual at a time.
_PROBES = 4
# Random probes that take the place of those that were used, in turn.
_POOL = 8
# Singular values below this fraction of t are dropped.
_NEGLIGIBLE = 1e-3
# How much wider than any rank that can be determined the start is.
WIDER = 3


class Low(NamedTuple):
    """A matrix U diag(s) V^T: U (m, k), s (k,), V (n, k); unused columns have s = 0."""

    U: Array
    s: Array
    V: Array


class Path(NamedTuple):
    """Where the path ended: the matrix, ||A(X) - y|| / ||y||, steps and inner steps taken, history."""

    low: Low
    residual: Array
    steps: Array
    inner_steps: Array
    history: Array


class _State(NamedTuple):
    low: Low
    probes: Array  # guess of the residual's leading right singular vectors
    R: Array
    t: Array
    ending: Array
    solved: Array  # whether the last inner solve reached its accuracy
    steps: Array
    inner_steps: Array
    residual: Array
    best: Low
    least: Array
    stalled: Array
    done: Array
    history: Array


def determined_rank(A: AbstractMeasurements, width: int | None) -> int:
    """The largest rank k with k (m + n - k) <= N, at least 1 and at most the width."""
    m, n = A.shape
    limit = min(m, n) if width is None else min(m, n, width)
    return max([k for k in range(1, limit + 1) if k * (m + n - k) <= A.count], default=1)


def safe_norm(values: Float[Array, " N"]) -> Float[Array, ""]:
    """The Euclidean norm of values whose squares may not be numbers of their type."""
    largest = jnp.max(jnp.abs(values))
    return largest * jnp.linalg.norm(values / jnp.where(largest > 0, largest, 1.0))


def power_of(A: AbstractMeasurements, y: Float[Array, " N"]) -> Float[Array, ""]:
    """p, for which ||A(X)||^2 is p ||X||_F^2 on average over X."""
    return (A.count * A.mean_square_norm() / (A.shape[0] * A.shape[1])).astype(y.dtype)


@eqx.filter_jit
def homotopy(
    F: AbstractFactored,
    y: Float[Array, " N"],
    shape: tuple[int, int],
    power: Float[Array, ""],
    depth: int,
    rank_limit: int,
    key: PRNGKeyArray,
    floor: Float[Array, ""] | None = None,
    watch: tuple[AbstractFactored, Float[Array, " K"]] | None = None,
    callback: Callback | None = None,
) -> Path:
    """The path from a spectral start; `power` is p.

    It ends at round-off; at `floor` (in the units of the matrix) if t gets there; or where the error
    on the measurements to `watch`, which are not fitted, has long passed its least value, and then the
    matrix of that least error is returned. `callback` is told each step's number and residual.
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
    low = leading_part(F, target, begin, sweeps=5)
    low = low._replace(s=low.s / jnp.linalg.norm(low.s))
    t = (q / (_START * jnp.sum(low.s**q))) ** (1 / (2 - q))
    inf = jnp.asarray(jnp.inf, dtype)
    state = _State(
        low=low,
        probes=probes[:, _POOL, :n],
        R=-target,
        t=t,
        ending=jnp.asarray(False),
        solved=jnp.asarray(True),
        steps=jnp.asarray(0),
        inner_steps=jnp.asarray(0),
        residual=jnp.asarray(1.0, dtype),
        best=low,
        least=inf,
        stalled=jnp.asarray(0),
        done=jnp.asarray(False),
        history=jnp.full(_MAX_STEPS, jnp.nan, dtype),
    )
    floor = None if floor is None else floor / scale
    if watch is not None:
        watch = (watch[0], watch[0].arranged(watch[1] / scale))
    pool = jnp.swapaxes(probes[:, :_POOL, :n], 0, 1)
    problem = _Problem(F, target, power, q, rank_limit, pool, floor, watch, callback)

    def too_wide(state: _State) -> Array:
        return _live(state) > rank_limit

    if wide > rank_limit:
        state = jax.lax.while_loop(
            lambda state: ~state.done & too_wide(state) & (state.steps < _MAX_STEPS // 4),
            lambda state: problem.step(state, growing=False),
            state,
        )
        low = jax.tree.map(lambda x: x[..., :rank_limit], state.low)
        state = state._replace(low=low, best=low, least=inf, stalled=jnp.asarray(0))
    state = jax.lax.while_loop(
        lambda state: ~state.done & (state.steps < _MAX_STEPS),
        lambda state: problem.step(state, growing=True),
        state,
    )
    best = state.best._replace(s=state.best.s * scale)
    return Path(best, state.least, state.steps, state.inner_steps, state.history)


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
    callback: Callback | None

    def step(self, state: _State, growing: bool) -> _State:
        """One Gauss-Newton step at the present t, then the next t."""
        F, q = self.F, self.q
        eps = float(jnp.finfo(state.t.dtype).eps)
        weight = self.power * state.t ** (2 - q)
        low, probes = self.grown(state, weight) if growing else (state.low, state.probes)
        s = jnp.where(low.s > _NEGLIGIBLE * state.t, low.s, 0.0)
        live = s > 0
        ridge = weight * jnp.where(live, jnp.where(live, s, 1.0) ** (q - 1), 0.0)
        accuracy = jnp.where(state.ending, _INNER_END, _INNER)
        moved = gauss_newton(
            F, self.target, low._replace(s=s), ridge, self.power, accuracy, blocks=growing
        )
        low, R = moved.low, moved.R
        residual = jnp.linalg.norm(R) / jnp.linalg.norm(self.target)
        error = residual
        if self.watch is not None:
            F_watch, y_watch = self.watch
            fit = F_watch.apply(low.U * low.s[None], low.V)
            error = jnp.linalg.norm(fit - y_watch) / jnp.linalg.norm(y_watch)
        better = error < state.least
        stalled = jnp.where(error < 0.9 * state.least, 0, state.stalled + 1)
        # Round-off is reached when nothing is gained any more.
        done = (residual < eps ** (2 / 3)) & (stalled > 5)
        done |= (residual < eps ** (3 / 4)) & (residual > 0.5 * state.least)
        # At the largest rank that can be determined and still not there: there is no such matrix.
        if growing and self.floor is None:
            done |= (stalled > 16) & (jnp.sum(low.s > 0) >= self.rank_limit)
        if self.watch is not None:
            done |= (stalled > 10) & (error > 1.2 * state.least)
        determined = jnp.sum(low.s > _NEGLIGIBLE * state.t) <= self.rank_limit
        falling = state.t / jnp.where(determined, _BRISK, _CAREFUL)
        ending = (residual < falling) & (moved.fraction > 0.1) & determined
        t = jnp.where(ending, residual, falling)
        if self.floor is not None:
            t = jnp.maximum(t, self.floor)
            done |= (state.t <= self.floor) & (jnp.abs(residual - state.residual) < 1e-3 * residual)
        tell(self.callback, state.steps, residual)
        return _State(
            low=low,
            probes=probes,
            R=R,
            t=t,
            ending=ending,
            solved=moved.inner_steps < _INNER_STEPS,
            steps=state.steps + 1,
            inner_steps=state.inner_steps + moved.inner_steps,
            residual=residual,
            best=jax.tree.map(lambda new, old: jnp.where(better, new, old), low, state.best),
            least=jnp.minimum(error, state.least),
            stalled=stalled,
            done=done | ~jnp.isfinite(residual),
            history=state.history.at[state.steps].set(residual),
        )

    def grown(self, state: _State, weight: Array) -> tuple[Low, Array]:
        """The matrix with those singular pairs of the residual that pay for themselves.

        Along u v^T the residual falls by s^2 / (2 c) at the size s / c, c = ||A(u v^T)||^2, and the
        penalty rises by weight / q times that size to the power q.
        """
        new = leading_part(self.F, -state.R, state.probes, sweeps=1)
        cover = self.F.square_norms(new.U, new.V)
        size = new.s / jnp.where(cover > 0, cover, 1.0)
        alive = jnp.sum(state.low.s > 0)
        room = alive + jnp.arange(len(size)) < self.rank_limit
        pays = (0.5 * new.s * size > weight * size**self.q / self.q) & (cover > 0)
        pays &= room & state.solved

        def joined() -> Low:
            k = len(state.low.s)
            both = balanced(
                jnp.concatenate(
                    [state.low.U * state.low.s[None], new.U * jnp.where(pays, size, 0.0)[None]], 1
                ),
                jnp.concatenate([state.low.V, new.V], 1),
            )
            return jax.tree.map(lambda x: x[..., :k], both)

        low = jax.lax.cond(jnp.any(pays), joined, lambda: state.low)
        fresh = self.pool[state.steps % _POOL]
        return low, jnp.where(pays[None], fresh / len(fresh) ** 0.5, new.V)


class Moved(NamedTuple):
    """A Gauss-Newton step: where it led, its residual, the fraction taken, the inner steps."""

    low: Low
    R: Array
    fraction: Array
    inner_steps: Array


def gauss_newton(
    F: AbstractFactored,
    target: Array,
    low: Low,
    ridge: Float[Array, " k"],
    power: Array,
    accuracy: Array | float,
    blocks: bool,
) -> Moved:
    """A step for 1/2 ||A(P Q^T) - y||^2 + 1/2 sum_i ridge_i (||p_i||^2 + ||q_i||^2), balanced.

    Directions with s = 0 stay zero. The step is halved while the objective rises.
    """
    root = jnp.sqrt(low.s)[None]
    P, Q = low.U * root, low.V * root

    def objective(P: Array, Q: Array, R: Array) -> Array:
        return 0.5 * (jnp.sum(R**2) + jnp.sum(ridge[None] * (P**2)) + jnp.sum(ridge[None] * Q**2))

    R = F.apply(P, Q) - target
    before = objective(P, Q, R)
    product, transpose = F.linearized(P, Q)

    def normal(step: Pair) -> Pair:
        back = transpose(product(step))
        return back[0] + ridge[None] * step[0], back[1] + ridge[None] * step[1]

    downhill = transpose(-R)
    downhill = downhill[0] - ridge[None] * P, downhill[1] - ridge[None] * Q
    dead = jnp.where(low.s > 0, 0.0, 1.0).astype(ridge.dtype)
    found = F.blocks(P, Q) if blocks else None
    if found is None:
        precondition = Preconditioner(None, 1 / (power * low.s + ridge + dead))
    else:
        # One batch, not two at the same time (decision 3).
        inverses = _inverse(jnp.concatenate(found), ridge + dead)
        precondition = Preconditioner((inverses[: len(P)], inverses[len(P) :]), None)
    (dP, dQ), inner_steps = _conjugate_gradients(normal, downhill, precondition, accuracy)

    def moved(fraction: Array) -> tuple[Array, Array, Array, Array]:
        P_new, Q_new = P + fraction * dP, Q + fraction * dQ
        R = F.apply(P_new, Q_new) - target
        return P_new, Q_new, R, objective(P_new, Q_new, R)

    def halve(carry: tuple) -> tuple:
        return 0.5 * carry[0], moved(0.5 * carry[0])

    one = jnp.ones((), low.s.dtype)
    fraction, (P, Q, R, _) = jax.lax.while_loop(
        lambda carry: (carry[1][3] > before) & (carry[0] > 1e-2), halve, (one, moved(one))
    )
    new = balanced(P, Q)
    eps = float(jnp.finfo(low.s.dtype).eps)
    new = new._replace(s=jnp.where(new.s > 50 * eps * new.s[0], new.s, 0.0))
    return Moved(new, R, fraction, inner_steps)


class Preconditioner(NamedTuple):
    """An approximate inverse, by blocks of each row or by a diagonal that is the same for all."""

    blocks: tuple[Array, ...] | None
    diagonal: Array | None

    def __call__(self, pair: Pair) -> Pair:
        """The approximate inverse times a pair."""
        if self.blocks is None:
            assert self.diagonal is not None
            return self.diagonal[None] * pair[0], self.diagonal[None] * pair[1]
        return tuple(  # type: ignore[return-value]
            jnp.einsum("mij,mj->mi", block, x) for block, x in zip(self.blocks, pair, strict=True)
        )


def _inverse(blocks: Float[Array, "m k k"], ridge: Float[Array, " k"]) -> Float[Array, "m k k"]:
    """Inverses of blocks + diag(ridge), scaled to a unit diagonal first."""
    k = blocks.shape[-1]
    eye = jnp.eye(k, dtype=blocks.dtype)
    slack = 4e3 * float(jnp.finfo(blocks.dtype).eps)
    diagonal = jnp.diagonal(blocks, axis1=1, axis2=2) + ridge[None]
    scale = jnp.where(diagonal > 0, diagonal, 1.0) ** -0.5
    outer = scale[:, :, None] * scale[:, None, :]
    scaled = blocks * outer * (1 - eye)[None] + (1 + slack) * eye[None]
    factor = jnp.linalg.cholesky(scaled)
    inverse = jax.scipy.linalg.cho_solve((factor, True), jnp.broadcast_to(eye, blocks.shape))
    return inverse * outer


def _conjugate_gradients(
    normal: Callable[[Pair], Pair],
    right: Pair,
    precondition: Preconditioner,
    accuracy: Array | float,
) -> tuple[Pair, Array]:
    """The solution to a relative accuracy in the preconditioner's norm, and the steps taken."""

    def dot(a: Pair, b: Pair) -> Array:
        return jnp.vdot(a[0], b[0]) + jnp.vdot(a[1], b[1])

    def add(a: Pair, factor: Array, b: Pair) -> Pair:
        return a[0] + factor * b[0], a[1] + factor * b[1]

    def iterate(carry: tuple) -> tuple:
        x, r, direction, size, steps = carry
        image = normal(direction)
        length = size / dot(direction, image)
        x, r = add(x, length, direction), add(r, -length, image)
        z = precondition(r)
        new = dot(r, z)
        return x, r, add(z, new / size, direction), new, steps + 1

    z = precondition(right)
    first = dot(right, z)
    x, _, _, _, steps = jax.lax.while_loop(
        lambda carry: (carry[3] > accuracy**2 * first) & (carry[4] < _INNER_STEPS),
        iterate,
        (jax.tree.map(jnp.zeros_like, right), right, z, first, jnp.asarray(0)),
    )
    return x, steps


def balanced(P: Float[Array, "m k"], Q: Float[Array, "n k"]) -> Low:
    """The singular value decomposition of P Q^T; the matrix is not formed."""
    u, s, vt = svd_of_product(P, Q)
    return Low(u, s, vt.T)


@eqx.filter_jit
def leading_part(
    F: AbstractFactored, residual: Array, start: Float[Array, "n k"], sweeps: int
) -> Low:
    """The leading singular triples of A*(residual), by subspace iteration from a start."""

    def image(V: Array) -> Array:
        return jnp.linalg.qr(F.times(residual, V))[0]

    def sweep(_: Array, V: Array) -> Array:
        return jnp.linalg.qr(F.times_transposed(residual, image(V)))[0]

    V = jax.lax.fori_loop(0, sweeps - 1, sweep, jnp.linalg.qr(start)[0])
    U = image(V)
    return _svd_of_image(U, F.times_transposed(residual, U))


def _svd_of_image(U: Float[Array, "m k"], Z: Float[Array, "n k"]) -> Low:
    """The singular value decomposition of U Z^T for orthonormal U."""
    right, upper = jnp.linalg.qr(Z)
    a, s, bt = jnp.linalg.svd(after(right, upper.T), full_matrices=False)
    return Low(U @ a, s, right @ bt.T)


def _live(state: _State) -> Array:
    return jnp.sum(state.low.s > _NEGLIGIBLE * state.t)
