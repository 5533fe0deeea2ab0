"""The method `Path`: weight decay of depth three and more, exact or by least squares."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..._checks import positive_integer
from ...measurements import AbstractMeasurements
from ...network import DeepLinear
from ...penalties import WeightDecay
from .._degrees_of_freedom import determined_rank
from .._factored_measurements import factored
from .._low_rank_matrix import LowRankMatrix
from .._method import AbstractMethod, Problem
from .._scale import power_of, safe_norm
from .._solution import Result, Solution, solution, where
from .._step_limits import StepLimits
from ._homotopy import WIDER, PathEnd, homotopy
from ._least_squares import fit_above_noise
from ._noise_level import estimated_noise


class Path(AbstractMethod):
    """Weight decay of depth 3 and more along a penalty that falls to zero (Gauss-Newton, decision 8).

    It finds the rank by itself and reaches the information limit and condition numbers of 1e5 and more.
    Where it finds no matrix whose rank the measurements determine, it says so (`Result.step_limit`) and
    does not look for another interpolator: `Auto` does.

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
        return self._interpolator(problem) if problem.noise is None else self._fit(problem)

    def noise_level(
        self, A: AbstractMeasurements, y: Array, depth: int, width: int | None, key: PRNGKeyArray
    ) -> Array:
        """The standard deviation of the error in y, estimated on measurements that are held out."""
        return estimated_noise(A, y, depth, width, key, self._limits)

    @property
    def _limits(self) -> StepLimits:
        return StepLimits(self.max_steps, self.max_inner_steps)

    def _interpolator(self, problem: Problem) -> Solution:
        A, y, depth = problem.A, problem.y, problem.depth
        limit = determined_rank(A, problem.width)
        F = factored(A, WIDER * limit)
        power, key = power_of(A, y), _key(problem)
        end = homotopy(
            F, y, A.shape, power, depth, limit, key, self._limits, on_step=problem.on_step
        )
        X = _zero_of_zeros(end.X, y)
        network, residual = _network(problem, X, limit)
        rank = jnp.sum(X.s > 0)
        m, n = A.shape
        # As many numbers as measurements would fit anything, unless every entry is measured.
        determined = (rank * (m + n - rank) < A.count) | (A.count >= m * n)
        found = (residual <= problem.tolerance) & determined
        result = where(found, Result.low_rank, Result.step_limit)
        result = where(jnp.isfinite(end.residual), result, Result.not_finite)
        result = where(jnp.any(y != 0), result, Result.converged)
        return self._solution(problem, network, result, residual, rank, end)

    def _fit(self, problem: Problem) -> Solution:
        A, y, depth, noise = problem.A, problem.y, problem.depth, problem.noise
        assert noise is not None
        limit = determined_rank(A, problem.width)
        F = factored(A, WIDER * limit)
        power, key = power_of(A, y), _key(problem)
        fit = fit_above_noise(
            F, y, A.shape, power, depth, limit, key, noise, self._limits, problem.on_step
        )
        X = _zero_of_zeros(fit.X, y)
        network, residual = _network(problem, X, limit)
        m, n = A.shape
        freedom = jnp.maximum(A.count - fit.rank * (m + n - fit.rank), 1).astype(y.dtype)
        explained = fit.square <= 4 * noise**2 * freedom
        result = where(explained, Result.converged, Result.noise_not_reached)
        result = where(fit.rank == 0, Result.collapsed, result)
        result = where(jnp.isfinite(fit.square), result, Result.not_finite)
        return self._solution(problem, network, result, residual, jnp.sum(X.s > 0), fit.path)

    def _solution(
        self,
        problem: Problem,
        network: DeepLinear,
        result: Result,
        residual: Array,
        rank: Array,
        end: PathEnd,
    ) -> Solution:
        return solution(
            problem.A,
            network,
            result=result,
            method=self,
            bias=problem.penalty,
            residual=residual,
            rank=rank,
            noise=problem.noise,
            outer_steps=end.steps,
            inner_steps=end.inner_steps,
            residual_history=end.history,
        )


def _key(problem: Problem) -> PRNGKeyArray:
    """The path begins at random directions, always the same ones without a key."""
    return jax.random.key(0) if problem.key is None else problem.key


def _zero_of_zeros(X: LowRankMatrix, y: Array) -> LowRankMatrix:
    """The matrix, or zero where y is: the path of measurements that are all zero is NaN."""
    return jax.tree.map(lambda x: jnp.where(jnp.any(y != 0), x, 0.0), X)


def _network(problem: Problem, X: LowRankMatrix, limit: int) -> tuple[DeepLinear, Array]:
    """The balanced network of the matrix and its relative residual."""
    A, y = problem.A, problem.y
    width = problem.width or limit
    network = DeepLinear.from_svd(X.U, X.s, X.V.T, problem.depth, width)
    size = safe_norm(y)
    return network, safe_norm(A.apply_network(network) - y) / jnp.where(size > 0, size, 1.0)
