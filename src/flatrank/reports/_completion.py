"""Completing a table and telling about it: the facts and pictures of `flatrank complete`."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import plots
from ..completion import MatrixCompleter, TripletCompleter
from ..data import EntryTable
from ..norms import singular_values
from ._html import Section


@dataclass(frozen=True)
class CompletedTable:
    """A fitted table, with the seconds that the fit took."""

    table: EntryTable
    completer: MatrixCompleter
    seconds: float

    def filled(self) -> np.ndarray:
        """The completed table, shape (m, n); observed entries are kept."""
        array = self.completer.completion_.matrix()
        array[self.table.rows, self.table.columns] = self.table.values
        return array

    def model(self) -> MatrixCompleter | TripletCompleter:
        """What predicts further entries: by ids for a table in long form, else by indices."""
        if self.table.triplets is None:
            return self.completer
        return TripletCompleter.from_table(self.table, self.completer)

    def facts(self) -> tuple[tuple[str, str], ...]:
        """What the command line and the report show."""
        m, n = self.table.shape
        fitted, count = self.completer, len(self.table.values)
        draws = fitted.completion_.draws
        chosen = "" if fitted.alpha != "auto" else " (chosen on held-out entries)"
        if draws is not None:
            chosen = f" (mean of {len(draws.noise_precision)} draws, width {fitted.width_})"
        penalty = fitted.penalty or ("weight-decay" if draws is not None else "flatness")
        unfinished = "" if fitted.completion_.converged else " (the limit, still falling)"
        facts = [
            ("shape", f"{m:,} x {n:,}"),
            ("observed", f"{count:,} entries, {100 * count / (m * n):.3g}%"),
            ("depth, penalty", f"{fitted.depth}, {penalty}"),
            ("alpha", f"{fitted.alpha_:.4g}{chosen}"),
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
                "sweeps" if fitted.completion_.draws is not None else "sweeps of the last fit",
                f"{fitted.completion_.sweeps}{unfinished}",
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
                plots.table(
                    self.table.rows,
                    self.table.columns,
                    self.table.values,
                    self.table.shape,
                    completion,
                ),
            ),
            (
                "The penalty decides how many singular values matter; no rank was given.",
                plots.singular_values(np.asarray(singular_values(completion.network))),
            ),
        ]
        if completion.path:
            pictures.append(
                (
                    "A tenth of the entries was held out of each fit on the path; the strength with "
                    "the smallest error on them was used for the last fit, to all entries.",
                    plots.path(completion),
                )
            )
        if len(completion.held_residuals):
            pictures.append(("", plots.residual_histogram(completion)))
        pictures.append(("", plots.convergence(completion.history)))
        return Section(title, "", self.facts(), tuple(pictures))


def complete_entries(
    table: EntryTable,
    completer: MatrixCompleter,
    on_step: Callable[[str, float], None] | None = None,
) -> CompletedTable:
    """Fit a completer to the entries of a table and take the time."""
    start = time.perf_counter()
    completer.fit_entries(table.rows, table.columns, table.values, table.shape, on_step)
    return CompletedTable(table, completer, time.perf_counter() - start)
