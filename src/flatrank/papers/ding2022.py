"""Ding, Drusvyatskiy, Fazel, Harchaoui 2022: flat minima of two layers recover low-rank matrices."""

from . import ding_recovery, ding_regularity
from ._paper import Paper, PaperFigure

MODELS = ("gaussian", "rank-one", "quadratic", "entries")

MAPS = PaperFigure(
    "recovery over size and number of measurements",
    "Flat minima of two layers and the least nuclear norm on the same matrices (d x d) and "
    "measurements: the share of trials in which each recovers the matrix.",
    ding_recovery.maps,
    full={
        "models": MODELS,
        "sides": (10, 20, 30, 40),
        "rank": 2,
        "loads": (1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5),
        "trials": 50,
    },
    quick={"sides": (10, 16), "loads": (1.75, 2.5, 3.5, 4.5), "trials": 8},
)

REGULARITY = PaperFigure(
    "regularity: nuclear norm and weighted trace norm of flat minima",
    "Above: the nuclear norm of the flat minimum over the least one. Middle: the trace of the Hessian, "
    "4 ||R^{1/2} M C^{1/2}||_* with R = K(I) and C = K*(I), of the truth and of the least nuclear "
    "norm's interpolator over that of the flat minimum found: the truth is a flat minimum where that is "
    "1, and the one found is not where it is below. Below: the bound on the first, (κ(R) κ(C))^{1/2}.",
    ding_regularity.regularity,
    full={
        "models": MODELS,
        "side": 20,
        "rank": 2,
        "loads": (2.0, 2.5, 3.0, 3.5, 4.0, 4.5),
        "trials": 20,
    },
    quick={"side": 12, "loads": (2.0, 3.0, 4.5), "trials": 8},
)

PAPER = Paper(
    "ding2022",
    "L. Ding, D. Drusvyatskiy, M. Fazel, Z. Harchaoui: Flat minima generalize for low-rank matrix "
    "recovery, Information and Inference 2024 (arXiv 2203.03756)",
    "The paper's: flat minima (least trace of the Hessian) of overparametrised two-layer models "
    "recover the truth exactly in matrix and bilinear sensing and with quadratic activations; for "
    "completion it proves weak recovery and reports that recovery looks exact. Sizes, counts, "
    "seeds and thresholds are flatrank's own. A quadratic network, y = sum_k v_k (u_k^T x)^2, is "
    "here measurements x x^T of a symmetric matrix with weights v = 1, -1 in turn, factored by "
    "two free layers: their antisymmetric part is not seen, and the flat minimum has none. Masks "
    "have an entry in each row and column. Robust PCA and covariance matrices are "
    "left out. Flat minima are what `recover` returns; figure 2 checks them by a convex solver. "
    "At quick scale 4.5 r d measurements are more than the d (d + 1) / 2 numbers of a symmetric matrix, "
    "which linear algebra then finds: there the claims on quadratic networks test the solver alone.",
    (MAPS, REGULARITY),
)
