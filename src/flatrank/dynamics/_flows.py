"""Gradient flow of the loss, and the flow of the trace on the zero-loss manifold that noise follows."""

import math
from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .._checks import as_positive, is_traced, require_memory
from ..flatness import check_values, fitting, trace_of_hessian
from ..measurements import AbstractMeasurements
from ..network import DeepLinear, as_network
from ._minibatches import Minibatch
from ._optimizers import AbstractOptimizer, Number, check_number, mean_square

# Gauss-Newton steps of a retraction; from a flow's own error one or two reach round-off.
_RETRACTION_STEPS = 20
# Runge-Kutta steps in a `time_step`.
_INNER_STEPS = 10_000


class AbstractFlow(AbstractOptimizer):
    """A step follows a flow for `time_step`, in adaptive Runge-Kutta steps (diffrax, Tsitouras 5/4).

    `tolerance` bounds the error of each inner step, relative to the largest weight.
    Raises ValueError for a time step or a tolerance that is not positive.
    """

    time_step: eqx.AbstractVar[Number]
    tolerance: eqx.AbstractVar[float]

    def __check_init__(self) -> None:
        check_number(self.time_step, "time_step")
        as_positive(self.tolerance, "tolerance", "leave it out for the default")

    @abstractmethod
    def velocity(
        self, network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
    ) -> DeepLinear:
        """dw/dt."""

    def start(self, network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]) -> Any:
        """Nothing is remembered."""
        del network, A, y
        return None

    def step(
        self,
        network: DeepLinear,
        memory: Any,
        A: AbstractMeasurements,
        y: Float[Array, " N"],
        minibatch: Minibatch,
    ) -> tuple[DeepLinear, Any, Float[Array, ""]]:
        """Follow the flow for `time_step`; where that fails, the loss is not a number."""
        # A step may be the first to need diffrax, and is traced: what diffrax makes while it is
        # imported must be values, not part of the program.
        with jax.ensure_compile_time_eval():
            import diffrax
        del minibatch
        dtype = y.dtype
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(w)) for w in network.layers]))
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, w, _: self.velocity(w, A, y)),
            diffrax.Tsit5(),
            t0=jnp.zeros((), dtype),
            t1=jnp.asarray(self.time_step, dtype),
            dt0=None,
            y0=network,
            saveat=diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.PIDController(
                rtol=self.tolerance, atol=self.tolerance * largest
            ),
            adjoint=diffrax.ForwardMode(),
            max_steps=_INNER_STEPS,
            throw=False,
        )
        end = jax.tree.map(lambda x: x[0], solution.ys)
        end = self.corrected(end, A, y)
        loss = mean_square(end, A, y)
        failed = (solution.result != diffrax.RESULTS.successful) | (loss > self.most_loss(y))
        return end, memory, jnp.where(failed, jnp.nan, loss)

    def corrected(
        self, network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
    ) -> DeepLinear:
        """The network after what undoes the error of integration, if anything does."""
        del A, y
        return network

    def most_loss(self, y: Float[Array, " N"]) -> Float[Array, ""]:
        """The loss above which a step has failed."""
        return jnp.asarray(jnp.inf, y.dtype)

    def likely_cause(self, at_start: float, at_end: float, run: int) -> str:
        """The flow is too stiff for its tolerance."""
        del at_start, run
        return (
            f"the flow could not be followed in {_INNER_STEPS:,} inner steps, or not be brought back to "
            f"zero loss (largest eigenvalue {at_end:.3g}): lower `time_step` or the scale of the "
            "measurements"
        )


class GradientFlow(AbstractFlow):
    """dw/dt = -grad loss: gradient descent in the limit of small learning rates, adaptive steps.

    See `AbstractFlow` for the errors.
    """

    time_step: Number
    tolerance: float = eqx.field(default=1e-7, static=True)

    @property
    def needs_trace(self) -> bool:
        """False: a step of gradient flow evaluates the loss alone."""
        return False

    def velocity(
        self, network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
    ) -> DeepLinear:
        """-grad loss."""
        return jax.tree.map(jnp.negative, jax.grad(mean_square)(network, A, y))

    def flatness_rate(self, count: int | None) -> Number:
        """None of it: gradient flow stops on the zero-loss manifold."""
        del count
        return 0.0


class FlatFlow(AbstractFlow):
    """dw/dt = -P grad tr H on the zero-loss manifold: what label noise and 1-SAM follow in the limit.

    P is the projection on the kernel of the Jacobian of the measurements, so that they do not change;
    a Gauss-Newton retraction after each step keeps them at round-off. The start has to interpolate
    (take the network of `flatrank.recover`, or train to zero loss first). Each evaluation decomposes
    the Jacobian (N x parameters): meant for up to some hundred measurements.

    Record "tangent_slope" and stop `until` it is small to end at the limit. Raises ValueError for a
    start that does not interpolate, MemoryError where the Jacobian would not fit, and as
    `AbstractFlow`.
    """

    time_step: Number
    tolerance: float = eqx.field(default=1e-7, static=True)

    @property
    def needs_trace(self) -> bool:
        """It follows the trace."""
        return True

    def velocity(
        self, network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
    ) -> DeepLinear:
        """-P grad tr H."""
        del y
        slope = jax.grad(trace_of_hessian)(network, A)
        return jax.tree.map(jnp.negative, tangent(network, A, slope))

    def corrected(
        self, network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
    ) -> DeepLinear:
        """The retraction to the manifold."""
        return retracted(network, A, y)

    def most_loss(self, y: Float[Array, " N"]) -> Float[Array, ""]:
        """It has left the manifold."""
        return largest_zero_loss(y)

    def check(self, network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]) -> None:
        """Raise ValueError unless the start interpolates."""
        size = sum(leaf.size for leaf in jax.tree.leaves(network))
        require_memory(
            4 * A.count * size * y.dtype.itemsize,
            f"The Jacobian of {A.count} measurements by {size} parameters",
            "use fewer measurements, or LabelNoise or a trace penalty",
        )
        if is_traced(network, A, y):
            return
        with jax.ensure_compile_time_eval():
            residual = float(jnp.linalg.norm(A.apply_network(network) - y))
            size_of_y = float(jnp.linalg.norm(y))
        limit = 1e-3 if jnp.finfo(y.dtype).bits == 64 else 1e-2
        if residual > limit * size_of_y:
            share = residual / size_of_y if size_of_y else math.inf
            raise ValueError(
                f"`network` does not interpolate (relative residual {share:.2g}) and "
                "FlatFlow moves on the zero-loss manifold: start from `flatrank.recover(...).network` "
                "or train it first, for example with GradientFlow."
            )

    def flatness_rate(self, count: int | None) -> Number:
        """The time step itself."""
        del count
        return self.time_step


def _jacobian_svd(
    network: DeepLinear, A: AbstractMeasurements
) -> tuple[Float[Array, "N k"], Float[Array, " k"], Float[Array, "k p"]]:
    """U, 1 / s (zero below round-off) and V^T of the Jacobian of the measurements.

    Not by its smaller Gram matrix: where the flow ends at a matrix of low rank, singular values of the
    Jacobian fall to zero, and their squares would be lost at half the digits.
    """
    flat, restore = ravel_pytree(network)
    J = jax.jacrev(lambda w: A.apply_network(restore(w)))(flat)
    u, s, vt = jnp.linalg.svd(J, full_matrices=False)
    kept = s > max(J.shape) * jnp.finfo(J.dtype).eps * s[0]
    inverse = jnp.where(kept, 1 / jnp.where(kept, s, 1.0), 0.0)
    return u, inverse, jnp.where(kept[:, None], vt, 0.0)


def tangent(network: Any, A: Any, vector: Any) -> DeepLinear:
    """P vector: what of a direction does not change the measurements, to first order.

    `vector` has layers of the same shapes as the network's. Raises TypeError or ValueError for arguments
    that do not fit.
    """
    network, A = fitting(network, A)
    vector = as_network(vector, "vector")
    wanted, given = ([layer.shape for layer in one.layers] for one in (network, vector))
    if wanted != given:
        raise ValueError(
            f"`vector` has layers of shapes {given} and `network` of {wanted}: pass a direction in "
            "which the layers can move, such as a gradient."
        )
    vt = _jacobian_svd(network, A)[2]
    flat, restore = ravel_pytree(vector)
    return restore(flat - (vt @ flat) @ vt)


def tangent_slope(network: Any, A: Any) -> Float[Array, ""]:
    """||P grad tr H|| / ||grad tr H||: zero where FlatFlow ends."""
    network, A = fitting(network, A)
    slope = jax.grad(trace_of_hessian)(network, A)
    along, _ = ravel_pytree(tangent(network, A, slope))
    whole, _ = ravel_pytree(slope)
    size = jnp.linalg.norm(whole)
    return jnp.linalg.norm(along) / jnp.where(size > 0, size, 1.0)


def largest_zero_loss(y: Float[Array, " N"]) -> Float[Array, ""]:
    """Round-off, with room for singular values of the Jacobian that fall to zero."""
    return jnp.finfo(y.dtype).eps * jnp.mean(y**2)


def retracted(network: Any, A: Any, y: Any) -> DeepLinear:
    """The zero-loss network that Gauss-Newton steps of least norm lead to from a near one."""
    network, A = fitting(network, A)
    y = check_values(y, A)
    start, restore = ravel_pytree(network)

    def residual(w: Array) -> Array:
        return A.apply_network(restore(w)) - y

    def falling(carry: tuple[Array, Array, Array, Array]) -> Array:
        _, now, before, steps = carry
        # Round-off is where a step no longer halves the residual.
        return (steps < _RETRACTION_STEPS) & (now < 0.5 * before) & (now > 0)

    def step(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        w, now, _, steps = carry
        u, inverse, vt = _jacobian_svd(restore(w), A)
        moved = w - (inverse * (residual(w) @ u)) @ vt
        after = jnp.linalg.norm(residual(moved))
        better = after < now
        return jnp.where(better, moved, w), jnp.where(better, after, now), now, steps + 1

    size = jnp.linalg.norm(residual(start))
    carry = (start, size, jnp.full_like(size, jnp.inf), jnp.asarray(0))
    return restore(jax.lax.while_loop(falling, step, carry)[0])
