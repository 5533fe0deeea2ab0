"""Matrix recovery by deep matrix factorisation, with its inductive bias made explicit."""

from .estimators import MatrixCompleter as MatrixCompleter
from .flatness import flatten as flatten
from .flatness import layer_traces as layer_traces
from .flatness import loss as loss
from .flatness import trace_of_hessian as trace_of_hessian
from .measurements import DenseMeasurements as DenseMeasurements
from .measurements import EntryMeasurements as EntryMeasurements
from .measurements import IsotropicMeasurements as IsotropicMeasurements
from .measurements import RankOneMeasurements as RankOneMeasurements
from .measurements import gaussian_measurements as gaussian_measurements
from .network import DeepLinear as DeepLinear
from .norms import effective_rank as effective_rank
from .norms import nuclear_norm as nuclear_norm
from .norms import numerical_rank as numerical_rank
from .norms import schatten_norm as schatten_norm
from .norms import singular_values as singular_values
from .norms import stable_rank as stable_rank
from .norms import weighted_trace_norm as weighted_trace_norm
from .recover import Flatness as Flatness
from .recover import Result as Result
from .recover import Solution as Solution
from .recover import WeightDecay as WeightDecay
from .recover import recover as recover
