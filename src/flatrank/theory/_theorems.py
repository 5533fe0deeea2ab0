"""All statements that can be checked, and the run over all of them."""

from typing import Any

import jax

from .._checks import as_function, as_key
from . import _curvature as curvature
from . import _duality as duality
from . import _flows as flows
from . import _isometry as isometry
from . import _risk as risk
from ._theorem import Check, Theorem

THEOREMS: tuple[Theorem, ...] = (
    *curvature.THEOREMS,
    *isometry.THEOREMS,
    *risk.THEOREMS,
    *duality.THEOREMS,
    *flows.THEOREMS,
)


def verify(
    key: Any,
    *,
    quick: bool = True,
    on_step: Any = None,
) -> tuple[Check, ...]:
    """Every theorem's check on fresh random instances, in the order of `THEOREMS`.

    `quick=False` takes more shapes, depths and repetitions. `on_step` is called with a name and the
    fraction done before each. Raises ValueError in float32.
    """
    key = as_key(key)
    if on_step is not None:
        as_function(on_step, "on_step", "of (what, fraction)")
    found = []
    for k, theorem in enumerate(THEOREMS):
        if on_step is not None:
            on_step(theorem.name, k / len(THEOREMS))
        found.append(theorem.check(jax.random.fold_in(key, k), quick=quick))
    return tuple(found)
