"""Gatmiry, Li, Chuang, Reddi, Ma, Jegelka 2023: flatness of deep matrix factorisation."""

from . import gatmiry_endpoints, gatmiry_matrices, gatmiry_training
from ._paper import Paper, PaperFigure

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
        "initial_scale": 0.2,
        "learning_rate": 0.003,
        "noise": 1.0,
        "batch_size": 4,
        "steps": 200_000,
        "seeds": 16,
    },
    quick={"learning_rate": 0.006, "steps": 40_000, "seeds": 4},
)

SPEED = PaperFigure(
    "the speed of the drift",
    "One interpolating start that is not flat; seeds are of the noise alone. On the right all curves on "
    "the time of the flow.",
    gatmiry_training.drift_speed,
    full={
        "depth": 3,
        "side": 10,
        "measurements": 60,
        "learning_rates": (0.0005, 0.001, 0.002, 0.004),
        "noises": (0.5, 0.7, 1.0),
        "batch_size": 4,
        "time": 0.012,
        "seeds": 16,
    },
    quick={"learning_rates": (0.002, 0.004), "noises": (0.5, 0.7, 1.0), "seeds": 8},
)

END_POINTS = PaperFigure(
    "end points against the least nuclear norm",
    "Where gradient flow, label noise (its limit, the flow of the trace) and the flattest interpolator "
    "are, against nuclear-norm minimisation, which is convex and solved to a proved gap of 1e-4.",
    gatmiry_endpoints.end_points,
    full={
        "depths": _DEPTHS,
        "side": 10,
        "rank": 1,
        "counts": (30, 45, 60),
        "initial_scale": 0.2,
        "flow_time": 1.0,
        "seeds": 10,
    },
    quick={"counts": (35, 60), "flow_time": 0.15, "seeds": 4},
)

TEST_ERROR = PaperFigure(
    "test error against the number of measurements",
    "The flattest interpolator of every depth and the interpolator of least nuclear norm, on the same "
    "measurements. The convex solver stops at a relative gap of 1e-6, which shows as its error where it "
    "recovers the matrix.",
    gatmiry_matrices.test_error,
    full={
        "depths": _DEPTHS,
        "side": 10,
        "rank": 1,
        "counts": (20, 25, 30, 35, 40, 45, 50, 60, 70, 80),
        "seeds": 20,
    },
    quick={"counts": (20, 30, 40, 50, 60), "seeds": 10},
)

ISOMETRY = PaperFigure(
    "the isometry constant and what it says of F",
    "Left: the constant of rank one of Gaussian measurements, searched from inside, against the number "
    "that holds with confidence 95%. Right: F(M) of random matrices over its isotropic value F_iso(M) = "
    "2 L (mn)^{1/L} ||M||_*^{2(L-1)/L}; the band is 1 ± δ, δ from the left.",
    gatmiry_matrices.isometry,
    full={
        "depths": _DEPTHS,
        "side": 10,
        "counts": (50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600),
        "matrices": 5,
        "seeds": 20,
    },
    quick={"counts": (100, 200, 400, 800, 1600, 3200, 6400), "matrices": 2, "seeds": 3},
)

ONE_MEASUREMENT = PaperFigure(
    "the bias of one measurement",
    "F(M) for N = 1, by its formula 2 L ||(A^T M)^{L-1} A^T||_{S_{2/L}}^{2/L}, against the trace of "
    "the Hessian (automatic differentiation) of networks whose layers were flattened; and against the "
    "formula without its trailing A^T.",
    gatmiry_matrices.one_measurement,
    full={"depths": _DEPTHS, "side": 6, "matrices": 40},
    quick={"side": 4, "matrices": 6},
)

PAPER = Paper(
    "gatmiry2023",
    "K. Gatmiry, Z. Li, C.-Y. Chuang, S. Reddi, T. Ma, S. Jegelka: The Inductive Bias of Flatness "
    "Regularization for Deep Matrix Factorization, 2023 (arXiv 2306.13239)",
    "The settings are flatrank's own, chosen to show each claim; they are not the paper's, which are "
    "not public in detail. Intervals are over seeds: other matrices, measurements and starts.",
    (TRAINING, SPEED, END_POINTS, TEST_ERROR, ISOMETRY, ONE_MEASUREMENT),
)
