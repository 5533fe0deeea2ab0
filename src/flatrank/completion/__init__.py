"""Tables with holes, completed without choosing a rank.

`MatrixCompleter` and `TripletCompleter` are the estimators. A model (one factorisation in `single/`, the
average over all in `average/`) has one method, `fit(entries) -> Completion`; another model is a room of
its own beside them.
"""

from ._completer import MatrixCompleter as MatrixCompleter
from ._completion import Completion as Completion
from ._completion import HeldOut as HeldOut
from ._models import load_model as load_model
from ._models import save_model as save_model
from ._prediction import id_columns as id_columns
from ._prediction import predict_pairs as predict_pairs
from ._triplets import TripletCompleter as TripletCompleter
from .average import AverageCompletion as AverageCompletion
from .average import FactorisationAverage as FactorisationAverage
from .single import PathStep as PathStep
from .single import SingleCompletion as SingleCompletion
from .single import SingleFactorisation as SingleFactorisation
