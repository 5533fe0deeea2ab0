"""Gradient descent, label noise and SAM: three gradients, one update."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from .._checks import as_positive, found, is_traced
from ..measurements import AbstractMeasurements
from ..network import DeepLinear
from ._minibatches import Minibatch
from ._optimizers import AbstractDescent, Number, check_number

_DISTRIBUTIONS = ("gaussian", "rademacher")


class GradientDescent(AbstractDescent):
    """Gradient descent, of all measurements or of minibatches, with an optional penalty.

    >>> import flatrank as fr
    >>> minibatches = fr.dynamics.GradientDescent(1e-2, batch_size=32)
    >>> penalised = fr.dynamics.GradientDescent(1e-2, penalty=fr.Flatness(), strength=1e-3)
    >>> fr.dynamics.equivalent_time(penalised, steps=1000)
    0.01

    See `AbstractDescent` for the fields and errors.
    """

    batch_size: int | None = eqx.field(default=None, static=True)


class LabelNoise(AbstractDescent):
    """Descent on labels with a fresh error of standard deviation `noise` in each step.

    On the zero-loss manifold it drifts by -(learning_rate^2 noise^2 / 2 B) P grad tr H a step, as a
    trace penalty of strength learning_rate noise^2 / 2 B does (Damian, Ma, Lee 2021; Li, Wang, Arora
    2021; docs/theory/flows.md). `distribution` of the errors is "gaussian" or "rademacher".

    See `AbstractDescent` for the other fields and errors.
    """

    noise: Number
    batch_size: int | None = eqx.field(default=None, static=True)
    distribution: str = eqx.field(default="gaussian", kw_only=True, static=True)

    def __check_init__(self) -> None:
        check_number(self.noise, "noise", zero=True)
        if not isinstance(self.distribution, str) or self.distribution not in _DISTRIBUTIONS:
            raise ValueError(
                f"`distribution` must be one of {list(_DISTRIBUTIONS)}, found "
                f"{found(self.distribution)}."
            )

    def chance(self, count: int) -> tuple[int | None, bool, str | None]:
        """Minibatch size, whether in epochs, and the distribution of the errors."""
        return (*super().chance(count)[:2], self.distribution)

    def labels(self, y: Float[Array, " B"], minibatch: Minibatch) -> Float[Array, " B"]:
        """The labels with their errors."""
        assert minibatch.errors is not None
        return y + jnp.asarray(self.noise, y.dtype) * minibatch.errors

    def implicit_strength(self, count: int | None) -> Number:
        """learning_rate noise^2 / 2 B."""
        size = self.batch_size if self.batch_size is not None else count
        if size is None:
            raise ValueError(
                "`optimizer` uses all measurements in a step and their number is not known: pass `A`."
            )
        return self.learning_rate * self.noise**2 / (2 * size)


class SAM(AbstractDescent):
    """Sharpness-aware minimisation: the gradient at w + radius * g / ||g||, g the minibatch's own.

    With `batch_size` 1 (1-SAM) it drifts on the zero-loss manifold by -(learning_rate radius^2 / 2) P
    grad tr H a step (Wen, Ma, Li 2022; docs/theory/flows.md); with all measurements it follows the
    largest eigenvalue instead.

    See `AbstractDescent` for the other fields and errors.
    """

    radius: Number
    batch_size: int | None = eqx.field(default=None, static=True)

    def __check_init__(self) -> None:
        check_number(self.radius, "radius", zero=True)

    def gradient(
        self,
        network: DeepLinear,
        batch: AbstractMeasurements,
        labels: Float[Array, " B"],
        A: AbstractMeasurements,
    ) -> tuple[Float[Array, ""], DeepLinear]:
        """The value at w, and the gradient where the ascent step leads."""
        value, ascent = jax.value_and_grad(self.objective)(network, batch, labels, A)
        # Scaled first: near zero loss the squares of the gradient would underflow.
        leaves = jax.tree.leaves(ascent)
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]))
        largest = jnp.where(largest > 0, largest, 1.0)
        squares = jnp.stack([jnp.sum((leaf / largest) ** 2) for leaf in leaves])
        norm = jnp.sqrt(jnp.sum(squares))
        radius = jnp.asarray(self.radius, value.dtype)
        length = radius / jnp.where(norm > 0, norm, 1.0) / largest
        moved = jax.tree.map(lambda w, g: w + length * g, network, ascent)
        return value, jax.grad(self.objective)(moved, batch, labels, A)

    def implicit_strength(self, count: int | None) -> Number:
        """radius^2 / 2, for batches of one."""
        no_ascent = not is_traced(self.radius) and not jnp.any(jnp.asarray(self.radius))
        if self.batch_size != 1 and count != 1 and not no_ascent:
            raise ValueError(
                f"`batch_size` of SAM is {self.batch_size}: only batches of one follow the trace "
                "(larger ones follow the largest eigenvalue); pass batch_size=1."
            )
        return self.radius**2 / 2


def scale_by_global_rms(decay: Any = 0.99, epsilon: Any = 1e-4) -> optax.GradientTransformation:
    """Divide the gradient by sqrt(running mean of its mean square over *all* layers) + epsilon.

    One number for all layers, so that the direction is the gradient's: the kind of scaling that the
    deep matrix factorisation literature trains with (Arora, Cohen, Hu, Luo 2019), not their code: the
    *mean* square is taken, so that learning rates do not depend on the number of parameters, and the
    running mean starts at zero and is not corrected for it. For `transformation=` of an optimiser.

    Raises TypeError or ValueError for a decay or an epsilon that is not positive, a decay above 1.
    """
    if as_positive(decay, "decay", "pass for example 0.99", zero=True) > 1:
        raise ValueError(f"`decay` must be at most 1, found {decay}: pass for example 0.99.")
    as_positive(epsilon, "epsilon", "pass for example 1e-4")

    def init(network: DeepLinear) -> Array:
        return jnp.zeros((), jax.tree.leaves(network)[0].dtype)

    def update(
        gradient: DeepLinear, mean_square: Array, network: DeepLinear | None = None
    ) -> tuple[DeepLinear, Array]:
        del network
        leaves = jax.tree.leaves(gradient)
        total = jnp.sum(jnp.stack([jnp.sum(leaf**2) for leaf in leaves]))
        size = sum(leaf.size for leaf in leaves)
        mean_square = decay * mean_square + (1 - decay) * total / size
        scale = 1 / (jnp.sqrt(mean_square) + epsilon)
        return jax.tree.map(lambda leaf: scale * leaf, gradient), mean_square

    return optax.GradientTransformation(init, update)
