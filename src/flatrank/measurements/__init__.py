"""What can be measured of a matrix, with its fast forms: `apply`, the adjoint, the second moments.

A new ensemble is one file here: a subclass of `AbstractMeasurements`.
"""

from ._as_measurements import as_measurements as as_measurements
from ._base import AbstractMeasurements as AbstractMeasurements
from ._base import Network as Network
from ._dense import DenseMeasurements as DenseMeasurements
from ._dense import gaussian_measurements as gaussian_measurements
from ._entries import EntryMeasurements as EntryMeasurements
from ._isotropic import IsotropicMeasurements as IsotropicMeasurements
from ._rank_one import RankOneMeasurements as RankOneMeasurements
