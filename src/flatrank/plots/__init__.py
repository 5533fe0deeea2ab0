"""Pictures in one line: each function returns a matplotlib figure; `.savefig("picture.png")` writes it.

A new picture is a function in the file of its subject and a line in `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
