# The face: a room or a name is imported when it is first asked for, as this file says.
# Type checkers and editors read the same file.

from . import completion as completion
from . import data as data
from . import dynamics as dynamics
from . import entries as entries
from . import flatness as flatness
from . import measurements as measurements
from . import network as network
from . import norms as norms
from . import papers as papers
from . import penalties as penalties
from . import plots as plots
from . import problems as problems
from . import recovery as recovery
from . import reports as reports
from . import sweeps as sweeps
from . import theory as theory
from .completion import MatrixCompleter as MatrixCompleter
from .completion import TripletCompleter as TripletCompleter
from .completion import load_model as load_model
from .completion import save_model as save_model
from .dynamics import SAM as SAM
from .dynamics import LabelNoise as LabelNoise
from .dynamics import train as train
from .flatness import flatten as flatten
from .flatness import induced_regularizer as induced_regularizer
from .flatness import loss as loss
from .flatness import trace_of_hessian as trace_of_hessian
from .measurements import DenseMeasurements as DenseMeasurements
from .measurements import EntryMeasurements as EntryMeasurements
from .measurements import IsotropicMeasurements as IsotropicMeasurements
from .measurements import RankOneMeasurements as RankOneMeasurements
from .measurements import gaussian_measurements as gaussian_measurements
from .network import DeepLinear as DeepLinear
from .penalties import Flatness as Flatness
from .penalties import WeightDecay as WeightDecay
from .recovery import Solution as Solution
from .recovery import certificate as certificate
from .recovery import recover as recover

__version__: str
