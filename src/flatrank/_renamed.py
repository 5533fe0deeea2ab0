"""Names of the release before: they work for one release more, and say what they are called now."""

import warnings
from typing import Any

_UNSET: Any = object()


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
