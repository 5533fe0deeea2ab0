"""The theory as functions: isometry constants, bounds, and theorems that a random instance can refute.

A new theorem is a `Theorem` in the file of its subject and a line in `_theorems.py`.
"""

from typing import Any

from .._renamed import warn_renamed
from ._duality import trace_lower_bound as trace_lower_bound
from ._instances import from_quadratic_form as from_quadratic_form
from ._reference import hessian_trace as hessian_trace
from ._rip import RIPConstant as RIPConstant
from ._rip import gaussian_rip_prediction as gaussian_rip_prediction
from ._rip import rip_constant as rip_constant
from ._risk import gaussian_risk_factor as gaussian_risk_factor
from ._theorem import Check as Check
from ._theorem import Outcome as Outcome
from ._theorem import Relation as Relation
from ._theorem import Theorem as Theorem
from ._theorems import THEOREMS as THEOREMS
from ._theorems import verify as verify


def __getattr__(name: str) -> Any:
    if name != "Verdict":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    warn_renamed("flatrank.theory.Verdict", "flatrank.theory.Outcome")
    return Outcome
