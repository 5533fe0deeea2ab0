"""Recovery of a matrix from its measurements; one file per algorithm."""

from .certificate import Certificate as Certificate
from .certificate import certificate as certificate
from .certificate import dual_norm as dual_norm
from .penalties import AbstractPenalty as AbstractPenalty
from .penalties import Flatness as Flatness
from .penalties import WeightDecay as WeightDecay
from .recover import recover as recover
from .recover import sufficient_width as sufficient_width
from .solution import Result as Result
from .solution import Solution as Solution
