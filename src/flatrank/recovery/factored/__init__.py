"""Measurements of a matrix in two factors, one class for each ensemble and machine."""

from ._base import AbstractFactored as AbstractFactored
from ._base import Derivative as Derivative
from ._base import NormalEquations as NormalEquations
from ._choice import factored as factored
from ._choice import machine_for as machine_for
