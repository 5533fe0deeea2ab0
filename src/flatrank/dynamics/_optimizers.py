"""What an optimiser is to the training loop, and descent by gradients of minibatches."""

import math
from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from .._checks import as_array, found, is_traced, positive_integer
from ..measurements import AbstractMeasurements
from ..network import DeepLinear
from ..penalties import AbstractPenalty, Flatness, as_penalty
from ._minibatches import Minibatch

Number = float | Float[Array, ""] | Float[Array, " runs"] | np.ndarray


class AbstractOptimizer(eqx.Module):
    """One step of training. Hyperparameters are numbers, or arrays (runs,) for many runs at once."""

    @abstractmethod
    def start(self, network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]) -> Any:
        """The optimiser's memory before the first step, a pytree of arrays."""

    @abstractmethod
    def step(
        self,
        network: DeepLinear,
        memory: Any,
        A: AbstractMeasurements,
        y: Float[Array, " N"],
        minibatch: Minibatch,
    ) -> tuple[DeepLinear, Any, Float[Array, ""]]:
        """The network and memory after a step, and the loss that the step saw."""

    @property
    @abstractmethod
    def needs_trace(self) -> bool:
        """Whether steps compute the trace of the Hessian."""

    def chance(self, count: int) -> tuple[int | None, bool, str | None]:
        """Minibatch size (None: all), whether in epochs, and the distribution of label noise."""
        del count
        return None, False, None

    def check(self, network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]) -> None:
        """Raise ValueError for what the optimiser cannot start from."""
        del network, A, y

    @abstractmethod
    def flatness_rate(self, count: int | None) -> Number:
        """The time of dw/dt = -P grad tr H that passes in a step, to first order in the step size.

        `count` is the number of measurements, which those that use all of them need to know. Raises
        ValueError where no such constant is known.
        """

    @abstractmethod
    def likely_cause(self, at_start: float, at_end: float, run: int) -> str:
        """Why a run may have diverged, in a clause, with the remedy.

        `at_start` and `at_end` are the largest eigenvalues of the Hessian at its start and its last
        sound record.
        """


def as_optimizer(value: Any, name: str = "optimizer") -> AbstractOptimizer:
    """An optimiser; or TypeError for what is none."""
    if isinstance(value, AbstractOptimizer):
        return value
    what = f"the class {value.__name__}" if isinstance(value, type) else found(value)
    raise TypeError(
        f"`{name}` must be an optimiser, found {what}: pass for example GradientDescent(0.01)."
    )


def mean_square(
    network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]
) -> Float[Array, ""]:
    """`flatrank.loss` without its checks."""
    return A.mean_square_residual(network, y)


def _penalty_or_none(value: Any) -> AbstractPenalty | None:
    return None if value is None else as_penalty(value)


class AbstractDescent(AbstractOptimizer):
    """w <- w - learning_rate * transformation(gradient of a minibatch's loss + strength * penalty).

    `batch_size` measurements are drawn in each step, with replacement or, with `epochs`, without
    until all were used; None uses all of them. `transformation` is any optax transformation of
    gradients, as `optax.trace(0.9)` or `optax.scale_by_adam()`: the learning rate and the sign come
    after it.

    Raises ValueError for a learning rate, batch size or strength out of range, and for a strength
    without a penalty.
    """

    learning_rate: Number
    epochs: bool = eqx.field(default=False, kw_only=True, static=True)
    penalty: AbstractPenalty | None = eqx.field(
        default=None, kw_only=True, converter=_penalty_or_none
    )
    strength: Number = eqx.field(default=0.0, kw_only=True)
    transformation: optax.GradientTransformation | None = eqx.field(
        default=None, kw_only=True, static=True
    )

    @property
    @abstractmethod
    def batch_size(self) -> int | None:
        """How many measurements a step draws; None: it uses all."""

    def __check_init__(self) -> None:
        check_number(self.learning_rate, "learning_rate")
        check_number(self.strength, "strength", zero=True)
        if self.batch_size is not None:
            positive_integer(self.batch_size, "batch_size")
        if not isinstance(self.epochs, bool | np.bool_):
            raise TypeError(f"`epochs` must be True or False, found {found(self.epochs)}.")
        if not isinstance(self.transformation, optax.GradientTransformation | None):
            raise TypeError(
                f"`transformation` must be a transformation of optax, found "
                f"{found(self.transformation)}: pass for example optax.scale_by_adam()."
            )
        if self.epochs and self.batch_size is None:
            raise ValueError("`epochs` is True and `batch_size` None: pass a `batch_size`.")
        no_strength = not is_traced(self.strength) and not np.any(np.asarray(self.strength))
        if (self.penalty is None) != no_strength:
            raise ValueError(
                f"`penalty` is {self.penalty} and `strength` is {self.strength}: pass both or neither."
            )

    @property
    def needs_trace(self) -> bool:
        """Whether the penalty is the trace."""
        return isinstance(self.penalty, Flatness)

    def chance(self, count: int) -> tuple[int | None, bool, str | None]:
        """Minibatch size, whether in epochs, no label noise."""
        if self.epochs and self.batch_size is not None and self.batch_size > count:
            raise ValueError(
                f"`batch_size` is {self.batch_size} and there are {count} measurements: an epoch "
                "has no full batch; pass a smaller one."
            )
        return self.batch_size, self.epochs, None

    def start(self, network: DeepLinear, A: AbstractMeasurements, y: Float[Array, " N"]) -> Any:
        """The transformation's memory."""
        return None if self.transformation is None else self.transformation.init(network)

    def objective(
        self,
        network: DeepLinear,
        batch: AbstractMeasurements,
        labels: Float[Array, " B"],
        A: AbstractMeasurements,
    ) -> Float[Array, ""]:
        """The minibatch's loss and the penalty."""
        loss = mean_square(network, batch, labels)
        if self.penalty is None:
            return loss
        return loss + jnp.asarray(self.strength, loss.dtype) * self.penalty(network, A)

    def gradient(
        self,
        network: DeepLinear,
        batch: AbstractMeasurements,
        labels: Float[Array, " B"],
        A: AbstractMeasurements,
    ) -> tuple[Float[Array, ""], DeepLinear]:
        """The value and the gradient that a step descends along."""
        return jax.value_and_grad(self.objective)(network, batch, labels, A)

    def labels(self, y: Float[Array, " B"], minibatch: Minibatch) -> Float[Array, " B"]:
        """The minibatch's labels as the step sees them."""
        del minibatch
        return y

    def step(
        self,
        network: DeepLinear,
        memory: Any,
        A: AbstractMeasurements,
        y: Float[Array, " N"],
        minibatch: Minibatch,
    ) -> tuple[DeepLinear, Any, Float[Array, ""]]:
        """Descend along the minibatch's gradient, transformed."""
        batch, labels = A, y
        if minibatch.indices is not None:
            batch, labels = A.part(minibatch.indices), y[minibatch.indices]
        value, gradient = self.gradient(network, batch, self.labels(labels, minibatch), A)
        if self.transformation is not None:
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                gradient, memory = self.transformation.update(gradient, memory, network)
        rate = jnp.asarray(self.learning_rate, value.dtype)
        return jax.tree.map(lambda w, g: w - rate * g, network, gradient), memory, value

    def implicit_strength(self, count: int | None) -> Number:
        """The strength of the trace penalty that the noise or the ascent of the steps acts like."""
        del count
        return 0.0

    def flatness_rate(self, count: int | None) -> Number:
        """learning_rate * the strength of all trace penalties, explicit and implicit."""
        if self.transformation is not None:
            raise ValueError(
                "`transformation` changes the gradient: no equivalent trace penalty is known; "
                "leave it out."
            )
        if self.penalty is not None and not isinstance(self.penalty, Flatness):
            raise ValueError(
                f"`penalty` is {type(self.penalty).__name__}(), which is no trace penalty: "
                "pass Flatness()."
            )
        return self.learning_rate * (self.implicit_strength(count) + self.strength)

    def likely_cause(self, at_start: float, at_end: float, run: int) -> str:
        """The learning rate against 2 / largest eigenvalue."""
        rates = np.atleast_1d(np.asarray(self.learning_rate))
        rate = float(rates[run if len(rates) > 1 else 0])
        bound = 2 / at_start if at_start > 0 else math.inf
        if self.transformation is not None:
            return (
                f"2 / largest eigenvalue was {bound:.3g} at the start, and `transformation` decides "
                f"what step the learning rate {rate:.3g} means: lower `learning_rate`"
            )
        if rate > bound:
            return (
                f"the learning rate {rate:.3g} is above 2 / largest eigenvalue = {bound:.3g} of the "
                "start: lower `learning_rate`"
            )
        # What it is at the last record is often the divergence itself, and no cause.
        remedy = "the initial scale" if self.batch_size is None else "raise `batch_size`"
        remedy = "`strength`" if self.penalty is not None else remedy
        return (
            f"the learning rate {rate:.3g} is below 2 / largest eigenvalue of the loss at the start "
            f"({bound:.3g}; at that record {2 / at_end if at_end > 0 else math.inf:.3g}), but noise, a "
            f"penalty or a step from there raised the curvature: lower `learning_rate` or {remedy}"
        )


def check_number(value: Any, name: str, zero: bool = False) -> None:
    """Raise ValueError unless all numbers are finite and positive (or zero, where that may be)."""
    if is_traced(value):
        return
    if isinstance(value, list | tuple):
        raise ValueError(
            f"`{name}` is a {type(value).__name__}: pass an array, numpy.array({value!r})."
        )
    remedy = "must be a number, or an array with one number a run"
    if isinstance(value, bool) or not isinstance(
        value, int | float | np.generic | np.ndarray | jax.Array
    ):
        raise TypeError(f"`{name}` {remedy}, found {found(value)}.")
    array = as_array(value, name)
    if array.dtype == bool or array.ndim > 1:
        raise ValueError(f"`{name}` {remedy}, found {found(value)}.")
    numbers = np.asarray(value)
    if not (np.isfinite(numbers).all() and ((numbers >= 0) if zero else (numbers > 0)).all()):
        least = "at least 0" if zero else "positive"
        raise ValueError(f"`{name}` must be {least} and finite, found {value!r}.")
