"""What can be recorded along a run: name -> a function of (network, A, y)."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import as_function, found, is_traced
from ..flatness import largest_eigenvalue, layer_traces, trace_of_hessian
from ..measurements import AbstractMeasurements
from ..network import DeepLinear, as_matrix
from ..norms import effective_rank, nuclear_norm, singular_values
from ._flows import tangent_slope
from ._optimizers import mean_square
from ._singular_values import singular_value_speeds

Quantity = Callable[[DeepLinear, AbstractMeasurements, Float[Array, " N"]], Array]

# How many singular values "singular_values" keeps.
_LEADING = 10


def _of_network(function: Callable[[DeepLinear], Array]) -> Quantity:
    return lambda network, A, y: function(network)


QUANTITIES: dict[str, Quantity] = {
    "loss": mean_square,
    "trace": lambda network, A, y: trace_of_hessian(network, A),
    "layer_traces": lambda network, A, y: layer_traces(network, A),
    "largest_eigenvalue": largest_eigenvalue,
    "tangent_slope": lambda network, A, y: tangent_slope(network, A),
    "nuclear_norm": _of_network(nuclear_norm),
    "effective_rank": _of_network(effective_rank),
    "singular_values": _of_network(lambda network: singular_values(network)[:_LEADING]),
    "singular_value_speeds": lambda network, A, y: singular_value_speeds(network, A, y)[:_LEADING],
    "weight_decay": _of_network(
        lambda network: jnp.sum(jnp.stack([jnp.sum(layer**2) for layer in network.layers]))
    ),
}


def error_against(network: DeepLinear, truth: Float[Array, "m n"]) -> Float[Array, ""]:
    """||W - truth||_F / ||truth||_F."""
    return jnp.linalg.norm(network.matrix() - truth) / jnp.linalg.norm(truth)


def chosen_quantities(
    record: Any, truth: Any, shape: tuple[int, int]
) -> tuple[dict[str, Quantity], Float[Array, "m n"] | None]:
    """The functions to record and the truth to compare with, checked.

    Raises ValueError for a name that is not known, for "test_error" without `truth`, for a name that
    the history needs itself, and for a `truth` of another shape or zero.
    """
    if isinstance(record, str):
        record = (record,)
    if not isinstance(record, Mapping | Sequence | Set):
        raise TypeError(
            f"`record` must name quantities, such as ('loss', 'trace'), or map names to functions of "
            f"(network, A, y), found {found(record)}."
        )
    chosen: dict[str, Quantity] = {}
    for name in record:
        if not isinstance(name, str):
            raise TypeError(f"`record` has {found(name)}, which is no name: pass words, as 'loss'.")
        function = record[name] if isinstance(record, Mapping) else QUANTITIES.get(name)
        if name in ("step", "time"):
            raise ValueError(f"`record` has {name!r}, which every history has: leave it out.")
        if name == "test_error" and not isinstance(record, Mapping):
            if truth is None:
                raise ValueError("`record` has 'test_error' and `truth` is None: pass the matrix.")
            continue
        if function is None:
            raise ValueError(
                f"`record` has {name!r}: known are {', '.join([*QUANTITIES, 'test_error'])}; or pass "
                "a dict of functions of (network, A, y)."
            )
        chosen[name] = as_function(function, f"record[{name!r}]", "of (network, A, y)")
    if truth is None:
        return chosen, None
    truth = as_matrix(truth, "truth")
    with jax.ensure_compile_time_eval():
        zero = not is_traced(truth) and not bool(jnp.any(truth != 0))
    if truth.shape != shape or zero:
        raise ValueError(f"`truth` must be a matrix of shape {shape}, not zero.")
    return chosen, truth
