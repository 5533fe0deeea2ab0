"""Which entries of a matrix of low rank its measurements determine: a test at the matrix found."""

from ._determined import Determinacy as Determinacy
from ._determined import Determined as Determined
from ._determined import nothing_known as nothing_known
from ._standard_errors import standard_errors as standard_errors
from ._tangent import INNER_STEPS as INNER_STEPS
from ._tested import blind_everywhere as blind_everywhere
from ._tested import determined_at as determined_at
