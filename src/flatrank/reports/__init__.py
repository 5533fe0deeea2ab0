"""Reports in one HTML file: their sections, claims with a verdict, and intervals.

What a new command reports is one file here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
