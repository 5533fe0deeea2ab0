"""Tables in memory: columns out of pandas, polars, pyarrow and plain arrays, and the same back."""

import contextlib
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_FRAMES = "a pandas or polars DataFrame, a pyarrow Table, a dict of arrays or a structured array"


@dataclass(frozen=True)
class FrameForm:
    """The library a table came from, and the data types that some of its columns had there.

    `dtypes` are the library's own, or their names (pandas), or None where NumPy's say it all.
    """

    library: str = "numpy"
    dtypes: dict[str, Any] = field(default_factory=dict)

    def portable(self) -> "FrameForm":
        """The same in names alone, which only pandas has for all of its data types."""
        named = self.dtypes if self.library == "pandas" else {}
        return FrameForm(self.library, {name: str(dtype) for name, dtype in named.items()})

    def frame(self, columns: dict[str, np.ndarray]) -> Any:
        """Columns as a table of that library; a dict of arrays where it came as such."""
        if self.library == "numpy":
            return dict(columns)
        library = importlib.import_module(self.library)
        build: Callable = {"pandas": _pandas, "polars": _polars, "pyarrow": _pyarrow}[self.library]
        return build(
            library, {name: (array, self.dtypes.get(name)) for name, array in columns.items()}
        )


def columns_of(frame: Any, names: Sequence[str]) -> tuple[dict[str, np.ndarray], FrameForm]:
    """Named columns of a table as arrays of equal length, and the form to give others back in.

    Raises TypeError for what is not a table, ValueError for a name that it does not have.
    """
    library = type(frame).__module__.partition(".")[0]
    # How each library names its columns, gives one and calls its data type.
    ways: dict[str, tuple[str, str, str]] = {
        "pandas": ("columns", "__getitem__", "dtype"),
        "polars": ("columns", "get_column", "dtype"),
        "pyarrow": ("column_names", "column", "type"),
    }
    names_of, one_of, dtype_of = ways.get(library, ("",) * 3)
    if hasattr(frame, one_of) and hasattr(frame, names_of):
        _require_names(names, list(getattr(frame, names_of)))
        picked = {name: getattr(frame, one_of)(name) for name in names}
        arrays = {name: _column(column, name) for name, column in picked.items()}
        dtypes = {name: getattr(column, dtype_of) for name, column in picked.items()}
        return arrays, FrameForm(library, dtypes)
    if isinstance(frame, np.ndarray) and frame.dtype.names:
        _require_names(names, frame.dtype.names)
        return {name: _column(frame[name], name) for name in names}, FrameForm()
    if isinstance(frame, Mapping):
        _require_names(names, list(frame))
        arrays = {name: _column(frame[name], name) for name in names}
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
            raise ValueError(f"The columns of the table have different lengths ({told}).")
        return arrays, FrameForm()
    remedy = ": call .collect() first" if hasattr(frame, "collect") else f": pass {_FRAMES}"
    raise TypeError(f"The table is a {type(frame).__module__}.{type(frame).__name__}{remedy}.")


def _require_names(names: Sequence[str], found: Sequence[Any]) -> None:
    for name in names:
        count = sum(1 for one in found if one == name)
        if count != 1:
            has = ", ".join(map(repr, found))
            wrong = f"no column {name!r}" if count == 0 else f"{count} columns {name!r}"
            raise ValueError(f"The table has {wrong}; it has {has}: rename one.")


def _column(values: Any, name: str) -> np.ndarray:
    if isinstance(values, np.ma.MaskedArray):
        if values.dtype.kind in "fiub":
            values = (
                np.ma.filled(values.astype(np.float64), np.nan)
                if values.mask.any()
                else values.data
            )
        else:
            values = np.ma.filled(values.astype(object), None)
    elif hasattr(values, "__array__"):
        try:
            values = np.asarray(values)
        except TypeError as error:
            raise TypeError(f"Column {name!r} is no array of values ({error}).") from None
    elif isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(
            f"Column {name!r} is a {type(values).__name__}: pass an array or a list, one value a line."
        )
    else:
        # Not np.asarray, which makes strings of numbers beside strings.
        given = list(values)
        kinds = set(map(type, given))
        same = len(kinds) == 1 and kinds <= {int, float, bool, str}
        values = np.asarray(given) if same else np.fromiter(given, object, len(given))
    if values.ndim != 1:
        raise ValueError(
            f"Column {name!r} has {values.ndim} axes (shape {values.shape}): flatten it with `.ravel()`."
        )
    return values


# An id that was asked for and not fitted may not be in the fitted data type (a category, a small
# integer): then its column has the type that the library gives it.


def _pandas(pandas: Any, columns: dict[str, tuple[np.ndarray, Any]]) -> Any:
    series = {}
    for name, (array, dtype) in columns.items():
        categories = getattr(dtype, "categories", None)
        holds = categories is None or pandas.Series(array).isin(categories).all()
        try:
            series[name] = pandas.Series(array, dtype=dtype if holds else None)
        except (TypeError, ValueError, OverflowError):
            series[name] = pandas.Series(array)
    return pandas.DataFrame(series)


def _polars(polars: Any, columns: dict[str, tuple[np.ndarray, Any]]) -> Any:
    series = []
    for name, (array, dtype) in columns.items():
        one = polars.Series(name, array.tolist() if array.dtype.kind == "O" else array)
        cast = one if dtype is None else one.cast(dtype, strict=False)
        series.append(one if cast.null_count() else cast)
    return polars.DataFrame(series)


def _pyarrow(pyarrow: Any, columns: dict[str, tuple[np.ndarray, Any]]) -> Any:
    made = {}
    for name, (array, dtype) in columns.items():
        made[name] = pyarrow.array(array)
        if dtype is not None:
            with contextlib.suppress(pyarrow.ArrowInvalid):
                made[name] = made[name].cast(dtype)
    return pyarrow.table(made)
