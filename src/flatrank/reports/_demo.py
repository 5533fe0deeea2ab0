"""The demo: a hyperspectral image from a tenth of it, and a matrix from Gaussian measurements."""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from .. import plots
from .._progress import OnStep, silent
from ..completion import MatrixCompleter
from ..data import indian_pines
from ..entries import Entries
from ..measurements import gaussian_measurements
from ..norms import nuclear_norm, numerical_rank, singular_values
from ..penalties import Flatness
from ..problems import low_rank_matrix
from ..recovery import Solution, recover
from ._completion import CompletedTable, complete_entries
from ._html import Section

# Near infrared, red and green of the 200 bands: vegetation shows red.
_BANDS = (50, 27, 17)


@dataclass(frozen=True)
class ImageRecovery:
    """Indian Pines from a tenth of its entries, against the truth."""

    completed: CompletedTable
    hidden_error: float
    band_mean_error: float
    section: Section


def recover_image(
    observed_fraction: float = 0.1,
    seed: int = 0,
    on_step: OnStep = silent,
) -> ImageRecovery:
    """Hide most entries of Indian Pines (21,025 pixels x 200 bands), complete, and compare.

    Errors are relative, ||prediction - truth|| / ||truth|| over the hidden entries.
    """
    cube = indian_pines()
    height, width, bands = cube.shape
    truth = cube.reshape(-1, bands)
    shown = np.random.default_rng(seed).random(truth.shape) < observed_fraction
    table = Entries.from_array(np.where(shown, truth, np.nan))
    completed = complete_entries(table, MatrixCompleter(random_state=seed), on_step)
    recovered = completed.filled()
    means = np.nanmean(np.where(shown, truth, np.nan), axis=0)
    hidden_norm = float(np.linalg.norm(truth[~shown]))

    def error(prediction: np.ndarray) -> float:
        return float(np.linalg.norm((prediction - truth)[~shown])) / hidden_norm

    hidden_error, band_mean_error = error(recovered), error(np.broadcast_to(means, truth.shape))

    def picture(array: np.ndarray) -> np.ndarray:
        return array[:, list(_BANDS)].reshape(height, width, len(_BANDS))

    percent = f"{100 * observed_fraction:.0f}%"
    images = plots.false_colour(
        {
            "original": picture(truth),
            f"observed ({percent} of the entries)": picture(np.where(shown, truth, np.nan)),
            "recovered": picture(recovered),
        },
        f"Bands {_BANDS[0]}, {_BANDS[1]}, {_BANDS[2]} as red, green, blue",
    )
    section = completed.section("Indian Pines from a tenth of its entries")
    section = Section(
        section.title,
        "21,025 pixels x 200 spectral bands (AVIRIS; CC-BY 3.0). All but a tenth of the entries, "
        "chosen at random, were hidden; no rank was given.",
        (
            ("relative error on the hidden entries", f"{hidden_error:.4f}"),
            ("the same, predicting each band's mean", f"{band_mean_error:.4f}"),
            *section.facts,
        ),
        (
            (
                "In each pixel of the middle image the bands that were not observed are grey.",
                images,
            ),
            *section.figures,
        ),
    )
    return ImageRecovery(completed, hidden_error, band_mean_error, section)


@dataclass(frozen=True)
class SensingRun:
    """One depth's flattest interpolator of the sensing demo."""

    depth: int
    solution: Solution
    error: float
    rank: int
    nuclear_norm: float
    seconds: float


def sense(
    side: int = 60,
    rank: int = 3,
    count: int = 1200,
    depths: tuple[int, ...] = (2, 3, 4),
    seed: int = 0,
) -> tuple[list[SensingRun], Section]:
    """The flattest interpolators of Gaussian measurements of a low-rank matrix, by depth."""
    matrix_key, measurement_key = jax.random.split(jax.random.key(seed))
    truth = low_rank_matrix(matrix_key, (side, side), rank)
    A = gaussian_measurements(measurement_key, count, (side, side)).prepared()
    y = A.apply(truth)
    runs = []
    for depth in depths:
        start = time.perf_counter()
        solution = recover(A, y, depth, Flatness())
        matrix = jax.block_until_ready(solution.matrix)
        seconds = time.perf_counter() - start
        runs.append(
            SensingRun(
                depth,
                solution,
                float(jnp.linalg.norm(matrix - truth) / jnp.linalg.norm(truth)),
                int(numerical_rank(matrix)),
                float(nuclear_norm(matrix)),
                seconds,
            )
        )
    facts = [("nuclear norm of the true matrix", f"{float(nuclear_norm(truth)):.10f}")]
    for run in runs:
        facts.append(
            (
                f"depth {run.depth}: nuclear norm; relative error; rank; seconds",
                f"{run.nuclear_norm:.10f}; {run.error:.1e}; {run.rank}; {run.seconds:.1f}",
            )
        )
    spectra = {
        f"depth {run.depth}": np.asarray(singular_values(run.solution.matrix)) for run in runs
    }
    section = Section(
        f"{side} x {side}, rank {rank}, from {count} Gaussian measurements",
        "Under the restricted isometry property the flattest interpolator of any depth is (nearly) "
        "the nuclear-norm minimiser. It is found here without knowing the rank.",
        tuple(facts),
        (
            (
                "All depths find the same matrix; singular values beyond the rank are round-off.",
                plots.recovered_spectra(
                    spectra, np.asarray(singular_values(truth)), "Flattest interpolators"
                ),
            ),
        ),
    )
    return runs, section
