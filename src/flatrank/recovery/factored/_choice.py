"""Which machine solves a problem, and the form of the measurements that it wants."""

import importlib.util
from typing import Any

import jax

from ..._checks import is_traced
from ...measurements import (
    AbstractMeasurements,
    DenseMeasurements,
    EntryMeasurements,
    IsotropicMeasurements,
    RankOneMeasurements,
)
from .._machine import HOST, XLA, Machine
from ._base import AbstractFactored
from ._entries import HostEntries
from ._host import HostIsotropic, HostMatrices, HostRankOne
from ._padded_entries import padded_entries
from ._xla import Factored

_ON_HOST: dict[type, Any] = {
    EntryMeasurements: HostEntries,
    DenseMeasurements: HostMatrices,
    IsotropicMeasurements: HostIsotropic,
    RankOneMeasurements: HostRankOne,
}


def machine_for(A: AbstractMeasurements, *values: Any) -> Machine:
    """The host on CPUs, where values are known and the ensemble has a form there; else XLA."""
    if jax.default_backend() != "cpu" or type(A) not in _ON_HOST or is_traced(A, values):
        return XLA
    # Entries are loops in machine code, which Numba does not make for every Python.
    if isinstance(A, EntryMeasurements) and importlib.util.find_spec("numba") is None:
        return XLA
    return HOST


def factored(A: AbstractMeasurements, width: int, machine: Machine, dtype: Any) -> AbstractFactored:
    """The measurements for factors of at most a width and of a type, as the machine wants them.

    Raises MemoryError for a layout that would not fit.
    """
    if machine is HOST:
        return _ON_HOST[type(A)](A)
    m, n = A.shape
    power = (A.count * A.mean_square_norm() / (m * n)).astype(dtype)
    if isinstance(A, EntryMeasurements) and not is_traced(A.rows, A.columns):
        return padded_entries(A, width, power)
    return Factored(A=A, power=power, shape=A.shape)
