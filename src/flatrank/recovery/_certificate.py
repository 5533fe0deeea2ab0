"""How far a solution is from meeting the measurements, from stationarity, and from optimality."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from .._checks import require_memory
from .._order import after
from ..flatness import check_values, fitting
from ..measurements import AbstractMeasurements, as_measurements
from ..network import DeepLinear, as_network
from ..penalties import Flatness, as_penalty


class Certificate(NamedTuple):
    """What can be said of a solution without knowing the truth. Scalars, without units but the bound.

    * `feasibility`: ||A(W) - y|| / ||y||.
    * `stationarity`: the part of the penalty's gradient that no multiplier of the measurements explains,
      relative to the gradient; zero at a minimiser.
    * `lower_bound`: no interpolator has a smaller penalty, in its units. Proved by duality at depth 2,
      where the induced regulariser is a (weighted) nuclear norm; NaN at other depths.
    * `gap`: the solution's penalty above the bound, relative to the penalty; NaN at other depths.
    """

    feasibility: Array
    stationarity: Array
    lower_bound: Array
    gap: Array


def certificate(solution: Any, A: Any, y: Any, penalty: Any = None) -> Certificate:
    """The certificate of a solution for the penalty that it was found with (`solution.bias`).

    `A` and `y` as in `recover`; another `penalty`, or its word, certifies the same network for that one.
    Multipliers are least-squares estimates by LSMR; at depth 2 they are scaled until they are feasible
    for the dual, max <y, v> subject to ||R^{-1/2} A*(v) C^{-1/2}|| <= 4 for flatness (R = K(I), C =
    K*(I)) and ||A*(v)|| <= 2 for weight decay, so that the bound holds whatever their accuracy. It
    need not be the best bound: near the limit a minimiser may have a gap that is not there.

    Raises TypeError for what is no solution, ValueError if the shapes do not fit, MemoryError where
    A*(v) would not fit into memory (depth 2).

    >>> import jax
    >>> import flatrank as fr
    >>> truth = jax.numpy.outer(jax.numpy.arange(1.0, 9.0), jax.numpy.arange(8.0))
    >>> A = fr.gaussian_measurements(jax.random.key(0), 60, (8, 8))
    >>> y = A.apply(truth)
    >>> bool(fr.certificate(fr.recover(A, y, 2, fr.Flatness()), A, y).gap < 1e-3)
    True
    """
    network = as_network(solution, "solution")
    if penalty is None:
        penalty = getattr(solution, "bias", None)
    if penalty is None:
        raise TypeError(
            f"`solution` is a {type(solution).__name__}, which does not know its penalty: "
            "pass `penalty`."
        )
    penalty = as_penalty(penalty)
    network, A = fitting(network, A)
    y = check_values(y, A)
    size = jnp.linalg.norm(y)
    feasibility = jnp.linalg.norm(A.apply_network(network) - y) / jnp.where(size > 0, size, 1.0)
    gradient = jax.grad(lambda network: penalty(network, A))(network)
    multipliers, remainder = _multipliers(network, A, gradient)
    steepness = _norm(gradient)
    stationarity = remainder / jnp.where(steepness > 0, steepness, 1.0)
    nothing = jnp.asarray(jnp.nan, y.dtype)
    if network.depth != 2:
        return Certificate(feasibility, stationarity, nothing, nothing)
    value = penalty(penalty.settle(network, A), A)
    spectral_norm = dual_norm(A, multipliers, isinstance(penalty, Flatness))
    # <y, v> / (spectral norm of v) is a bound for every v: 4 or 2 are put into the dual norm.
    bound = jnp.vdot(y, multipliers) / jnp.where(spectral_norm > 0, spectral_norm, 1.0)
    return Certificate(
        feasibility, stationarity, bound, 1 - bound / jnp.where(value > 0, value, 1.0)
    )


def _multipliers(
    network: DeepLinear, A: AbstractMeasurements, gradient: DeepLinear
) -> tuple[Float[Array, " N"], Array]:
    """v that minimises ||gradient - J^T v||, J the Jacobian of A(W), and that minimum."""
    # lineax's LSMR (0.1.1) works in the default type only.
    default = jnp.zeros(0).dtype
    dtype = network.layers[0].dtype
    network, gradient, A = (_floats(tree, default) for tree in (network, gradient, A))
    values, transpose = jax.vjp(A.apply_network, network)
    operator = lx.FunctionLinearOperator(lambda v: transpose(v)[0], jax.eval_shape(lambda: values))
    # Beyond the accuracy of the network, multipliers would follow its round-off.
    accuracy = float(jnp.finfo(dtype).eps) ** 0.75
    solver = lx.LSMR(rtol=accuracy, atol=accuracy, max_steps=2000)
    v = lx.linear_solve(operator, gradient, solver, throw=False).value
    left = jax.tree.map(lambda g, j: g - j, gradient, operator.mv(v))
    return v, _norm(left)


def _floats(tree: Any, dtype: Any) -> Any:
    """The floating-point leaves in another type."""
    floating = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda x: x.astype(dtype) if floating(x) else x, tree)


def dual_norm(A: Any, v: Any, weighted: bool) -> Float[Array, ""]:
    """The least t for which v / t is feasible for the dual at depth 2: <y, v> / t bounds the penalty.

    ||R^{-1/2} A*(v) C^{-1/2}|| / 4 for flatness (`weighted`), ||A*(v)|| / 2 for weight decay.
    """
    A = as_measurements(A)
    v = check_values(v, A, "v")
    m, n = A.shape
    require_memory(
        4 * m * n * v.dtype.itemsize,
        f"The back-projection of the multipliers, a {m} x {n} matrix,",
        "certify a smaller problem of the same kind",
    )
    back = A.adjoint(v)
    if not weighted:
        return jnp.linalg.norm(back, 2) / 2
    R, C = (
        A.second_moment(jnp.eye(n, dtype=v.dtype)),
        A.second_moment_adjoint(jnp.eye(m, dtype=v.dtype)),
    )
    left = _inverse_root(R)
    right = _inverse_root(after(left, C))
    return jnp.linalg.norm(left @ back @ right, 2) / 4


def _inverse_root(moment: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """moment^{-1/2} on its range; A*(v) has its rows and columns there."""
    values, vectors = jnp.linalg.eigh(moment)
    alive = values > len(values) * jnp.finfo(values.dtype).eps * values[-1]
    roots = jnp.where(alive, jnp.where(alive, values, 1.0) ** -0.5, 0.0)
    return (vectors * roots[None]) @ vectors.T


def _norm(network: DeepLinear) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(jnp.stack([jnp.sum(layer**2) for layer in network.layers])))
