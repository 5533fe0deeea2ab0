"""All statements that can be checked, and the run over all of them."""

from collections.abc import Callable

import jax
from jaxtyping import PRNGKeyArray

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
    key: PRNGKeyArray,
    *,
    quick: bool = True,
    on_step: Callable[[str, float], None] | None = None,
) -> tuple[Check, ...]:
    """Every theorem's check on fresh random instances, in the order of `THEOREMS`.

    `quick=False` takes more shapes, depths and repetitions. `on_step` is called with a name and the
    fraction done before each. Raises ValueError in float32.
    """
    found = []
    for k, theorem in enumerate(THEOREMS):
        if on_step is not None:
            on_step(theorem.name, k / len(THEOREMS))
        found.append(theorem.check(jax.random.fold_in(key, k), quick=quick))
    return tuple(found)
