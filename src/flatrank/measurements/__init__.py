"""Linear measurements of a matrix; one file per ensemble."""

from .base import AbstractMeasurements as AbstractMeasurements
from .dense import DenseMeasurements as DenseMeasurements
from .dense import gaussian_measurements as gaussian_measurements
from .entries import EntryMeasurements as EntryMeasurements
from .isotropic import IsotropicMeasurements as IsotropicMeasurements
from .rank_one import RankOneMeasurements as RankOneMeasurements
