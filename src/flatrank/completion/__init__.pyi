from ._complete import Completion as Completion
from ._completer import MatrixCompleter as MatrixCompleter
from ._models import load_model as load_model
from ._models import save_model as save_model
from ._prediction import id_columns as id_columns
from ._prediction import predict_pairs as predict_pairs
from ._triplets import TripletCompleter as TripletCompleter
