"""The method `Path`: weight decay of depth three and more, exact or by least squares."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..._checks import is_traced, positive_integer
from ..._threads import one_blas_thread
from ...measurements import AbstractMeasurements, EntryMeasurements
from ...network import DeepLinear, balanced_layers
from ...penalties import WeightDecay
from .._degrees_of_freedom import determined_rank
from .._low_rank_matrix import LowRankMatrix
from .._machine import HOST
from .._method import AbstractMethod, Problem
from .._solution import Result, Solution, solution, where
from .._step_limits import StepLimits
from ..determined import Determinacy, Determined, nothing_known, tested
from ..factored import AbstractFactored, factored, machine_for
from ._homotopy import PathEnd, PathSettings, homotopy, start_width
from ._least_squares import Fit, fit_above_noise
from ._noise_level import estimated_noise

# Conjugate gradients in a round of the test of determinacy.
_TEST_STEPS = 500


class Path(AbstractMethod):
    """Weight decay of depth 3 and more along a penalty that falls to zero (Gauss-Newton, decision 8).

    It finds the rank by itself and reaches the information limit and condition numbers of 1e5 and more.
    Where it finds no matrix whose rank the measurements determine, it says so (`Result.step_limit`) and
    does not look for another interpolator: `Auto` does.

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
        return None

    def solve(self, problem: Problem) -> Solution:
        """An interpolator whose rank the measurements determine; with noise, least squares at a rank."""
        # Lines of entries are many small blocks, which OpenBLAS's threads would only disturb.
        small = isinstance(problem.A, EntryMeasurements)
        return (one_blas_thread(self._solve) if small else self._solve)(problem)

    def noise_level(
        self, A: AbstractMeasurements, y: Array, depth: int, width: int | None, key: PRNGKeyArray
    ) -> float:
        """The standard deviation of the error in y, estimated on measurements that are held out."""
        settings = self._settings(depth, determined_rank(A, width), y, None)
        return estimated_noise(A, y, key, settings, width)

    def _settings(self, depth: int, limit: int, y: Array, on_step: Any) -> PathSettings:
        limits = StepLimits(self.max_steps, self.max_inner_steps)
        return PathSettings(2 / depth, limit, float(jnp.finfo(y.dtype).eps), limits, on_step)

    def _solve(self, problem: Problem) -> Solution:
        A, y, noise = problem.A, problem.y, problem.noise
        # The path begins at random directions, always the same ones without a key.
        key = jax.random.key(0) if problem.key is None else problem.key
        machine = machine_for(A, y, noise, key)
        limit = determined_rank(A, problem.width)
        settings = self._settings(problem.depth, limit, y, problem.on_step)
        F = factored(A, start_width(A.shape, limit), machine, y.dtype)
        values = machine.xp.asarray(y)
        if noise is None:
            end = machine.run(homotopy, F, values, key, settings)
            found = _outcome(F, problem, end.X, end)
            met = (found.residual <= problem.tolerance) & (found.rank > 0)
            determined = self._determined(problem, F, end.X, met, key)
            result = _interpolator_result(met, found, determined)
        else:
            # On the host in float64, whatever the type of the data.
            sigma = float(noise) if machine is HOST else noise
            fit = machine.run(fit_above_noise, F, values, key, sigma, settings)
            found = _outcome(F, problem, fit.X, fit.path)
            determined = self._determined(problem, F, fit.X, found.rank > 0, key)
            result = _fit_result(problem, found, fit, sigma, determined)
        end = found.end
        return solution(
            A,
            found.network,
            result=result,
            method=self,
            bias=problem.penalty,
            residual=found.residual,
            penalty=found.penalty,
            rank=found.rank,
            determined=determined,
            noise=problem.noise,
            outer_steps=end.steps,
            inner_steps=end.inner_steps,
            residual_history=end.history,
        )

    def _determined(
        self, problem: Problem, F: AbstractFactored, X: LowRankMatrix, worth: Any, key: PRNGKeyArray
    ) -> Determined:
        """The test at the matrix found, or that nothing is known where there is none."""
        if not is_traced(worth) and not worth:
            return nothing_known(*F.shape)
        key = jax.random.fold_in(key, 1)
        return tested(problem.A, F, X, key, min(self.max_inner_steps, _TEST_STEPS))


class _Outcome(NamedTuple):
    """What became of a path: the balanced network of its matrix, and numbers of it."""

    network: DeepLinear
    residual: Any  # ||A(X) - y|| / ||y||
    penalty: Any
    rank: Any
    end: PathEnd


def _outcome(F: AbstractFactored, problem: Problem, X: LowRankMatrix, end: PathEnd) -> _Outcome:
    A, y, depth, xp = problem.A, problem.y, problem.depth, F.machine.xp
    # The path of measurements that are all zero is NaN.
    zero = xp.all(xp.asarray(y) == 0)
    U, s, V = (xp.where(zero, 0.0, part).astype(y.dtype) for part in X)
    width = problem.width or determined_rank(A, None)
    network = DeepLinear(
        tuple(jnp.asarray(layer) for layer in balanced_layers(xp, U, s, V.T, depth, width))
    )
    target = F.arranged(xp.asarray(y))
    largest = xp.max(xp.abs(target))
    largest = xp.where(largest > 0, largest, 1.0)
    difference = F.apply(LowRankMatrix(U, s, V).factors(F.machine)) - target
    # Squares of data may not be numbers of its type.
    size = xp.linalg.norm(target / largest)
    residual = xp.linalg.norm(difference / largest) / xp.where(size > 0, size, 1.0)
    return _Outcome(network, residual, depth * xp.sum(s ** (2 / depth)), xp.sum(s > 0), end)


def _interpolator_result(met: Any, found: _Outcome, determined: Determined) -> Result:
    result = where(met, _judged(determined, Result.low_rank), Result.step_limit)
    result = where(found.end.residual < jnp.inf, result, Result.not_finite)
    # All measurements are zero, and so is the matrix of least penalty.
    return where((found.rank == 0) & (found.residual == 0), Result.converged, result)


def _fit_result(
    problem: Problem, found: _Outcome, fit: Fit, noise: Any, determined: Determined
) -> Result:
    m, n = problem.A.shape
    square, rank = fit.square, fit.rank
    freedom = (problem.A.count - rank * (m + n - rank)).clip(1).astype(square.dtype)
    explained = square <= 4 * noise**2 * freedom
    result = where(explained, _judged(determined, Result.converged), Result.noise_not_reached)
    result = where(rank == 0, Result.collapsed, result)
    return where(square < jnp.inf, result, Result.not_finite)


def _judged(determined: Determined, yes: Result) -> Result:
    """The result of a matrix that meets its measurements."""
    result = Result.undecided
    for status, what in (
        (Determinacy.yes, yes),
        (Determinacy.partly, Result.partly_determined),
        (Determinacy.one_of_several, Result.one_of_several),
    ):
        result = where(determined.status == status, what, result)
    return result
