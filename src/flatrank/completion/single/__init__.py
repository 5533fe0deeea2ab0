"""One factorisation of the smallest penalty, by alternating exact minimisation."""

from ._completion import PathStep as PathStep
from ._completion import SingleCompletion as SingleCompletion
from ._model import SingleFactorisation as SingleFactorisation
