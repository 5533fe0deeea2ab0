"""Tables with holes, completed without choosing a rank: scikit-learn estimators and saved models.

A model has one method, `fit(entries) -> Completion`: one factorisation of least penalty in `single`, the
average over all that could have made the table in `average`. Another model is a room beside them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
