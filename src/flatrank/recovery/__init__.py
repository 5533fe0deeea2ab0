"""Recovery of a matrix from its measurements: one function, methods as values, a certificate.

Another method is one file: a subclass of `AbstractMethod` with `unfit(problem)` and `solve(problem)`.
"""

from ._auto import Auto as Auto
from ._certificate import Certificate as Certificate
from ._certificate import certificate as certificate
from ._certificate import dual_norm as dual_norm
from ._method import AbstractMethod as AbstractMethod
from ._method import Problem as Problem
from ._nuclear_minimum import NuclearMinimum as NuclearMinimum
from ._nuclear_minimum import nuclear_minimum as nuclear_minimum
from ._recover import recover as recover
from ._solution import Result as Result
from ._solution import Solution as Solution
from ._solution import solution as solution
from .determined import Determinacy as Determinacy
from .determined import Determined as Determined
from .lagrangian import Lagrangian as Lagrangian
from .path import Path as Path
