"""Matrix recovery by deep matrix factorisation, with its inductive bias made explicit.

The names here are those that most programs need. Everything else is in a room, as
`flatrank.flatness.layer_traces`; all rooms are there after `import flatrank as fr`.
"""

import sys
from operator import attrgetter
from typing import Any

import lazy_loader

from ._renamed import MOVED, warn_renamed

__version__ = "0.1.0"

# What is here, and from which room, is in __init__.pyi; a room loads when it is first asked for.
_load, _, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return _load(name)
    if name not in MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    warn_renamed(f"flatrank.{name}", f"flatrank.{MOVED[name]}")
    return attrgetter(MOVED[name])(sys.modules[__name__])


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
