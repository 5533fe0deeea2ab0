"""Which entries of a matrix of low rank its measurements determine: a test at the matrix found."""

from ._determined import Determinacy as Determinacy
from ._determined import Determined as Determined
from ._determined import everything as everything
from ._determined import nothing_known as nothing_known
from ._test import tested as tested
