"""A matrix recovered from measurements, with what there is to say about it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .. import plots
from ..measurements import AbstractMeasurements
from ..recovery import Solution
from ._html import Section


@dataclass(frozen=True)
class RecoveredMatrix:
    """A solution, its matrix, and the seconds it took, compilation included."""

    A: AbstractMeasurements
    solution: Solution
    matrix: np.ndarray
    seconds: float

    @cached_property
    def spectrum(self) -> np.ndarray:
        """The singular values of the matrix, largest first."""
        return np.linalg.svd(self.matrix, compute_uv=False)

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Rows of a two-column table."""
        m, n = self.matrix.shape
        solution = self.solution
        spectrum = self.spectrum
        rank = int(solution.rank) or int((spectrum > 1e-6 * spectrum[0]).sum())
        facts = [
            ("matrix", f"{m} x {n}"),
            ("measurements", f"{self.A.count:,}"),
            ("rank found", f"{rank}"),
            ("measurements / degrees of freedom", f"{self.A.count / (rank * (m + n - rank)):.2f}")
            if rank
            else ("measurements / degrees of freedom", "-"),
            ("relative residual", f"{float(solution.residual):.2e}"),
            ("nuclear norm", f"{spectrum.sum():.6g}"),
        ]
        if np.isfinite(solution.noise):
            facts.append(("noise (standard deviation)", f"{float(solution.noise):.3g}"))
        return (*facts, ("seconds", f"{self.seconds:.1f}"))

    def section(self) -> Section:
        """The facts and pictures as a section of a report."""
        history = np.asarray(self.solution.residual_history)
        pictures = (
            (
                "No rank was given: the penalty decides it.",
                plots.singular_values(self.spectrum),
            ),
            ("", plots.residuals(history[np.isfinite(history)])),
        )
        return Section("The recovered matrix", str(self.solution.message), self.facts(), pictures)
