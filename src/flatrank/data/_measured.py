"""Measurements and their values from .npy and .npz files."""

from pathlib import Path
from typing import Any

import numpy as np

from .._checks import as_path, require_memory
from ..measurements import (
    AbstractMeasurements,
    DenseMeasurements,
    EntryMeasurements,
    RankOneMeasurements,
)
from ._arrays import numpy_reads

_FORMS = (
    "a .npy array (N, m, n) of measurement matrices, or an .npz archive with `left` (N, m) and `right` "
    "(N, n) for rank-one measurements, or with `rows`, `columns` and `shape` for entries"
)


def read_measurements(path: str | Path) -> AbstractMeasurements:
    """The measurements in a file: dense in .npy; rank-one or entries in .npz, by their names.

    Raises FileNotFoundError, MemoryError or ValueError with one sentence about what is wrong.
    """
    path = _existing(path)
    if path.suffix.lower() == ".npy":
        return DenseMeasurements(_numbers(_load(path), path))
    if path.suffix.lower() != ".npz":
        raise ValueError(f"{path} ends in {path.suffix!r}: measurements are {_FORMS}.")
    with numpy_reads(path), _load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if set(arrays) == {"left", "right"}:
        return RankOneMeasurements(*(_numbers(arrays[name], path) for name in ("left", "right")))
    if set(arrays) == {"rows", "columns", "shape"}:
        shape = tuple(arrays["shape"].ravel().tolist())
        return EntryMeasurements(arrays["rows"], arrays["columns"], shape)
    raise ValueError(f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}: store {_FORMS}.")


def read_values(path: str | Path) -> np.ndarray:
    """The measured values in a .npy file, shape (N,)."""
    path = _existing(path)
    if path.suffix.lower() != ".npy":
        raise ValueError(f"{path} ends in {path.suffix!r}: values are a .npy array of shape (N,).")
    return _numbers(_load(path), path)


def _existing(path: str | Path) -> Path:
    path = as_path(path, "path")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: check the name.")
    return path


def _load(path: Path) -> Any:
    require_memory(3 * path.stat().st_size, f"Reading {path}", "take fewer measurements")
    with numpy_reads(path):
        return np.load(path, allow_pickle=False)


def _numbers(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{path} has data type {array.dtype}; measurements are real numbers: convert to float."
        )
    return np.asarray(array, np.float64)
