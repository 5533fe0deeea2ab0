"""Arora, Cohen, Hu, Luo 2019: implicit regularisation in deep matrix factorisation."""

from . import arora_convex, arora_training
from ._paper import Paper, PaperFigure

_TEXT = (
    "Gradient descent on all measurements from Gaussian layers with standard deviation scale^{1/L} / "
    "sqrt(n) until the train loss is small, against the interpolator of least nuclear norm (convex)."
)
_COMMON = {
    "side": 100,
    "rank": 5,
    "counts": (2000, 5000),
    "depths": (2, 3, 4),
    "scales": (1e-3, 1e-4, 1e-5, 1e-6),
    "learning_rate": 1e-3,
    "stop_at": 1e-6,
    "most_steps": 500_000,
    "seeds": 3,
}

COMPLETION = PaperFigure(
    "matrix completion: depth against the least nuclear norm",
    _TEXT,
    arora_convex.against_convex,
    full={"ensemble": "completion", **_COMMON},
    quick={
        "scales": (1e-3, 1e-5),
        "learning_rate": 4e-3,
        "most_steps": 30_000,
    },
)

SENSING = PaperFigure(
    "matrix sensing: depth against the least nuclear norm",
    f"{_TEXT} Measurements have entries N(0, 1)/n. Quick scale takes a smaller matrix with the same "
    "rank / n and N / n².",
    arora_convex.against_convex,
    full={
        "ensemble": "sensing",
        **_COMMON,
        "scales": (1e-3, 1e-5),
        "learning_rate": 4e-3,
        "seeds": 2,
    },
    quick={
        "side": 40,
        "rank": 2,
        "counts": (320, 800),
        "learning_rate": 2e-3,
        "most_steps": 30_000,
        "seeds": 3,
    },
)

SINGULAR_VALUES = PaperFigure(
    "singular values along training",
    "Time runs in steps of scaled gradient descent; speeds are those of gradient flow at the networks "
    "that it goes through.",
    arora_training.singular_values,
    full={
        "side": 100,
        "rank": 5,
        "measurements": 2000,
        "depths": (2, 3, 4),
        "scale": 1e-3,
        "learning_rate": 1e-3,
        "steps": 50_000,
        "seeds": 3,
    },
    quick={"learning_rate": 5e-3, "steps": 8_000},
)

LEARNING_RATES = PaperFigure(
    "the learning rate does not matter",
    "What quick scale rests on, which takes larger learning rates than the paper (1e-3 and 3e-4).",
    arora_training.learning_rates,
    full={
        "side": 100,
        "rank": 5,
        "measurements": 2000,
        "depths": (2, 3, 4),
        "scale": 1e-3,
        "rates": (3e-4, 1e-3, 3e-3, 5e-3),
        "stop_at": 1e-6,
        "most_steps": 1_000_000,
        "seeds": 3,
    },
    quick={"depths": (2, 3), "rates": (1e-3, 5e-3), "seeds": 2},
)

PAPER = Paper(
    "arora2019",
    "S. Arora, N. Cohen, W. Hu, Y. Luo: Implicit Regularization in Deep Matrix Factorization, 2019 "
    "(arXiv 1905.13655)",
    "Full scale takes the paper's sizes, depths and initialisations, and its learning rate 1e-3 (4e-3 "
    "for sensing); random matrices and measurements are other ones. The gradient is divided by the root "
    "of a running mean of its squared norm over all layers (alpha 0.99, eps 1e-4), as in the paper's "
    "code but for the correction of the running mean's start, which makes the first hundred steps up to "
    "ten times as long here. Training in float32. Intervals are over seeds: other matrices, "
    "measurements and starts.",
    (COMPLETION, SENSING, SINGULAR_VALUES, LEARNING_RATES),
)
