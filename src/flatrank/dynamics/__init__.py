"""Training dynamics: descent, label noise, SAM, gradient flow, and the flow that noise follows."""

from .descent import SAM as SAM
from .descent import GradientDescent as GradientDescent
from .descent import LabelNoise as LabelNoise
from .descent import scale_by_global_rms as scale_by_global_rms
from .equivalent import equivalent_penalty as equivalent_penalty
from .equivalent import equivalent_time as equivalent_time
from .flows import FlatFlow as FlatFlow
from .flows import GradientFlow as GradientFlow
from .flows import retracted as retracted
from .flows import tangent as tangent
from .flows import tangent_slope as tangent_slope
from .optimizers import AbstractOptimizer as AbstractOptimizer
from .quantities import QUANTITIES as QUANTITIES
from .run import DivergenceError as DivergenceError
from .run import Run as Run
from .run import TrainingResult as TrainingResult
from .singular_values import network_speeds as network_speeds
from .singular_values import singular_value_speeds as singular_value_speeds
from .train import train as train
