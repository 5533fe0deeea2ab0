"""What a file of release 0.1 describes, as this release would have described it."""

from typing import Any

import numpy as np

_HELD = ("held_rows", "held_columns", "held_residuals", "held_deviations")


def migrated(node: Any, tensors: dict[str, np.ndarray]) -> Any:
    """The JSON of a model in version 1 of the format, in version 2.

    Version 1 had one class of completions for both models, loose arrays for the entries and for what was
    held out, and `alpha` for the strength.
    """
    if isinstance(node, list):
        return [migrated(part, tensors) for part in node]
    if not isinstance(node, dict):
        return node
    if node.get("object") == "MatrixCompleter":
        return _completer(node, tensors)
    return {key: migrated(part, tensors) for key, part in node.items()}


def _completer(node: dict[str, Any], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    settings = dict(node["fields"])
    settings["strength"], settings["alpha"] = settings["alpha"], "deprecated"
    fitted = dict(node["fitted"])
    if "completion_" in fitted:
        old = fitted["completion_"]["fields"]
        sides = ("row_bias", "column_bias")
        shape = [len(tensors[old[side]["array"]]) for side in sides]
        entries = {name: fitted.pop(f"{name}_") for name in ("rows", "columns", "values")}
        fitted["entries_"] = _record("Entries", **entries, shape={"tuple": shape})
        fitted["strength_"] = fitted.pop("alpha_")
        fitted["completion_"] = _completion(old, settings, fitted["n_observed_"])
    return {"object": "MatrixCompleter", "fields": settings, "fitted": fitted}


def _completion(old: dict[str, Any], settings: dict[str, Any], count: int) -> dict[str, Any]:
    rows, columns, residuals, deviations = (old[name] for name in _HELD)
    shared = {
        name: old[name]
        for name in ("network", "row_bias", "column_bias", "mean", "spread", "history", "sweeps")
    }
    shared |= {
        "strength": old["alpha"],
        "biases": settings["biases"],
        "held_out": _record(
            "HeldOut",
            rows=rows,
            columns=columns,
            residuals=residuals,
            deviations=deviations,
            error=old["held_out_error"],
        ),
    }
    if old["draws"] is not None:
        return _record("AverageCompletion", **shared, draws=old["draws"])
    words = {"flatness": "Flatness", "weight-decay": "WeightDecay", None: "Flatness"}
    penalty = settings["penalty"]
    if not isinstance(penalty, dict):
        penalty = _record(words[penalty])
    steps = [_step(step["fields"]) for step in old["path"]["tuple"]]
    return _record(
        "SingleCompletion",
        **shared,
        penalty=penalty,
        smoothing=settings["smoothing"],
        count=count,
        path={"tuple": steps},
        within_limit=old["converged"],
    )


def _step(old: dict[str, Any]) -> dict[str, Any]:
    return _record("PathStep", **{("strength" if k == "alpha" else k): v for k, v in old.items()})


def _record(kind: str, **fields: Any) -> dict[str, Any]:
    return {"object": kind, "fields": fields}
