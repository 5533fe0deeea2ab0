"""Gatmiry, Li, Chuang, Reddi, Ma, Jegelka 2023: flatness of deep matrix factorisation."""

from . import gatmiry_training
from .paper import Paper, PaperFigure

_DEPTHS = (2, 3, 4, 5, 6)

TRAINING = PaperFigure(
    "training with and without label noise",
    "The same random starts and minibatches, trained with and without an error on every label.",
    gatmiry_training.training,
    full={
        "depths": _DEPTHS,
        "side": 10,
        "rank": 1,
        "measurements": 60,
        "initial_scale": 0.1,
        "learning_rate": 0.002,
        "noise": 0.9,
        "batch_size": 4,
        "steps": 500_000,
        "seeds": 16,
    },
    quick={"learning_rate": 0.004, "steps": 100_000, "seeds": 4},
)

SPEED = PaperFigure(
    "the speed of the drift",
    "One interpolating start that is not flat. On the right all curves on the time of the flow.",
    gatmiry_training.drift_speed,
    full={
        "depth": 3,
        "side": 10,
        "measurements": 60,
        "learning_rates": (0.0005, 0.001, 0.002, 0.004),
        "noises": (0.5, 0.7, 1.0),
        "batch_size": 4,
        "time": 0.02,
        "seeds": 16,
    },
    quick={"learning_rates": (0.001, 0.002, 0.004), "noises": (0.7, 1.0), "seeds": 8},
)

END_POINTS = PaperFigure(
    "end points against the least nuclear norm",
    "Where gradient flow, label noise (its limit, the flow of the trace) and the flattest interpolator "
    "are, against nuclear-norm minimisation, which is convex and solved to a proved gap of 1e-4.",
    gatmiry_training.end_points,
    full={
        "depths": _DEPTHS,
        "side": 10,
        "rank": 1,
        "counts": (30, 45, 60),
        "flow_time": 1.0,
        "seeds": 10,
    },
    quick={"counts": (35, 60), "flow_time": 0.5, "seeds": 3},
)

PAPER = Paper(
    "gatmiry2023",
    "K. Gatmiry, Z. Li, C.-Y. Chuang, S. Reddi, T. Ma, S. Jegelka: The Inductive Bias of Flatness "
    "Regularization for Deep Matrix Factorization, 2023 (arXiv 2306.13239)",
    "The settings are flatrank's own, chosen to show each claim; they are not the paper's, which are not "
    "public in detail. Intervals are over seeds: other matrices, measurements and starts.",
    (TRAINING, SPEED, END_POINTS),
)
