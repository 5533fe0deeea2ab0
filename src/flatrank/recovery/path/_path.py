"""The method `Path`: weight decay of depth three and more, exact or by least squares."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..._checks import is_traced, positive_integer
from ..._threads import one_blas_thread
from ...measurements import AbstractMeasurements, EntryMeasurements
from ...penalties import WeightDecay
from .._degrees_of_freedom import determined_rank
from .._low_rank_matrix import LowRankMatrix
from .._machine import HOST, Stop
from .._method import AbstractMethod, Problem
from .._solution import Result, Solution, solution, where
from .._step_limits import StepLimits
from ..determined import INNER_STEPS, Determined, blind_everywhere, determined_at, nothing_known
from ..factored import AbstractFactored, factored, machine_for
from ._homotopy import PathSettings, homotopy, start_width
from ._least_squares import fit_above_noise
from ._noise_level import estimated_noise
from ._outcome import Outcome, judged, outcome

# Other starts where the first one does not lead to a matrix that is determined.
_RESTARTS = 3


class Path(AbstractMethod):
    """Weight decay of depth 3 and more along a penalty that falls to zero (Gauss-Newton, decision 8).

    It finds the rank by itself and reaches the information limit and condition numbers of 1e5 and more.
    Where the first start leads to a matrix that the measurements do not determine, it tries a few
    others. Where none meets the measurements at a rank that they could determine, it looks for an
    interpolator of a higher rank, and says so (`Result.undetermined`).

    On CPUs it works in NumPy and machine code (Numba), in float64, and begins at once; on accelerators
    and under `jit` and `vmap` it is compiled by XLA.

    * `max_steps`: values of the penalty, one Gauss-Newton step each (400; most problems take 50 to 150).
    * `max_inner_steps`: conjugate gradients in each of them (3000).

    Raises ValueError for limits below one.
    """

    max_steps: int = eqx.field(static=True, default=400)
    max_inner_steps: int = eqx.field(static=True, default=3000)

    def __check_init__(self) -> None:
        """Raise ValueError for limits below one."""
        positive_integer(self.max_steps, "max_steps")
        positive_integer(self.max_inner_steps, "max_inner_steps")

    def unfit(self, problem: Problem) -> str | None:
        """Another penalty, depth 2, a start and a strength are for `Lagrangian`."""
        remedy = "or choose method=Lagrangian()"
        if not isinstance(problem.penalty, WeightDecay):
            return (
                f"`method` is Path, which follows weight decay, and `penalty` is {problem.penalty}: "
                f"pass penalty=WeightDecay(), {remedy}."
            )
        if problem.depth < 3:
            return (
                f"`method` is Path, which needs weight decay of depth 3 or more, and `depth` is "
                f"{problem.depth}: pass depth=3 or more, {remedy}."
            )
        if problem.start is not None:
            return (
                "`method` is Path, which begins wider than any rank that can be determined, and `start` "
                f"was given: leave `start` out, {remedy}."
            )
        if problem.strength is not None:
            return (
                "`method` is Path, on which the penalty's strength falls, and `strength` was given: "
                f"pass `noise` or neither, {remedy}."
            )
        machine = machine_for(problem.A, problem.y, problem.noise, problem.key)
        if problem.stop.limited and machine is not HOST:
            return (
                "`max_seconds` was given, and what XLA has compiled (accelerators, `jit`, `vmap`, other "
                "ensembles) cannot be stopped: leave it out, or pass method=Path(max_steps=...)."
            )
        return None

    def solve(self, problem: Problem) -> Solution:
        """An interpolator whose rank the measurements determine; with noise, least squares at a rank."""
        # Lines of entries are many small blocks, which OpenBLAS's threads would only disturb.
        small = isinstance(problem.A, EntryMeasurements)
        return (one_blas_thread(self._solve) if small else self._solve)(problem)

    def noise_level(
        self,
        A: AbstractMeasurements,
        y: Array,
        depth: int,
        width: int | None,
        key: PRNGKeyArray,
        stop: Stop,
    ) -> float:
        """The standard deviation of the error in y, estimated on measurements that are held out."""
        settings = self._settings(depth, determined_rank(A, width), y, None, stop)
        return estimated_noise(A, y, key, settings, width)

    def _settings(self, depth: int, limit: int, y: Array, on_step: Any, stop: Stop) -> PathSettings:
        limits = StepLimits(self.max_steps, self.max_inner_steps)
        eps = float(jnp.finfo(y.dtype).eps)
        return PathSettings(2 / depth, limit, eps, limits, on_step=on_step, stop=stop)

    def _solve(self, problem: Problem) -> Solution:
        A, y, noise = problem.A, problem.y, problem.noise
        # The path begins at random directions, always the same ones without a key.
        key = jax.random.key(0) if problem.key is None else problem.key
        machine = machine_for(A, y, noise, key)
        limit = determined_rank(A, problem.width)
        settings = self._settings(problem.depth, limit, y, problem.on_step, problem.stop)
        F = factored(A, start_width(A.shape, limit), machine, y.dtype)
        found = self._led_to(problem, F, key, settings)
        if not is_traced(A, y, noise, key):
            found = self._best_of_several(problem, F, key, settings, found)
        return solution(
            A,
            found.network,
            result=_stopped(problem.stop, found.result),
            method=self,
            bias=problem.penalty,
            residual=found.residual,
            penalty=found.penalty,
            rank=found.rank,
            determined=found.determined,
            noise=noise,
            outer_steps=found.end.steps,
            inner_steps=found.end.inner_steps,
            residual_history=found.end.history,
        )

    def _led_to(
        self, problem: Problem, F: AbstractFactored, key: PRNGKeyArray, settings: PathSettings
    ) -> Outcome:
        """Where one path leads."""
        solve = self._interpolated if problem.noise is None else self._fitted
        return solve(problem, F, key, settings)

    def _interpolated(
        self, problem: Problem, F: AbstractFactored, key: PRNGKeyArray, settings: PathSettings
    ) -> Outcome:
        """Where one path to exact values leads, and whether its matrix is determined."""
        end = F.machine.run(homotopy, F, F.machine.xp.asarray(problem.y), key, settings)
        found = outcome(F, problem, end.X, end, settings.rank_limit)
        met = (found.residual <= problem.tolerance) & (found.rank > 0)
        # More numbers than measurements: nothing needs to be tested.
        open_ = found.rank > determined_rank(problem.A, problem.width)
        found = found._replace(determined=self._determined(problem, F, end.X, met & ~open_, key))
        fit = where(open_, Result.undetermined, judged(found.determined, Result.low_rank))
        result = where(met, fit, Result.step_limit)
        result = where(end.residual < jnp.inf, result, Result.not_finite)
        # All measurements are zero, and so is the matrix of least penalty.
        result = where((found.rank == 0) & (found.residual == 0), Result.converged, result)
        return found._replace(result=result)

    def _best_of_several(
        self,
        problem: Problem,
        F: AbstractFactored,
        key: PRNGKeyArray,
        settings: PathSettings,
        found: Outcome,
    ) -> Outcome:
        """What was found; where that is not the one, the best of several from random starts.

        Where none meets the measurements at a rank that they determine, the path may be wider: an
        interpolator of more numbers than measurements, which is said of it.
        """
        for attempt in range(_RESTARTS):
            if problem.stop.now() or not self._worth_another(problem, F, found, key):
                break
            another = self._led_to(
                problem, F, jax.random.fold_in(key, 2 + attempt), settings._replace(sweeps=0)
            )
            found = max(found, another, key=_preference)
        limit = min(2 * settings.rank_limit + 2, *F.shape, problem.width or F.shape[0])
        if (
            found.result == Result.step_limit
            and limit > settings.rank_limit
            and not problem.stop.now()
        ):
            wide = factored(problem.A, start_width(F.shape, limit), F.machine, problem.y.dtype)
            another = self._interpolated(problem, wide, key, settings._replace(rank_limit=limit))
            if _RANKED.index(another.result) < _RANKED.index(found.result):
                return another
        return found

    def _worth_another(
        self, problem: Problem, F: AbstractFactored, found: Outcome, key: PRNGKeyArray
    ) -> bool:
        """Whether another start may lead to a matrix that is determined."""
        if found.result == Result.partly_determined and problem.noise is None:
            # Not where the measurements are blind at any matrix of the rank.
            return not blind_everywhere(problem.A, F, int(found.rank), key, stop=problem.stop)
        return found.result in _WORTH_ANOTHER

    def _fitted(
        self, problem: Problem, F: AbstractFactored, key: PRNGKeyArray, settings: PathSettings
    ) -> Outcome:
        """Least squares at the rank that stands out of the noise."""
        (m, n), machine = F.shape, F.machine
        # On the host in float64, whatever the type of the data.
        noise: Any = float(problem.noise) if machine is HOST else problem.noise  # type: ignore[arg-type]
        values = machine.xp.asarray(problem.y)
        fit = machine.run(fit_above_noise, F, values, key, noise, settings)
        found = outcome(F, problem, fit.X, fit.path, settings.rank_limit)
        found = found._replace(determined=self._determined(problem, F, fit.X, found.rank > 0, key))
        square, rank = fit.square, fit.rank
        freedom = (problem.A.count - rank * (m + n - rank)).clip(1).astype(square.dtype)
        explained = square <= 4 * noise**2 * freedom
        met = judged(found.determined, Result.converged)
        result = where(explained, met, Result.noise_not_reached)
        result = where(rank == 0, Result.collapsed, result)
        return found._replace(result=where(square < jnp.inf, result, Result.not_finite))

    def _determined(
        self, problem: Problem, F: AbstractFactored, X: LowRankMatrix, worth: Any, key: PRNGKeyArray
    ) -> Determined:
        """The test at the matrix found, or that nothing is known where there is none."""
        if not is_traced(worth) and not worth:
            return nothing_known(*F.shape)
        key = jax.random.fold_in(key, 1)
        steps = min(self.max_inner_steps, INNER_STEPS)
        return determined_at(problem.A, F, X, key, steps, problem.stop)


_WORTH_ANOTHER: tuple[Any, ...] = (
    Result.step_limit,
    Result.one_of_several,
    Result.undecided,
    Result.noise_not_reached,
)
# From the best to the worst; of equals, the one with the smaller residual.
_RANKED: tuple[Any, ...] = (
    Result.low_rank,
    Result.converged,
    Result.partly_determined,
    Result.one_of_several,
    Result.undecided,
    Result.undetermined,
    Result.noise_not_reached,
    Result.collapsed,
    Result.step_limit,
    Result.not_finite,
)


def _preference(found: Outcome) -> tuple[int, float]:
    return -_RANKED.index(found.result), -float(found.residual)


def _stopped(stop: Stop, result: Any) -> Any:
    """What ended the solve, where it was ended before it was done."""
    if stop.reason is None or result in _RANKED[:4]:
        return result
    return Result.time_limit if stop.reason == "time" else Result.interrupted
