"""Depth: what flatness recovers at depth 2 to 6, where the isometry property fails and where not."""

from . import depth_success
from ._paper import Paper, PaperFigure

_FULL = {
    "depths": (2, 3, 4, 5, 6),
    "side": 30,
    "rank": 2,
    "oversamplings": (1.1, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.4, 3.8, 4.2),
    "trials": 50,
    "outer_steps": 200,
}

ENTRIES = PaperFigure(
    "missing entries",
    "Single entries are far from isometric on matrices of rank one. Masks have the rank or more entries "
    "in each row and column. All methods get the same matrices and masks. Where curves lie on each "
    "other the last of the legend is seen.",
    depth_success.success,
    full={"ensembles": ("entries",), **_FULL},
    quick={
        "depths": (2, 3, 6),
        "side": 20,
        "oversamplings": (1.5, 1.8, 2.1, 2.4, 2.8),
        "trials": 12,
        "outer_steps": 30,
    },
)

SENSING = PaperFigure(
    "products of Gaussian vectors, and Gaussian matrices",
    "Measurements x_i^T M z_i are isometric in a weaker sense only, Gaussian matrices in the usual one: "
    "there flatness of every depth is near the nuclear norm. Where curves lie on each other the last of "
    "the legend is seen.",
    depth_success.success,
    full={"ensembles": ("rank-one", "gaussian"), **_FULL},
    quick={
        "depths": (2, 3, 6),
        "side": 20,
        "oversamplings": (1.5, 1.8, 2.1),
        "trials": 9,
        "outer_steps": 30,
    },
)

PAPER = Paper(
    "depth",
    "flatrank: flatness at depth 2 to 6, inside and outside of the isometry property",
    "No paper: a question of flatrank's own. Under the isometry property flatness of every depth is "
    "near the nuclear norm; elsewhere it changes with depth. A trial, told by its seed, is a matrix "
    "with measurements at every oversampling; differences are taken trial by trial. Quick scale leaves "
    "out depths 4 and 5, takes 20 x 20 instead of 30 x 30 matrices, fewer trials, a coarser "
    "grid and fewer outer steps of the solver.",
    (ENTRIES, SENSING),
)
