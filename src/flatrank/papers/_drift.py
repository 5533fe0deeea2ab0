"""Does training follow the flow of the trace? Label noise, 1-SAM and a penalty on one time axis."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ..dynamics import (
    SAM,
    AbstractOptimizer,
    FlatFlow,
    GradientDescent,
    LabelNoise,
    interpolating_network,
    train,
)
from ..flatness import trace_of_hessian
from ..measurements import AbstractMeasurements
from ..network import DeepLinear
from ..penalties import Flatness
from ..problems import gaussian_problem

RECORDS = 50


@dataclass(frozen=True)
class ZeroLossProblem:
    """Measurements of a matrix and a network that interpolates them, but is not flat."""

    A: AbstractMeasurements
    y: Array
    network: DeepLinear


def zero_loss_problem(
    depth: int,
    shape: tuple[int, int] = (10, 10),
    rank: int = 1,
    count: int = 60,
    seed: int = 0,
) -> ZeroLossProblem:
    """Gaussian measurements of a unit matrix; where gradient flow leads from a small random start."""
    A, truth, start = gaussian_problem(depth, shape, rank, count, seed, scale=0.1)
    y = A.apply(truth)
    return ZeroLossProblem(A, y, interpolating_network(start, A, y))


@dataclass(frozen=True)
class Agreement:
    """Traces of one optimiser, (runs, records), beside the flow's, (records,), at equal times."""

    depth: int
    learning_rate: float
    optimizer: str
    steps: int
    time: np.ndarray
    flow: np.ndarray
    trace: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """(mean trace - the flow's) / the flow's, at each record."""
        return self.trace.mean(0) / self.flow - 1

    @property
    def largest(self) -> float:
        """The largest relative difference."""
        return float(np.abs(self.difference).max())

    @property
    def mean(self) -> float:
        """The mean over time of the relative difference."""
        return float(self.difference.mean())

    @property
    def standard_error(self) -> float:
        """Of `mean`, from the scatter of the runs; zero for a single one."""
        runs = len(self.trace)
        if runs == 1:
            return 0.0
        each = (self.trace / self.flow).mean(1)
        return float(each.std(ddof=1) / runs**0.5)


def matched_optimizers(
    learning_rate: float, strength_per_rate: float, batch_size: int
) -> dict[str, AbstractOptimizer]:
    """Optimisers that act like a trace penalty of strength `strength_per_rate` * `learning_rate`."""
    strength = learning_rate * strength_per_rate
    return {
        "trace penalty": GradientDescent(learning_rate, penalty=Flatness(), strength=strength),
        "label noise": LabelNoise(
            learning_rate, (2 * batch_size * strength_per_rate) ** 0.5, batch_size
        ),
        "1-SAM": SAM(learning_rate, (2 * strength) ** 0.5, 1),
    }


def agreement(
    problem: ZeroLossProblem,
    learning_rates: tuple[float, ...],
    *,
    time: float = 0.05,
    strength_per_rate: float = 0.1,
    batch_size: int = 4,
    runs: int = 16,
    seed: int = 0,
) -> list[Agreement]:
    """All optimisers at all learning rates against the flow, from one start, to one time."""
    A, y, start = problem.A, problem.y, problem.network
    flow = train(
        start, A, y, FlatFlow(time / RECORDS), steps=RECORDS, record=("trace",), record_every=1
    )
    keys = jax.random.split(jax.random.key(seed), runs)
    # 1-SAM scatters far less than label noise: a few runs are enough.
    keys_of = {"trace penalty": None, "label noise": keys, "1-SAM": keys[: max(2, runs // 8)]}
    found = []
    for rate in learning_rates:
        each = round(time / (rate**2 * strength_per_rate) / RECORDS)
        for name, optimizer in matched_optimizers(rate, strength_per_rate, batch_size).items():
            run = train(
                start,
                A,
                y,
                optimizer,
                steps=each * RECORDS,
                record_every=each,
                record=("trace",),
                key=keys_of[name],
            )
            # `each` is rounded: the flow is read where the run is.
            at = np.interp(run.history["time"], flow.history["time"], flow.history["trace"])
            traces = np.atleast_2d(run.history["trace"])
            found.append(
                Agreement(start.depth, rate, name, each * RECORDS, run.history["time"], at, traces)
            )
    return found


def exponent(found: list[Agreement]) -> tuple[float, float]:
    """The slope of log |mean difference| against log learning rate, and its standard error.

    The error follows from the scatter of the runs; it is zero where nothing is random.
    """
    x = np.log([one.learning_rate for one in found])
    means = np.asarray([one.mean for one in found])
    errors = np.asarray([one.standard_error for one in found]) / np.abs(means)
    x = x - x.mean()
    weights = x / (x @ x)
    return float(weights @ np.log(np.abs(means))), float(np.sqrt((weights**2) @ (errors**2)))


@dataclass(frozen=True)
class Decay:
    """How the flow comes to its limit: distances at times, the rate they show, the rate predicted."""

    time: np.ndarray
    distance: np.ndarray
    measured: float
    predicted: float
    fit: float  # R^2 of the logarithm's line


def decay(problem: ZeroLossProblem, time: float = 1.0) -> Decay:
    """The exponential approach of FlatFlow to its limit, at depth 2.

    The rate is fitted between a hundredth and a millionth of the first distance; the prediction is
    `slowest_rate` at a hundred-thousandth.
    """
    A, y = problem.A, problem.y
    records = 100
    restore = ravel_pytree(problem.network)[1]
    run = train(
        problem.network,
        A,
        y,
        FlatFlow(time / records, tolerance=1e-11),
        steps=records,
        record_every=1,
        record={"weights": lambda network, A, y: ravel_pytree(network)[0]},
    )
    limit = train(run.network, A, y, FlatFlow(time, tolerance=1e-11), steps=1).network
    weights, at = run.history["weights"], run.history["time"]
    distance = np.linalg.norm(weights - np.asarray(ravel_pytree(limit)[0]), axis=1)
    share = distance / distance[0]
    tail = (share < 1e-2) & (share > 1e-6)
    slope, intercept = np.polyfit(at[tail], np.log(share[tail]), 1)
    left = np.log(share[tail]) - (slope * at[tail] + intercept)
    near = restore(jnp.asarray(weights[int(np.argmax(share < 1e-5))]))
    return Decay(
        at,
        distance,
        -float(slope),
        slowest_rate(near, A),
        float(1 - left.var() / np.log(share[tail]).var()),
    )


@dataclass(frozen=True)
class Sharpness:
    """The largest eigenvalue and the trace along full-batch SAM and along 1-SAM."""

    steps: np.ndarray
    full_batch: dict[str, np.ndarray]
    single: dict[str, np.ndarray]  # means over the runs


def sharpness(
    problem: ZeroLossProblem,
    learning_rate: float = 2e-3,
    radius: float = 0.02,
    steps: int = 500_000,
    runs: int = 4,
) -> Sharpness:
    """What full-batch SAM lowers, and what 1-SAM does, from one start with one radius."""
    found = []
    keys = jax.random.split(jax.random.key(0), runs)
    for batch_size, key in ((None, None), (1, keys)):
        run = train(
            problem.network,
            problem.A,
            problem.y,
            SAM(learning_rate, radius, batch_size),
            steps=steps,
            record=("largest_eigenvalue", "trace"),
            key=key,
        )
        values = {name: np.atleast_2d(run.history[name]).mean(0) for name in run.history}
        found.append({name: values[name] for name in ("largest_eigenvalue", "trace")})
    return Sharpness(run.history["step"], *found)


def slowest_rate(network: DeepLinear, A: AbstractMeasurements) -> float:
    """The smallest positive eigenvalue of the Hessian of the trace along the manifold, near a limit.

    P (H_tr - sum_i nu_i H_i) P, with H_i the Hessian of measurement i and nu the multipliers that grad
    tr H has at the limit: the linear part of FlatFlow there. Zero along changes of basis.
    """
    flat, restore = ravel_pytree(network)
    outputs = lambda w: A.apply_network(restore(w))  # noqa: E731
    trace = lambda w: trace_of_hessian(restore(w), A)  # noqa: E731
    J = np.asarray(jax.jacrev(outputs)(flat))
    inverse = np.linalg.pinv(J, rcond=1e-10)
    nu = inverse.T @ np.asarray(jax.grad(trace)(flat))
    whole = jax.hessian(lambda w: trace(w) - jnp.asarray(nu) @ outputs(w))(flat)
    P = np.eye(flat.size) - inverse @ J
    values = np.linalg.eigvalsh(P @ np.asarray(whole) @ P)
    return float(values[values > 1e-6 * values.max()].min())
