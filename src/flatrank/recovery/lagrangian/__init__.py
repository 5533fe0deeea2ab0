"""Any penalty at any depth: an augmented Lagrangian over the layers."""

from ._interpolate import interpolate as interpolate
from ._regularise import regularise as regularise
from ._start import unit_start as unit_start
