"""A network of zero loss to begin at: where gradient flow from another one ends."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ..flatness import check_values, fitting
from ..network import DeepLinear
from ._flows import GradientFlow, largest_zero_loss, retracted
from ._optimizers import mean_square
from ._train import train

# Compiled once: called many times, the loop in it would be compiled every time.
_retracted = eqx.filter_jit(retracted)


def interpolating_network(network: Any, A: Any, y: Any) -> DeepLinear:
    """Where gradient flow from a network meets the zero-loss manifold, its end by Gauss-Newton.

    Raises ValueError if it does not in 10,000 units of time.
    """
    network, A = fitting(network, A)
    y = check_values(y, A)
    # A power of ten: the bound is part of the program, which is then compiled for few of them.
    size = float(jnp.mean(y**2))
    bound = 10.0 ** math.ceil(math.log10(1e-10 * size)) if size > 0 else 0.0
    run = train(
        network,
        A,
        y,
        GradientFlow(1.0),
        steps=10_000,
        record=("loss",),
        record_every=1,
        until={"loss": bound},
        throw=False,
    )
    if not run.history["loss"][-1:] <= bound:
        raise ValueError(
            f"[network] gradient flow ends at a loss of {run.history['loss'][-1:]}, so that `start` "
            "cannot be 'interpolating': take fewer measurements, a larger `width` or `scale`."
        )
    end = _retracted(run.network, A, y)
    if mean_square(end, A, y) > largest_zero_loss(y):
        raise ValueError(
            "[network] the end of gradient flow cannot be brought to zero loss, so that `start` cannot "
            "be 'interpolating': take fewer measurements, or a larger `width`."
        )
    return end
