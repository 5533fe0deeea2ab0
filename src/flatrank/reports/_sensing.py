"""A matrix recovered from measurements, with what there is to say about it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .. import plots
from ..measurements import AbstractMeasurements, EntryMeasurements
from ..recovery import Result, Solution
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

    @property
    def usable(self) -> bool:
        """Whether the matrix, or a part of it, is the one that was measured."""
        solution = self.solution
        partly = solution.result in (Result.partly_determined, Result.one_of_several)
        return bool(solution.successful) or (partly and bool(solution.determined.table().any()))

    @cached_property
    def known(self) -> np.ndarray:
        """The matrix with NaN where the measurements do not determine it."""
        if self.solution.successful:
            return self.matrix
        kept = self.solution.determined.table()
        if isinstance(self.A, EntryMeasurements) and np.isnan(self.solution.noise):
            kept[np.asarray(self.A.rows), np.asarray(self.A.columns)] = True  # exact as measured
        return np.where(kept, self.matrix, np.nan)

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
            ("Entries that nothing determines are grey.", plots.known(self.solution)),
        )
        return Section("The recovered matrix", str(self.solution.message), self.facts(), pictures)
