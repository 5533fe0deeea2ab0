"""Names of the release before: they work for one release more, and say what they are called now."""

import warnings
from typing import Any

_UNSET: Any = object()

_MOVED_TO = {
    "dynamics": (
        "DivergenceError",
        "FlatFlow",
        "GradientDescent",
        "GradientFlow",
        "Run",
        "TrainingResult",
        "equivalent_penalty",
        "equivalent_time",
        "retracted",
        "scale_by_global_rms",
        "singular_value_speeds",
    ),
    "flatness": (
        "dense_hessian",
        "hessian_operator",
        "largest_eigenvalue",
        "largest_eigenvalues",
        "layer_traces",
        "regularizer_path",
        "spectral_density",
    ),
    "norms": (
        "effective_rank",
        "nuclear_norm",
        "numerical_rank",
        "schatten_norm",
        "singular_values",
        "stable_rank",
        "weighted_trace_norm",
    ),
    "recovery": ("Certificate", "Result"),
    "theory": ("THEOREMS", "RIPConstant", "rip_constant", "trace_lower_bound", "verify"),
}

# What was called flatrank.KEY is called flatrank.VALUE now.
MOVED = {name: f"{room}.{name}" for room, names in _MOVED_TO.items() for name in names} | {
    module: "completion" for module in ("estimators", "models", "queries", "triplets")
}


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn the caller's caller that `old` is called `new` now and goes away with the next release."""
    warnings.warn(
        f"{old} is called {new} now: the old name works in this release and not in the next.",
        FutureWarning,
        stacklevel=stacklevel,
    )


def taken_over(options: dict[str, Any], old: str, new: str, value: Any, default: Any) -> Any:
    """The value of the argument `new`, or of `old` in `options`, which is removed with a warning.

    Raises TypeError if both were given.
    """
    found = options.pop(old, _UNSET)
    if found is _UNSET:
        return value
    if value is not default:
        raise TypeError(f"`{old}` is called `{new}` now and both were given: pass `{new}` alone.")
    warn_renamed(f"`{old}`", f"`{new}`", stacklevel=4)
    return found


def nothing_left(options: dict[str, Any], function: str) -> None:
    """Raise TypeError for keywords that are not arguments, as Python does."""
    if options:
        raise TypeError(f"{function}() got an unexpected keyword argument {next(iter(options))!r}.")
