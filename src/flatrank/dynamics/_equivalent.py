"""Constants that put label noise, 1-SAM, a trace penalty and the flow on one axis."""

import numpy as np

from ..measurements import AbstractMeasurements
from ._flows import AbstractFlow
from ._optimizers import AbstractOptimizer, Number


def equivalent_penalty(
    optimizer: AbstractOptimizer, A: AbstractMeasurements | None = None
) -> Number:
    """The lambda for which gradient descent on loss + lambda tr H drifts as the optimiser does.

    learning_rate noise^2 / 2 B for label noise on minibatches of B, radius^2 / 2 for 1-SAM, plus an
    explicit `strength`. To first order in the learning rate (docs/theory/flows.md). `A` is needed
    where all measurements are used in each step.

    Raises ValueError for an optimiser of which no such constant is known, and for flows, which have
    no learning rate.

    >>> import flatrank as fr
    >>> fr.dynamics.equivalent_penalty(fr.LabelNoise(0.125, noise=2.0, batch_size=4))
    0.0625
    """
    if isinstance(optimizer, AbstractFlow):
        raise ValueError(
            f"`optimizer` is {type(optimizer).__name__}, which has no learning rate: use "
            "`equivalent_time`."
        )
    rate = optimizer.flatness_rate(None if A is None else A.count)
    return rate / optimizer.learning_rate  # type: ignore[attr-defined]


def equivalent_time(
    optimizer: AbstractOptimizer, steps: int | np.ndarray, A: AbstractMeasurements | None = None
) -> Number:
    """The time of the flow dw/dt = -P grad tr H that `steps` steps of the optimiser follow.

    learning_rate * `equivalent_penalty` a step; the time step of `FlatFlow`. See `equivalent_penalty`
    for `A` and the errors.
    """
    return optimizer.flatness_rate(None if A is None else A.count) * steps
