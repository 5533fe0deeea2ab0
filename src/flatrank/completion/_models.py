"""Fitted completers to one .safetensors file and back: arrays as tensors, the rest as JSON."""

import dataclasses
import functools
import hashlib
import json
import math
import typing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._checks import as_path, require_memory
from ..data import FrameForm, Ids, atomically, check_writable
from ..entries import Entries
from ..penalties import Flatness, WeightDecay
from ._completer import MatrixCompleter
from ._models_of_0_1 import migrated
from ._triplets import TripletCompleter
from .average import AverageCompletion
from .single import SingleCompletion

_FORMAT, _VERSION = "flatrank model", 2
_SUFFIX = ".safetensors"
Completer = MatrixCompleter | TripletCompleter
_COMPLETIONS = (SingleCompletion, AverageCompletion)


def save_model(path: Any, completer: Any) -> None:
    """Write a fitted completer to one .safetensors file, atomically and without pickle.

    Predictions after `load_model` are the same bit for bit. Ids may be integers, floats, strings,
    booleans or datetime64.

    Raises ValueError for another suffix, a completer that is not fitted, and what the file cannot
    hold: ids of other types, a `random_state` that is a generator.
    """
    if not isinstance(completer, Completer):
        raise TypeError(
            f"`completer` must be a MatrixCompleter or TripletCompleter, found {completer!r}."
        )
    path = check_writable(path, (_SUFFIX,))
    check_is_fitted(completer)
    tensors: dict[str, np.ndarray] = {}
    model = json.dumps(_encoded(completer, "model", tensors), allow_nan=False)
    metadata = {
        "format": _FORMAT,
        "version": str(_VERSION),
        "model": model,
        "sha256": _digest(model, tensors),
    }
    with atomically(path) as temporary:
        safetensors.numpy.save_file(tensors, temporary, metadata)


def load_model(path: Any) -> Completer:
    """The completer that `save_model` wrote.

    Raises FileNotFoundError for no file, ValueError for a file of something else, of a newer flatrank,
    or damaged, MemoryError for one that would not fit.
    """
    path = as_path(path, "path")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: check the path of the model.")
    require_memory(2 * path.stat().st_size, f"Reading {path}", "free some memory")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_format(metadata, path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole .safetensors file ({error}): save the model again."
        ) from error
    model = metadata.get("model", "")
    if metadata.get("sha256") != _digest(model, tensors):
        raise ValueError(f"{path} is damaged, its checksum differs: save the model again.")
    try:
        described = json.loads(model)
        if metadata["version"] == "1":
            described = migrated(described, tensors)
        completer = _decoded(described, tensors)
        check_is_fitted(completer)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(
            f"{path} does not describe a completer that this flatrank knows "
            f"({type(error).__name__}: {error}): save the model again with this version."
        ) from error
    return completer


def _check_format(metadata: dict[str, str], path: Path) -> None:
    if metadata.get("format") != _FORMAT:
        raise ValueError(
            f"{path} holds something other than a flatrank model: name a file that `save_model` or "
            "`flatrank complete --save` wrote."
        )
    version = metadata.get("version", "")
    if not version.isdecimal() or int(version) > _VERSION:
        raise ValueError(
            f"{path} is in version {version or 'none'} of the format, and this flatrank reads up to "
            f"version {_VERSION}: update flatrank."
        )


def _digest(model: str, tensors: dict[str, np.ndarray]) -> str:
    """A digest of all that a file holds: safetensors has none of its own."""
    digest = hashlib.sha256(model.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@functools.cache
def _records() -> dict[str, type]:
    """The classes that a file may name: the completers, and the records that they are made of.

    These are found by the annotations of their fields, so that a new field needs nothing here.
    """
    found: dict[str, type] = {}

    def visit(kind: Any) -> None:
        for part in typing.get_args(kind):
            visit(part)
        if not isinstance(kind, type) or kind.__name__ in found or not _is_record(kind):
            return
        found[kind.__name__] = kind
        for part in typing.get_type_hints(kind).values():
            visit(part)

    for kind in (*_COMPLETIONS, Entries, Flatness, WeightDecay, Ids, FrameForm):
        visit(kind)
    return found | {kind.__name__: kind for kind in typing.get_args(Completer)}


def _is_record(kind: type) -> bool:
    named = issubclass(kind, tuple) and hasattr(kind, "_fields")
    return kind.__module__.startswith("flatrank.") and (dataclasses.is_dataclass(kind) or named)


def _encoded(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """A value as JSON; the arrays in it go to `tensors`, under names that say where they belong."""
    if isinstance(value, np.generic) and value.dtype.kind in "fiub":
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, np.ndarray):
        return _encoded_array(value, name, tensors)
    if isinstance(value, jax.Array):
        return {**_encoded_array(np.asarray(value), name, tensors), "jax": True}
    if isinstance(value, FrameForm):
        value = value.portable()
    kind = type(value)
    if isinstance(value, BaseEstimator) and kind.__name__ in _records():
        parameters = value.get_params(deep=False)
        fitted = {
            key: part
            for key, part in vars(value).items()
            if key.endswith("_") and not key.startswith("_") and key not in parameters
        }
        return {
            "object": kind.__name__,
            "fields": _encoded_dict(parameters, name, tensors),
            "fitted": _encoded_dict(fitted, name, tensors),
        }
    if kind.__name__ in _records():
        keys = (
            [part.name for part in dataclasses.fields(kind)]
            if dataclasses.is_dataclass(kind)
            else kind._fields
        )
        fields = {key: getattr(value, key) for key in keys}
        return {"object": kind.__name__, "fields": _encoded_dict(fields, name, tensors)}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": _encoded_dict(value, name, tensors)}
    if kind in (tuple, list):
        parts = [_encoded(part, f"{name}.{k}", tensors) for k, part in enumerate(value)]
        return {kind.__name__: parts}
    raise ValueError(
        f"{name} is a {kind.__module__}.{kind.__qualname__}, which a model file cannot hold: give it "
        "as a number, a string or an array of them (a `random_state` as an integer)."
    )


def _encoded_dict(values: dict[str, Any], name: str, tensors: dict[str, np.ndarray]) -> Any:
    return {key: _encoded(part, f"{name}.{key}", tensors) for key, part in values.items()}


def _encoded_array(array: np.ndarray, name: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """The tensor's name and the data type of the array; strings become bytes and where each ends."""
    described = {"array": name, "dtype": str(array.dtype)}
    if array.dtype.kind == "O":
        plain = [one.item() if isinstance(one, np.generic) else one for one in array.flat]
        array = np.fromiter(plain, object, array.size).reshape(array.shape)
        kinds = set(map(type, plain))
        if len(kinds) > 1 or not kinds <= {str, int, float, bool}:
            told = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ValueError(
                f"{name} has Python objects of type {told}, which a model file cannot hold: make them "
                "integers, floats, strings or dates of NumPy (datetime64) before fitting."
            )
        if kinds == {str} or not kinds:
            return described | _encoded_text(array, name, tensors)
        try:
            array = array.astype(kinds.pop())
        except OverflowError:
            raise ValueError(
                f"{name} has integers of more than 64 bits: make them strings."
            ) from None
    if array.dtype.kind == "U":
        return described | _encoded_text(array, name, tensors)
    if array.dtype.kind == "M":
        array = array.view(np.int64)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise ValueError(
            f"{name} is an array of {array.dtype}, which a model file cannot hold: make it numbers, "
            "strings or datetime64."
        )
    # Tensors are the bytes of an array in the order of C and of this machine.
    tensors[name] = np.array(array, array.dtype.newbyteorder("="), order="C")
    return described


def _encoded_text(array: np.ndarray, name: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    encoded = [text.encode("utf-8", "surrogatepass") for text in array.reshape(-1).tolist()]
    tensors[name] = np.frombuffer(b"".join(encoded), np.uint8)
    tensors[f"{name}.ends"] = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return {"text": list(array.shape)}


def _decoded(node: Any, tensors: dict[str, np.ndarray]) -> Any:
    """The value that `_encoded` made JSON of."""
    if not isinstance(node, dict):
        return node
    if "float" in node:
        return float(node["float"])
    if "array" in node:
        return _decoded_array(node, tensors)
    if "dict" in node:
        return {key: _decoded(part, tensors) for key, part in node["dict"].items()}
    for kind in (tuple, list):
        if kind.__name__ in node:
            return kind(_decoded(part, tensors) for part in node[kind.__name__])
    made = _records()[node["object"]](
        **{key: _decoded(part, tensors) for key, part in node["fields"].items()}
    )
    for key, part in node.get("fitted", {}).items():
        setattr(made, key, _decoded(part, tensors))
    return made


def _decoded_array(node: dict[str, Any], tensors: dict[str, np.ndarray]) -> Any:
    stored, dtype = tensors[node["array"]], np.dtype(node["dtype"])
    if "text" in node:
        ends = tensors[node["array"] + ".ends"].tolist()
        content = stored.tobytes()
        texts = [
            content[start:end].decode("utf-8", "surrogatepass")
            for start, end in zip([0, *ends], ends, strict=False)
        ]
        return np.array(texts, dtype).reshape(node["text"])
    if node.get("jax"):
        return jnp.asarray(stored)
    return stored.view(dtype) if dtype.kind == "M" else stored.astype(dtype, copy=False)
