"""Tables with holes, completed without choosing a rank: scikit-learn estimators and saved models.

What fits a table is in `single` (one factorisation of least penalty) and `average` (all that could be).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
