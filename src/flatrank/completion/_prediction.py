"""Predicting pairs of ids by a saved model: what `flatrank predict` writes."""

import warnings
from functools import partial

import numpy as np

from ._completer import MatrixCompleter
from ._triplets import TripletCompleter

_ADDED = ("prediction", "lower", "upper")


def id_columns(model: MatrixCompleter | TripletCompleter) -> dict[str, np.ndarray]:
    """The names of a model's two id columns, and ids of the kind that it knows.

    A model of a wide table has indices, `row` and `column`. Raises ValueError for a name that the
    prediction needs.
    """
    if isinstance(model, MatrixCompleter):
        return {"row": np.zeros(1, np.int64), "column": np.zeros(1, np.int64)}
    columns = {model.row: model.row_ids_, model.column: model.column_ids_}
    for name in columns:
        if name in _ADDED:
            raise ValueError(
                f"The model has a column of ids {name!r}, as the prediction: rename it."
            )
    return columns


def predict_pairs(
    model: MatrixCompleter | TripletCompleter, pairs: dict[str, np.ndarray], coverage: float
) -> dict[str, np.ndarray]:
    """The pairs, a prediction for each, and bounds that cover its value with a given probability.

    The bounds are NaN, with a warning, for a model that held out no entries. Raises ValueError for a
    coverage outside (0, 1) and as the model's own predictions do.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"`coverage` must be between 0 and 1, found {coverage!r}.")
    if isinstance(model, TripletCompleter):
        fitted = model.completer_
        predict = partial(model.predict, pairs)
        predict_interval = partial(model.predict_interval, pairs)
    else:
        fitted = model
        rows, columns = pairs.values()
        predict = partial(model.predict_entries, rows, columns)
        predict_interval = partial(model.predict_interval, rows, columns)
    predicted = predict()
    if not len(fitted.completion_.held_out):
        warnings.warn(
            "No entries were held out of this model, which intervals need: lower and upper are left "
            "empty.",
            stacklevel=2,
        )
        lower = upper = np.full(len(predicted), np.nan)
    else:
        with warnings.catch_warnings():
            # `predict` has said how many ids are unknown.
            warnings.simplefilter("ignore")
            lower, upper = predict_interval(coverage=coverage)
    return pairs | dict(zip(_ADDED, (predicted, lower, upper), strict=True))
