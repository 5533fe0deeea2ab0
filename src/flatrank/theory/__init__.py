"""The theory as functions: isometry constants, bounds, certificates, theorems that can be checked."""

from .duality import trace_lower_bound as trace_lower_bound
from .rip import RIPConstant as RIPConstant
from .rip import gaussian_rip_prediction as gaussian_rip_prediction
from .rip import rip_constant as rip_constant
from .risk import gaussian_risk_factor as gaussian_risk_factor
from .theorem import Check as Check
from .theorem import Relation as Relation
from .theorem import Theorem as Theorem
from .theorem import Verdict as Verdict
from .theorems import THEOREMS as THEOREMS
from .theorems import verify as verify
