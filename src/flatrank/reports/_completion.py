"""Completing a table and telling about it: the facts and pictures of `flatrank complete`."""

import time
from dataclasses import dataclass

import numpy as np

from .. import plots
from .._progress import OnStep, silent
from .._words import PenaltyWord
from ..completion import (
    AverageCompletion,
    MatrixCompleter,
    SingleCompletion,
    TripletCompleter,
)
from ..entries import Entries
from ..norms import singular_values
from ._html import Section


@dataclass(frozen=True)
class CompletedTable:
    """A fitted table, with the seconds that the fit took."""

    table: Entries
    completer: MatrixCompleter
    seconds: float

    def filled(self) -> np.ndarray:
        """The completed table, shape (m, n); observed entries are kept."""
        return self.table.filled(self.completer.completion_.matrix())

    def model(self) -> MatrixCompleter | TripletCompleter:
        """What predicts further entries: by ids for a table in long form, else by indices."""
        if self.table.long_form is None:
            return self.completer
        return TripletCompleter.from_table(self.table, self.completer)

    def facts(self) -> tuple[tuple[str, str], ...]:
        """What the command line and the report show."""
        m, n = self.table.shape
        fitted, count = self.completer, len(self.table)
        completion = fitted.completion_
        averaged = isinstance(completion, AverageCompletion)
        penalty = fitted.penalty or (PenaltyWord.weight_decay if averaged else PenaltyWord.flatness)
        unfinished = "" if completion.converged else " (the limit, still falling)"
        facts = [
            ("shape", f"{m:,} x {n:,}"),
            ("observed", f"{count:,} entries, {100 * count / (m * n):.3g}%"),
            ("depth, penalty", f"{fitted.depth}, {penalty}"),
            ("strength", f"{fitted.strength_:.4g} ({completion.choice})"),
        ]
        if np.isfinite(fitted.held_out_error_):
            spread = float(np.std(self.table.values))
            share = f", {fitted.held_out_error_ / spread:.3f} of the data's" if spread else ""
            facts.append(("held-out error (RMS)", f"{fitted.held_out_error_:.5g}{share}"))
        return (
            *facts,
            ("effective rank", f"{fitted.effective_rank_:.2f}"),
            ("trace of the Hessian", f"{fitted.trace_of_hessian_:.5g}"),
            ("nuclear norm", f"{fitted.nuclear_norm_:.5g}"),
            (
                "sweeps" if averaged else "sweeps of the last fit",
                f"{completion.sweeps}{unfinished}",
            ),
            ("seconds", f"{self.seconds:.1f}"),
        )

    def section(self, title: str = "The completed table") -> Section:
        """The facts and pictures as a section of a report."""
        completion = self.completer.completion_
        pictures = [
            (
                "Observed entries (grey: missing), the recovered table, and the residual of entries "
                "that were hidden to measure the error. Of large tables, block means are shown.",
                plots.table(self.table, completion),
            ),
            (
                "The penalty decides how many singular values matter; no rank was given.",
                plots.singular_values(np.asarray(singular_values(completion.network))),
            ),
        ]
        if isinstance(completion, SingleCompletion) and completion.path:
            pictures.append(
                (
                    "A tenth of the entries was held out of each fit on the path; the strength with "
                    "the smallest error on them was used for the last fit, to all entries.",
                    plots.path(completion),
                )
            )
        if len(completion.held_out):
            pictures.append(("", plots.residual_histogram(completion)))
        pictures.append(("", plots.convergence(completion.history)))
        return Section(title, "", self.facts(), tuple(pictures))


def complete_entries(
    table: Entries, completer: MatrixCompleter, on_step: OnStep = silent
) -> CompletedTable:
    """Fit a completer to the entries of a table and take the time."""
    start = time.perf_counter()
    completer.fit_entries(table.rows, table.columns, table.values, table.shape, on_step=on_step)
    return CompletedTable(table, completer, time.perf_counter() - start)
