"""Training: descent, label noise, SAM, gradient flow, and the flow of the trace that noise follows.

A new optimiser is one file here: a subclass of `AbstractOptimizer`, which `train` then runs.
"""

from ._descent import SAM as SAM
from ._descent import GradientDescent as GradientDescent
from ._descent import LabelNoise as LabelNoise
from ._descent import scale_by_global_rms as scale_by_global_rms
from ._equivalent import equivalent_penalty as equivalent_penalty
from ._equivalent import equivalent_time as equivalent_time
from ._flows import FlatFlow as FlatFlow
from ._flows import GradientFlow as GradientFlow
from ._flows import retracted as retracted
from ._flows import tangent as tangent
from ._flows import tangent_slope as tangent_slope
from ._interpolating import interpolating_network as interpolating_network
from ._optimizers import AbstractOptimizer as AbstractOptimizer
from ._optimizers import mean_square as mean_square
from ._quantities import QUANTITIES as QUANTITIES
from ._run import DivergenceError as DivergenceError
from ._run import Run as Run
from ._run import TrainingResult as TrainingResult
from ._singular_values import network_speeds as network_speeds
from ._singular_values import singular_value_speeds as singular_value_speeds
from ._train import train as train
