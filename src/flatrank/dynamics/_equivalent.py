"""Constants that put label noise, 1-SAM, a trace penalty and the flow on one axis."""

from typing import Any

from ..measurements import as_measurements
from ._flows import AbstractFlow
from ._optimizers import Number, as_optimizer, check_number


def equivalent_penalty(optimizer: Any, A: Any = None) -> Number:
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
    optimizer = as_optimizer(optimizer)
    if isinstance(optimizer, AbstractFlow):
        raise ValueError(
            f"`optimizer` is {type(optimizer).__name__}, which has no learning rate: use "
            "`equivalent_time`."
        )
    rate = optimizer.flatness_rate(_count(A))
    return rate / optimizer.learning_rate


def equivalent_time(optimizer: Any, steps: Any, A: Any = None) -> Number:
    """The time of the flow dw/dt = -P grad tr H that `steps` steps of the optimiser follow.

    learning_rate * `equivalent_penalty` a step; the time step of `FlatFlow`. See `equivalent_penalty`
    for `A` and the errors.
    """
    check_number(steps, "steps", zero=True)
    return as_optimizer(optimizer).flatness_rate(_count(A)) * steps


def _count(A: Any) -> int | None:
    return None if A is None else as_measurements(A).count
