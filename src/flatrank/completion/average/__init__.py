"""The average over the factorisations that could have made the table."""

from ._completion import AverageCompletion as AverageCompletion
from ._draws import Draws as Draws
from ._model import FactorisationAverage as FactorisationAverage
