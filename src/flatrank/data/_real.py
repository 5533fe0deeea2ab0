"""Real data that travel inside Python packages."""

import importlib.util
from pathlib import Path

import numpy as np


def indian_pines() -> np.ndarray:
    """The Indian Pines hyperspectral image, shape (145, 145, 200): height, width, band; float32.

    AVIRIS radiance counts over Indiana, June 1992, 200 bands with the water absorption bands taken
    out (Baumgardner, Biehl, Landgrebe 2015, doi:10.4231/R7RX991C; CC-BY 3.0), from the wheel of
    `tensorly==0.10.0`.

    Raises ModuleNotFoundError if that package is not installed.
    """
    spec = importlib.util.find_spec("tensorly")
    found = Path(spec.origin).parent if spec and spec.origin else Path()
    path = found / "datasets" / "data" / "Indian_pines_corrected.npy"
    if spec is None or not path.is_file():
        raise ModuleNotFoundError(
            "The Indian Pines image comes with the package tensorly==0.10.0, which is not "
            "installed: run `pip install 'flatrank[demo]'`."
        )
    return np.load(path, allow_pickle=False).astype(np.float32)
