"""Recovery of a matrix from its measurements: one function, two methods, a certificate."""

from ._certificate import Certificate as Certificate
from ._certificate import certificate as certificate
from ._certificate import dual_norm as dual_norm
from ._nuclear_minimum import NuclearMinimum as NuclearMinimum
from ._nuclear_minimum import nuclear_minimum as nuclear_minimum
from ._recover import recover as recover
from ._solution import Result as Result
from ._solution import Solution as Solution
