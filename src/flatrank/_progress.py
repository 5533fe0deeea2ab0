"""One signature for everything that tells how far it is."""

from collections.abc import Callable

# on_step(what is being done, in words; the fraction that is done, 0 to 1)
OnStep = Callable[[str, float], None]


def silent(what: str, fraction: float) -> None:
    """Tell nobody."""
