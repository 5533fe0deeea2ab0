"""What may stand for measurements where a function asks for them."""

from typing import Any

import jax
import numpy as np

from .._checks import as_real, not_empty
from ._base import AbstractMeasurements
from ._dense import DenseMeasurements


def as_measurements(A: Any, name: str = "A") -> AbstractMeasurements:
    """Measurements, given as such, or dense ones from an array or nested list of shape (N, m, n).

    Raises TypeError for anything else, ValueError for an array of another shape.
    """
    if isinstance(A, AbstractMeasurements):
        return A
    remedy = (
        "pass measurements, such as EntryMeasurements.from_mask(mask) for seen entries, or an array of "
        "shape (N, m, n)"
    )
    if not isinstance(A, jax.Array | np.ndarray | list | tuple):
        raise TypeError(f"`{name}` is a {type(A).__name__}: {remedy}.")
    try:
        axes = np.ndim(A)
    except ValueError:
        raise TypeError(f"`{name}` is a {type(A).__name__} of unequal parts: {remedy}.") from None
    if axes != 3:
        raise ValueError(f"`{name}` has {axes} axes: {remedy}.")
    not_empty(as_real(A, name, 3), name)
    return DenseMeasurements(A)
