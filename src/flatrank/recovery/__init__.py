"""A matrix from its measurements: `recover` finds it and `certificate` tells how far it is from optimal.

A new method of recovery is a folder here; `recover` chooses among them.
"""

from ._certificate import Certificate as Certificate
from ._certificate import certificate as certificate
from ._certificate import dual_norm as dual_norm
from ._nuclear import NuclearMinimum as NuclearMinimum
from ._nuclear import nuclear_minimum as nuclear_minimum
from ._recover import recover as recover
from ._recover import sufficient_width as sufficient_width
from ._solution import Result as Result
from ._solution import Solution as Solution
