"""Who completes tables in the benchmark: flatrank, its peers, and the settings that each gets."""

import os
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from completion_data import Predict, Split, products

# Constructor arguments of MatrixCompleter, one line a setting.
FLATRANK: dict[str, dict[str, Any]] = {
    "flatrank": {},
    "flatrank, flattest": {"penalty": "flatness"},
    "flatrank, flattest, smoothed": {"penalty": "flatness", "smoothing": 0.5},
    "flatrank, least weight decay": {"penalty": "weight-decay"},
    "flatrank, flattest, depth 3": {"depth": 3, "penalty": "flatness"},
    "flatrank, least weight decay, depth 3": {"depth": 3, "penalty": "weight-decay"},
}


class Contestant(NamedTuple):
    """`prepare` brings a split to the form that `fit(data, seed)` wants and is not timed."""

    prepare: Callable[[Split], Any]
    fit: Callable[[Any, int], Predict]
    compiles: bool = False


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
