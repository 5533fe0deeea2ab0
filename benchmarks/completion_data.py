"""The tables of the benchmark of completion: real ones fetched or read, synthetic ones drawn."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]

JESTER = Path(__file__).parents[2] / "shared" / "data" / "jester1.npz"
WHEEL = "recbole==1.2.1"  # MovieLens-100K travels in it


# The law of `synthetic`: rating = clip(MEAN + SCALE (BIAS (a_i + b_j) + PRODUCT u_i . v_j) + NOISE z).
MEAN, SCALE, BIAS, PRODUCT, NOISE, RANK = 3.5, 0.88, 0.4, 0.25, 0.8, 10
LIMITS = (1.0, 5.0)


class Split(NamedTuple):
    """Known entries to fit, hidden ones to predict; `unit` is what errors are divided by."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    hidden_rows: np.ndarray
    hidden_columns: np.ndarray
    hidden_values: np.ndarray
    shape: tuple[int, int]
    limits: tuple[float, float] = (-np.inf, np.inf)
    unit: float = 1.0
    oracle: float = np.nan

    def error(self, predict: Predict) -> float:
        values = np.clip(predict(self.hidden_rows, self.hidden_columns), *self.limits)
        return float(np.sqrt(np.mean((values - self.hidden_values) ** 2))) / self.unit


def products(
    left: np.ndarray, right: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """(left right^T) at the entries, in parts that stay in the cache."""
    out = np.empty(len(rows), left.dtype)
    for start in range(0, len(rows), 2**14):
        part = slice(start, start + 2**14)
        out[part] = np.einsum("ek,ek->e", left[rows[part]], right[columns[part]])
    return out


def tenth_hidden(
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    limits: tuple[float, float],
    seed: int,
    truth: np.ndarray | None = None,
) -> Split:
    order = np.random.default_rng(seed).permutation(len(values))
    hidden, known = np.split(order, [len(values) // 10])
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    parts = [x[which] for which in (known, hidden) for x in (rows, columns, values)]
    oracle = np.nan
    if truth is not None:
        oracle = float(np.sqrt(np.mean((truth - values)[hidden] ** 2)))
    return Split(*parts, shape, limits, oracle=oracle)


def movielens(seed: int, quick: bool = False) -> Split:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "flatrank-bench"
    name, version = WHEEL.split("==")
    wheel = cache / f"{name}-{version}-py3-none-any.whl"
    if not wheel.exists():
        fetch = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), WHEEL]
        subprocess.run([sys.executable, *fetch], check=True, stdout=sys.stderr)
    with zipfile.ZipFile(wheel).open("recbole/dataset_example/ml-100k/ml-100k.inter") as file:
        users, items, ratings = np.loadtxt(file, skiprows=1, usecols=(0, 1, 2)).T
    rows, columns = (np.unique(x, return_inverse=True)[1] for x in (users, items))
    return tenth_hidden(rows, columns, ratings, (1.0, 5.0), seed)


def synthetic(
    seed: int, quick: bool = False, m: int = 6040, n: int = 3706, count: int = 1_000_000
) -> Split:
    """Rank 10 and biases, noise 0.8, clipped to 1..5; a few rows and columns have most entries."""
    if quick:
        m, n, count = m // 6, n // 6, count // 36
    rng = np.random.default_rng(seed)
    popular = [rng.lognormal(0, spread, size) for size, spread in ((m, 1.2), (n, 1.5))]
    flat = np.zeros(0, np.int64)
    while len(flat) < count:
        i, j = (rng.choice(len(p), 2 * count, p=p / p.sum()) for p in popular)
        flat = np.unique(np.concatenate([flat, i * np.int64(n) + j]))
    rows, columns = np.divmod(rng.permutation(flat)[:count], n)
    left, right = rng.standard_normal((m, RANK)), rng.standard_normal((n, RANK))
    biases = BIAS * (rng.standard_normal(m)[rows] + rng.standard_normal(n)[columns])
    truth = MEAN + SCALE * (biases + PRODUCT * products(left, right, rows, columns))
    values = np.clip(truth + NOISE * rng.standard_normal(count), *LIMITS)
    split = tenth_hidden(rows, columns, values, LIMITS, seed, np.clip(truth, *LIMITS))
    return split._replace(shape=(m, n))


def jester(seed: int, quick: bool = False) -> Split:
    ratings = np.load(JESTER)["x"]
    ratings = ratings[: 2000 if quick else None]
    rows, columns = np.nonzero(ratings != 32767)
    return tenth_hidden(rows, columns, ratings[rows, columns] / 100, (-10.0, 10.0), seed)


def pines(seed: int, quick: bool = False, known: float = 0.1) -> Split:
    """A row a pixel, a column a band; the error is relative to the norm of the hidden entries.

    The known values are brought to mean 0 and variance 1, for everyone.
    """
    from flatrank.data import indian_pines

    image = indian_pines().astype(np.float64)
    image = image.reshape(-1, image.shape[-1])[:: 10 if quick else 1]
    mask = np.random.default_rng(seed).random(image.shape) < known
    mean, spread = image[mask].mean(), image[mask].std()
    unit = float(np.sqrt(np.mean(image[~mask] ** 2)) / spread)
    scaled = (image - mean) / spread
    parts = [x for which in (mask, ~mask) for x in (*np.nonzero(which), scaled[which])]
    return Split(*parts, image.shape, unit=unit)


DATA: dict[str, tuple[str, Callable[[int, bool], Split]]] = {
    "movielens": ("MovieLens-100K", movielens),
    "synthetic": ("synthetic, 6040 x 3706, 1M", synthetic),
    "jester": ("Jester-1", jester),
    "pines 5%": ("Indian Pines, 5% known", lambda seed, quick: pines(seed, quick, 0.05)),
    "pines 10%": ("Indian Pines, 10% known", lambda seed, quick: pines(seed, quick, 0.10)),
}
