"""Completion beside its peers: ratings, a hyperspectral image, ten million entries.

    make bench-completion                              # everything, two cores, hours
    python benchmarks/completion.py --only movielens --seeds 2 --who flatrank cmfrec
    python benchmarks/completion.py --tune jester      # the grids that the peers' settings come from

Peers, from the `bench-tables` extra: cmfrec (alternating least squares in C, built with gcc) and the
SVD of scikit-surprise (stochastic gradients in Cython, one thread whatever it is given), each with the
defaults of its authors and with settings chosen for each data set by `--tune`, on a split that no
figure is taken from. "Implicit" is cmfrec's option to learn also from which entries are known.
Soft-impute is a port, below: fancyimpute 0.7.0 calls scikit-learn by a name that is gone since 1.8.

Everyone gets the same split, the same threads and the data in the form that it wants; contestants take
turns. Only `fit` is timed, flatrank's second one on each split: compilation is reported beside it.
Predictions are clipped to the scale of the ratings, for everyone. MovieLens-100K is fetched to the
cache of the user and may not be redistributed; Jester is read from ../shared/data where it is there.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from measure import keep, table
from threadpoolctl import threadpool_limits

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Constructor arguments of MatrixCompleter, one line a setting.
FLATRANK: dict[str, dict[str, Any]] = {
    "flatrank": {},
    "flatrank, 40 draws": {"draws": 40},
    "flatrank, weight decay": {"penalty": "weight-decay"},
    "flatrank, depth 3": {"depth": 3},
    "flatrank, depth 3, weight decay": {"depth": 3, "penalty": "weight-decay"},
}

# At ten million entries: the arguments, and the one that counts iterations.
ITERATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "flatrank, a sweep": ({"alpha": 0.1, "tolerance": -1.0}, "max_sweeps"),
}

JESTER = Path(__file__).parents[2] / "shared" / "data" / "jester1.npz"
WHEEL = "recbole==1.2.1"  # MovieLens-100K travels in it
TUNING_SEED = 100


# ---------------------------------------------------------------------------------- the data


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
    left, right = rng.standard_normal((m, 10)), rng.standard_normal((n, 10))
    biases = 0.4 * (rng.standard_normal(m)[rows] + rng.standard_normal(n)[columns])
    truth = 3.5 + 0.88 * (biases + 0.25 * products(left, right, rows, columns))
    values = np.clip(truth + 0.8 * rng.standard_normal(count), 1, 5)
    split = tenth_hidden(rows, columns, values, (1.0, 5.0), seed, np.clip(truth, 1, 5))
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


# ------------------------------------------------------------------------------ contestants


class Contestant(NamedTuple):
    """`prepare` brings a split to the form that `fit(data, seed)` wants and is not timed."""

    prepare: Callable[[Split], Any]
    fit: Callable[[Any, int], Predict]
    compiles: bool = False


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def products(
    left: np.ndarray, right: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """(left right^T) at the entries, in parts that stay in the cache."""
    out = np.empty(len(rows), left.dtype)
    for start in range(0, len(rows), 2**14):
        part = slice(start, start + 2**14)
        out[part] = np.einsum("ek,ek->e", left[rows[part]], right[columns[part]])
    return out


def flatrank(**settings: Any) -> Contestant:
    import flatrank as fr

    def fit(split: Split, seed: int) -> Predict:
        completer = fr.MatrixCompleter(**settings, random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "[0-9]+ (row|column)")  # the unseen ones
            completer.fit_entries(split.rows, split.columns, split.values, split.shape)
        return completer.predict_entries

    return Contestant(lambda split: split, fit, compiles=True)


def cmfrec(**settings: Any) -> Contestant:
    import cmfrec

    def prepare(split: Split) -> Any:
        return scipy.sparse.coo_matrix((split.values, (split.rows, split.columns)), split.shape)

    def fit(data: Any, seed: int) -> Predict:
        return cmfrec.CMF(**settings, nthreads=cores(), random_state=seed).fit(data).predict

    return Contestant(prepare, fit)


def surprise(**settings: Any) -> Contestant:
    import surprise

    def prepare(split: Split) -> Any:
        by_row, by_column = defaultdict(list), defaultdict(list)
        for i, j, value in zip(*(x.tolist() for x in split[:3]), strict=True):
            by_row[i].append((j, value))
            by_column[j].append((i, value))
        names = [{i: i for i in range(size)} for size in split.shape]
        count = len(split.values)
        return surprise.Trainset(by_row, by_column, *split.shape, count, split.limits, *names)

    def fit(data: Any, seed: int) -> Predict:
        model = surprise.SVD(**settings, random_state=seed).fit(data)

        # Its own `predict` is a loop in Python; these are the same numbers.
        def predict(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
            biases = data.global_mean + model.bu[rows] + model.bi[columns]
            return biases + products(model.pu, model.qi, rows, columns)

        return predict

    return Contestant(prepare, fit)


def fitted_biases(
    split: Split, strength: float, sweeps: int = 10
) -> tuple[float, np.ndarray, np.ndarray]:
    """mean, row and column biases of least squares with strength * (their squares)."""
    mean = float(split.values.mean())
    centred = split.values - mean
    biases = [np.zeros(size) for size in split.shape]
    lines = (split.rows, split.columns)
    counts = [np.bincount(line, minlength=len(b)) for line, b in zip(lines, biases, strict=True)]
    for _ in range(sweeps):
        for a in (1, 0):
            rest = centred - biases[1 - a][lines[1 - a]]
            sums = np.bincount(lines[a], rest, minlength=len(biases[a]))
            biases[a] = sums / (counts[a] + strength)
    return mean, biases[0], biases[1]


def biases_alone(strength: float = 5.0) -> Contestant:
    def fit(split: Split, seed: int) -> Predict:
        mean, by_row, by_column = fitted_biases(split, strength)
        return lambda rows, columns: mean + by_row[rows] + by_column[columns]

    return Contestant(lambda split: split, fit)


def soft_impute(
    strength: float, width: int = 32, bias_strength: float = 5.0, sweeps: int = 100
) -> Contestant:
    """softImpute-ALS (Hastie, Mazumder, Lee and Zadeh 2015, algorithm 5.1) on what biases leave.

    The completed matrix is sparse residual + low rank and is never formed. Ends as the R package
    does: relative change of the squared norm below 1e-5, or 100 sweeps.
    """

    def fit(split: Split, seed: int) -> Predict:
        mean, by_row, by_column = fitted_biases(split, bias_strength)
        rows, columns = split.rows, split.columns
        target = (split.values - mean - by_row[rows] - by_column[columns]).astype(np.float32)
        m, n = split.shape
        pattern = scipy.sparse.csr_array((target, (rows, columns)), shape=split.shape)
        rows, columns = np.repeat(np.arange(m), np.diff(pattern.indptr)), pattern.indices
        target = pattern.data.copy()
        start = np.random.default_rng(seed).standard_normal((m, min(width, m, n)))
        U = np.linalg.qr(start.astype(np.float32))[0]
        V, s = np.zeros((n, U.shape[1]), np.float32), np.ones(U.shape[1], np.float32)

        def residual() -> Any:
            pattern.data = target - products(U * s, V, rows, columns)
            return pattern

        for _ in range(sweeps):
            before = U, s, V
            right, s, turn = np.linalg.svd(
                (residual().T @ U + V * s) * (s / (s + strength)), full_matrices=False
            )
            U, V = U @ turn.T, right
            left, s, turn = np.linalg.svd(
                (residual() @ V + U * s) * (s / (s + strength)), full_matrices=False
            )
            U, V = left, V @ turn.T
            both = (before[0].T @ U * s) * (before[2].T @ V) * before[1][:, None]
            square = max(float(np.sum(before[1] ** 2)), 1e-30)
            if (square + np.sum(s**2) - 2 * np.sum(both)) / square < 1e-5:
                break
        left, s, turn = np.linalg.svd(residual() @ V + U * s, full_matrices=False)
        left, V = left * np.maximum(s - np.float32(strength), 0), V @ turn.T
        return lambda i, j: mean + by_row[i] + by_column[j] + products(left, V, i, j)

    return Contestant(lambda split: split, fit)


def cmf_grid(
    strengths: tuple[float, ...], k: tuple[int, ...] = (40,), **more: Any
) -> list[dict[str, Any]]:
    """The biases' strength equal to the factors', and a third of it."""
    return [
        {"k": rank, "lambda_": [s * share] * 2 + [s] * 4, **more}
        for rank in k
        for s in strengths
        for share in (1.0, 1 / 3)
    ]


def svd_grid(
    sizes: tuple[tuple[int, int], ...], rates: tuple[float, ...], strengths: tuple[float, ...]
) -> list[dict[str, Any]]:
    """`sizes` are pairs of factors and epochs."""
    return [
        {"n_factors": factors, "n_epochs": epochs, "lr_all": rate, "reg_all": strength}
        for factors, epochs in sizes
        for rate in rates
        for strength in strengths
    ]


def soft_grid(strengths: tuple[float, ...]) -> list[dict[str, Any]]:
    return [{"strength": s, "width": width} for width in (10, 32) for s in strengths]


PEERS: dict[str, Callable[..., Contestant]] = {
    "biases alone": biases_alone,
    "soft-impute (port)": soft_impute,
    "Surprise SVD": surprise,
    "cmfrec": cmfrec,
    "cmfrec, implicit": cmfrec,
}
DEFAULTS = ("Surprise SVD", "cmfrec")  # the peers that have any

# What `--tune` tries, by data set and peer, and the best of it. On `synthetic`, 10 is the true rank.
IMPLICIT = {"add_implicit_features": True, "w_implicit": 1.0}
BIASES = [{"strength": s} for s in (1.0, 3.0, 5.0, 10.0)]
EXACT = {"use_cg": False, "niter": 30}
GRIDS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "movielens": {
        "biases alone": BIASES,
        "soft-impute (port)": soft_grid((10.0, 13.0, 16.0, 20.0)),
        "Surprise SVD": svd_grid(((100, 40), (100, 80)), (0.005, 0.01), (0.06, 0.08, 0.1)),
        "cmfrec": cmf_grid((10.0, 12.0, 14.0, 17.0), (40, 100)),
        "cmfrec, implicit": cmf_grid((12.0, 15.0, 18.0), (40, 100), **IMPLICIT),
    },
    "synthetic": {
        "biases alone": BIASES,
        "soft-impute (port)": soft_grid((2.0, 4.0, 7.0, 10.0)),
        "Surprise SVD": svd_grid(((10, 20), (10, 40)), (0.01,), (0.02, 0.03)),
        "cmfrec": cmf_grid((2.0, 3.0, 5.0, 10.0), (10, 40)),
        "cmfrec, implicit": cmf_grid((3.0, 5.0), (10,), **IMPLICIT),
    },
    "jester": {
        "biases alone": BIASES,
        "soft-impute (port)": soft_grid((200.0, 300.0, 380.0, 450.0)),
        "Surprise SVD": svd_grid(
            ((10, 20), (100, 20)), (0.002, 0.003, 0.005), (0.1, 0.15, 0.2, 0.3)
        ),
        "cmfrec": cmf_grid((180.0, 260.0, 330.0, 400.0, 600.0), (10, 20, 40)),
        "cmfrec, implicit": cmf_grid((200.0, 400.0), (10, 40), **IMPLICIT),
    },
    "pines": {
        "biases alone": [{"strength": s} for s in (0.1, 0.3, 1.0, 3.0)],
        "soft-impute (port)": soft_grid((2.0, 3.0, 4.0, 5.0, 8.0)),
        "Surprise SVD": svd_grid(((10, 80), (10, 200)), (0.03,), (0.001, 0.003, 0.006)),
        "cmfrec": cmf_grid((1.0, 3.0), (10,))
        + cmf_grid((0.5, 1.0, 2.0, 3.0), (6, 8, 10, 14), **EXACT),
    },
}
TUNED: dict[str, dict[str, dict[str, Any]]] = {
    "movielens": {
        "biases alone": {"strength": 3.0},
        "soft-impute (port)": {"strength": 16.0, "width": 32},
        "Surprise SVD": {"n_factors": 100, "n_epochs": 80, "lr_all": 0.005, "reg_all": 0.1},
        "cmfrec": {"k": 40, "lambda_": [14 / 3] * 2 + [14.0] * 4},
        "cmfrec, implicit": {"k": 40, "lambda_": [5.0] * 2 + [15.0] * 4, **IMPLICIT},
    },
    "synthetic": {
        "biases alone": {"strength": 10.0},
        "soft-impute (port)": {"strength": 4.0, "width": 10},
        "Surprise SVD": {"n_factors": 10, "n_epochs": 40, "lr_all": 0.01, "reg_all": 0.02},
        "cmfrec": {"k": 10, "lambda_": [3.0] * 6},
    },
    "jester": {
        "biases alone": {"strength": 3.0},
        "soft-impute (port)": {"strength": 380.0, "width": 32},
        "Surprise SVD": {"n_factors": 100, "n_epochs": 20, "lr_all": 0.003, "reg_all": 0.2},
        "cmfrec": {"k": 40, "lambda_": [132.0] * 2 + [400.0] * 4},
        "cmfrec, implicit": {"k": 10, "lambda_": [200 / 3] * 2 + [200.0] * 4, **IMPLICIT},
    },
    "pines 5%": {
        "biases alone": {"strength": 1.0},
        "soft-impute (port)": {"strength": 4.0, "width": 10},
        "Surprise SVD": {"n_factors": 10, "n_epochs": 200, "lr_all": 0.03, "reg_all": 0.006},
        "cmfrec": {"k": 6, "lambda_": [1.0] * 6, **EXACT},
    },
    "pines 10%": {
        "biases alone": {"strength": 1.0},
        "soft-impute (port)": {"strength": 3.0, "width": 10},
        "Surprise SVD": {"n_factors": 10, "n_epochs": 200, "lr_all": 0.03, "reg_all": 0.003},
        "cmfrec": {"k": 10, "lambda_": [2.0] * 6, **EXACT},
    },
}


def contestants(data: str) -> dict[str, Contestant]:
    found = {}
    for peer, build in PEERS.items():
        if peer in DEFAULTS:
            found[f"{peer}, defaults"] = build()
        for settings in [TUNED[data][peer]] if peer in TUNED[data] else []:
            found[f"{peer}, tuned" if peer in DEFAULTS else peer] = build(**settings)
    return found | {name: flatrank(**settings) for name, settings in FLATRANK.items()}


# ------------------------------------------------------------------------------------ the runs


def timed(contestant: Contestant, data: Any, seed: int) -> tuple[float, Predict]:
    # BLAS with threads of its own inside the peers' threads makes them several times slower.
    with threadpool_limits(cores() if contestant.compiles else 1, user_api="blas"):
        start = time.perf_counter()
        predict = contestant.fit(data, seed)
        return time.perf_counter() - start, predict


def race(
    title: str, load: Callable[[int], Split], rivals: dict[str, Contestant], seeds: int
) -> list[dict[str, Any]]:
    """Errors and seconds of everyone on the same splits, one after the other."""
    found: dict[str, dict[str, Any]] = {
        name: {"data": title, "contestant": name, "errors": [], "seconds": [], "first seconds": []}
        for name in rivals
    }
    oracles = []
    for seed in range(seeds):
        split = load(seed)
        oracles.append(split.oracle)
        for name, contestant in rivals.items():
            row, data = found[name], contestant.prepare(split)
            if contestant.compiles:
                row["first seconds"].append(timed(contestant, data, seed)[0])
            seconds, predict = timed(contestant, data, seed)
            row["seconds"].append(seconds)
            row["errors"].append(split.error(predict))
            print(
                f"{title} {seed}: {name} {row['errors'][-1]:.4f}, {seconds:.2f} s", file=sys.stderr
            )
    rows = list(found.values())
    if np.isfinite(oracles).all():
        truth = {"data": title, "contestant": "the truth itself", "errors": oracles}
        rows.insert(0, truth | {"seconds": [], "first seconds": []})
    for row in rows:
        row["error"] = statistics.mean(row["errors"])
        row["standard error"] = (
            statistics.stdev(row["errors"]) / len(row["errors"]) ** 0.5 if seeds > 1 else None
        )
        for name in ("seconds", "first seconds"):
            row[f"median {name}"] = statistics.median(row[name]) if row[name] else None
    return rows


def shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def races(chosen: list[str], who: list[str], seeds: int, quick: bool) -> list[dict[str, Any]]:
    found = []
    for data in chosen:
        title, load = DATA[data]
        if data == "jester" and not JESTER.exists():
            print(f"\n{title} left out: {JESTER} is not there", file=sys.stderr)
            continue
        rivals = {
            name: contestant
            for name, contestant in contestants(data).items()
            if any(part in name for part in who)
        }
        rows = race(title, lambda seed, load=load: load(seed, quick), rivals, seeds)
        found += rows
        what = "relative error" if data.startswith("pines") else "RMSE"
        print(f"\n{title}, {seeds} split(s)\n")
        print(
            table(
                ["contestant", f"{what}, mean ± s. e.", "median s", "first s (compilation)"],
                [
                    [
                        row["contestant"],
                        f"{row['error']:.4f} ± {shown(row['standard error'], 4)}",
                        shown(row["median seconds"], 2),
                        shown(row["median first seconds"], 1),
                    ]
                    for row in rows
                ],
            ),
            flush=True,
        )
    return found


LARGE: dict[str, Callable[[], Contestant]] = {
    "biases alone": biases_alone,
    "cmfrec, defaults": cmfrec,
    "cmfrec, k = 10": lambda: cmfrec(k=10, lambda_=3.0),
    **{name: lambda name=name: flatrank(**FLATRANK[name]) for name in FLATRANK},
}


def large(who: list[str], quick: bool) -> dict[str, Any]:
    """100,000 x 20,000 with ten million entries known, and cost per iteration on fewer of them.

    Each figure in a process of its own, for its peak of resident memory.
    """
    m, n, count = (10_000, 2_000, 100_000) if quick else (100_000, 20_000, 10_000_000)
    parts = [count // 8, count // 4, count // 2, count]
    found: dict[str, Any] = {"contestants": [], "iterations": []}
    with tempfile.TemporaryDirectory() as folder:
        split = synthetic(0, False, m, n, count * 10 // 9 + 1)
        np.savez(Path(folder) / "split.npz", **split._asdict())
        print(f"\n{m:,} x {n:,}, {count:,} entries; the truth itself {split.oracle:.4f}\n")
        del split
        for name in LARGE:
            if any(part in name for part in who):
                row = in_a_process(folder, "fit", name, count)
                found["contestants"].append({"contestant": name, **row})
        for name in ITERATIONS:
            if any(part in name for part in who):
                rows = [in_a_process(folder, "iterations", name, part) for part in parts]
                seconds = [row["seconds per iteration"] for row in rows]
                exponent = float(np.polyfit(np.log(parts), np.log(seconds), 1)[0])
                found["iterations"].append(
                    {"what": name, "entries": parts, "seconds": seconds, "exponent": exponent}
                )
    print(
        table(
            ["contestant", "RMSE", "s", "first s", "GiB before the fit", "peak GiB"],
            [
                [
                    row["contestant"],
                    f"{row['error']:.4f}",
                    shown(row["seconds"], 1),
                    shown(row["first seconds"], 1),
                    shown(row["GiB before"], 2),
                    shown(row["peak GiB"], 2),
                ]
                for row in found["contestants"]
            ],
        )
    )
    print()
    print(
        table(
            ["seconds per iteration", *(f"{part:,} entries" for part in parts), "exponent"],
            [
                [row["what"], *(shown(s, 3) for s in row["seconds"]), shown(row["exponent"], 2)]
                for row in found["iterations"]
            ],
        ),
        flush=True,
    )
    return found


def in_a_process(folder: str, *what: Any) -> dict[str, Any]:
    command = [sys.executable, __file__, "--threads", str(cores()), "--child", folder]
    done = subprocess.run(
        [*command, *map(str, what)], check=True, stdout=subprocess.PIPE, text=True
    )
    last = done.stdout.splitlines()[-1]
    print(" ".join(map(str, what)), last, file=sys.stderr)
    return json.loads(last)


def child(folder: str, what: str, name: str, count: int) -> dict[str, Any]:
    kept = dict(np.load(Path(folder) / "split.npz"))
    for part in ("rows", "columns", "values"):
        kept[part] = kept[part][:count].copy()
    split = Split(**kept)._replace(shape=tuple(map(int, kept["shape"])))
    if what == "iterations":
        settings, counted = ITERATIONS[name]
        few, many = (flatrank(**settings, **{counted: i}) for i in (2, 8))
        differences = []
        timed(few, split, 0)
        timed(many, split, 0)
        for _ in range(3):
            start = timed(few, split, 0)[0]
            differences.append((timed(many, split, 0)[0] - start) / 6)
        return {"seconds per iteration": statistics.median(differences)}
    contestant = LARGE[name]()
    data = contestant.prepare(split)
    before = gibibytes_now()
    first, predict = timed(contestant, data, 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = timed(contestant, data, 0)[0] if contestant.compiles else first
    return {
        "error": split.error(predict),
        "seconds": seconds,
        "first seconds": first if contestant.compiles else None,
        "GiB before": before,
        "peak GiB": peak,
    }


def gibibytes_now() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**30


def tune(data: str, who: list[str]) -> None:
    """Every setting of the grids on a split that no figure is taken from, the best first."""
    split = DATA[data][1](TUNING_SEED, False)
    for peer, grid in GRIDS[data.split()[0]].items():
        if not any(part in peer for part in who):
            continue
        tried = []
        for settings in grid:
            contestant = PEERS[peer](**settings)
            seconds, predict = timed(contestant, contestant.prepare(split), 0)
            tried.append((split.error(predict), seconds, settings))
            print(f"{peer} {tried[-1]}", file=sys.stderr, flush=True)
        print(f"\n{data}, {peer}")
        for error, seconds, settings in sorted(tried, key=lambda x: x[0])[:5]:
            print(f"  {error:.4f}  {seconds:6.2f} s  {settings}", flush=True)


def use_cores(count: int) -> None:
    """This process, every pool of threads and every process that it starts, on so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:count]))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    threadpool_limits(count)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sets = [*DATA, "large"]
    parser.add_argument("--only", nargs="*", choices=sets, default=sets)
    parser.add_argument("--who", nargs="*", default=[""], help="parts of contestants' names")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one seed, small sizes, nothing kept")
    parser.add_argument("--tune", choices=[*DATA], help="only try the peers' settings")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_cores(arguments.threads)
    if arguments.child:
        folder, what, name, count = arguments.child
        print(json.dumps(child(folder, what, name, int(count))))
        return
    if arguments.tune:
        tune(arguments.tune, arguments.who)
        return
    chosen = [data for data in arguments.only if data != "large"]
    figures: dict[str, Any] = {"threads": cores(), "tuned": TUNED, "flatrank": FLATRANK}
    seeds = 1 if arguments.quick else arguments.seeds
    figures["races"] = races(chosen, arguments.who, seeds, arguments.quick)
    if "large" in arguments.only:
        figures["large"] = large(arguments.who, arguments.quick)
    if not arguments.quick and arguments.only == sets and arguments.who == [""]:
        keep("completion", figures)


if __name__ == "__main__":
    main()
