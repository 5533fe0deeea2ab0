"""What training returns."""

from collections import Counter
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Int

from ..network import DeepLinear


class TrainingResult(eqx.Enumeration):
    """How a run ended; the members are the sentences that the user reads."""

    completed = "All steps were taken."
    reached = "What `until` asks was reached."
    diverged = (
        "The loss was no longer finite; the network and history end at the last sound record."
    )


class DivergenceError(ArithmeticError):
    """A run diverged; `run` has what was recorded before."""

    def __init__(self, message: str, run: "Run"):
        super().__init__(message)
        self.run = run


class Run(eqx.Module):
    """A trained network and the history of its training.

    `history` maps names to arrays with one record a row: "step", "time" (along the flow of the trace,
    see `equivalent_time`: zero for an optimiser that does not move along it, missing where
    none is known) and what was asked.
    Of many runs at once, the network's layers and all recorded arrays have a leading axis of runs;
    `run.network` of one of them is `jax.tree.map(lambda x: x[k], runs.network)`. `diverged_at` is the
    step at which the loss was no longer finite, -1 if it always was; records after the end of a run
    are not there, or NaN where other runs go on.
    """

    network: DeepLinear
    history: dict[str, Any]
    result: TrainingResult
    diverged_at: Int[Array, "*runs"]

    @property
    def message(self) -> str:
        """How the run ended, in a sentence; for many runs, how many ended how. Not under `vmap`."""
        sentences: Any = TrainingResult
        if self.diverged_at.ndim == 0:
            return sentences[self.result]
        each = [
            sentences[jax.tree.map(lambda x, k=k: x[k], self.result)]
            for k in range(len(self.diverged_at))
        ]
        return " ".join(
            f"{count} of {len(each)} runs: {sentence}" for sentence, count in Counter(each).items()
        )
