"""What a sweep asks for: a file or settings in, cells out, each with a key of its content."""

import difflib
import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .._words import PenaltyWord
from ..problems import ENSEMBLES

METHODS = ("recover", "train")
PENALTIES = (*(word.value for word in PenaltyWord), "nuclear-norm")
OPTIMIZERS = ("gradient-descent", "label-noise", "sam")
# Part of every key: raised when the same settings come to mean another computation.
_SCHEMA = 1

_WORDS = {
    "method": METHODS,
    "ensemble": ENSEMBLES,
    "penalty": PENALTIES,
    "optimizer": OPTIMIZERS,
}
_LEAST_INTEGER = {
    "rank": 1,
    "count": 1,
    "depth": 2,
    "width": 1,
    "seed": 0,
    "max_outer_steps": 1,
    "max_inner_steps": 1,
    "batch_size": 1,
    "steps": 1,
}
_POSITIVE = ("oversampling", "learning_rate", "label_noise", "radius", "scale")
_NAMES = (*_WORDS, "shape", *_LEAST_INTEGER, *_POSITIVE, "noise")
_DEFAULTS = {
    "method": "recover",
    "noise": 0.0,
    "seed": 0,
    "max_outer_steps": 200,
    "max_inner_steps": 100,
    "scale": 0.1,
}
_OPTIONAL = ("width", "batch_size")
# Where a setting belongs that not every cell uses.
_OWNERS = {
    "penalty": "method 'recover'",
    "max_outer_steps": "method 'recover'",
    "max_inner_steps": "method 'recover'",
    "optimizer": "method 'train'",
    "learning_rate": "method 'train'",
    "batch_size": "method 'train'",
    "steps": "method 'train'",
    "scale": "method 'train'",
    "label_noise": "optimizer 'label-noise'",
    "radius": "optimizer 'sam'",
    "depth": "every penalty but 'nuclear-norm'",
    "width": "every penalty but 'nuclear-norm'",
}


@dataclass(frozen=True)
class Cell:
    """One setting with one seed; None stands for what it does not use or leaves to the library.

    `noise` is the standard deviation of the measurements' error over the root mean square of the exact
    measurements. `oversampling` is as it was asked for, or count / (r(m + n - r)); it is told by the
    other settings and no part of the key.
    """

    method: str
    ensemble: str
    m: int
    n: int
    rank: int
    count: int
    noise: float
    depth: int | None
    width: int | None
    penalty: str | None
    max_outer_steps: int | None
    max_inner_steps: int | None
    optimizer: str | None
    learning_rate: float | None
    label_noise: float | None
    radius: float | None
    batch_size: int | None
    steps: int | None
    scale: float | None
    seed: int
    oversampling: float

    @property
    def key(self) -> str:
        """The SHA-256 of the settings as canonical JSON."""
        settings = {name: value for name, value in asdict(self).items() if name != "oversampling"}
        text = json.dumps({"schema": _SCHEMA, **settings}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def program(self) -> "Cell":
        """The cell without the numbers that are not compiled in: the same for all that run together.

        The nuclear norm is weight decay of depth 2: min ||W_1||_F^2 + ||W_2||_F^2 over W_2 W_1 = M is 2
        ||M||_*.
        """
        nuclear = self.penalty == "nuclear-norm"
        return replace(
            self,
            penalty=PenaltyWord.weight_decay.value if nuclear else self.penalty,
            depth=2 if nuclear else self.depth,
            rank=1,
            noise=float(self.noise > 0),
            learning_rate=None,
            label_noise=None,
            radius=None,
            scale=None,
            seed=0,
            oversampling=0.0,
        )


@dataclass(frozen=True)
class Sweep:
    """Cells, each once, in the order asked for, and the text of the file that they came from."""

    cells: tuple[Cell, ...]
    text: str | None = None


def read_sweep(path: str | Path) -> Sweep:
    """The cells that a TOML file describes; docs/experiments.md lists what it may hold.

    Raises FileNotFoundError or ValueError with one sentence about what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: check the name.")
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file ({error}).") from error
    try:
        return Sweep(sweep_of(_expanded(tables)).cells, text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def sweep_of(settings: Iterable[Mapping[str, Any]]) -> Sweep:
    """The cells of settings written out, one mapping a cell, with the names of the TOML file.

    A setting that a cell does not use is left out of it (`radius` without SAM), and cells that are
    then the same are one. Raises ValueError for a setting that is unknown, missing, impossible, or used
    by no cell.
    """
    cells: dict[str, Cell] = {}
    given: dict[str, None] = {}
    used: set[str] = set()
    for one in settings:
        for name in one:
            if name not in _NAMES:
                raise ValueError(f"{name!r} is no setting{_nearest(name, _NAMES)}.")
        given.update(dict.fromkeys(one))
        names = _used(one)
        used.update(names)
        cell = _cell(one, names)
        cells.setdefault(cell.key, cell)
    for name in given:
        if name not in used:
            raise ValueError(f"`{name}` is used by no cell: it belongs to {_OWNERS[name]}.")
    if not cells:
        raise ValueError("there is no cell: give settings in [fixed] and lists of them in [grid].")
    return Sweep(tuple(cells.values()))


def _expanded(tables: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The settings of every cell of [fixed] and each [grid]."""
    for name in tables:
        if name not in ("fixed", "grid"):
            raise ValueError(
                f"{name!r} stands outside of [fixed] and [grid]{_nearest(name, ('fixed', 'grid'))}: "
                "[fixed] holds one value a setting, [grid] (or several [[grid]]) lists of values."
            )
    fixed = _with_seeds(_table(tables.get("fixed", {}), "fixed"), "fixed")
    for name, value in fixed.items():
        if isinstance(value, list) and name not in ("shape", "seed"):
            raise ValueError(f"[fixed] `{name}` is a list, {value!r}: lists belong in [grid].")
    grids = tables.get("grid", {})
    for number, grid in enumerate(grids if isinstance(grids, list) else [grids], start=1):
        where = f"[[grid]] {number}" if isinstance(grids, list) else "[grid]"
        lists = _with_seeds(_table(grid, "grid"), "grid")
        for name, values in lists.items():
            if name in fixed:
                raise ValueError(f"`{name}` is in [fixed] and in {where}: leave one of them out.")
            if not isinstance(values, list):
                raise ValueError(
                    f"{where} `{name}` is {values!r}, no list: write [{values!r}], or move it to "
                    "[fixed]."
                )
            if not values:
                raise ValueError(f"{where} `{name}` is an empty list: name at least one value.")
            if name == "shape" and not isinstance(values[0], list):
                raise ValueError(
                    f"{where} `shape` is {values!r}: write a list of pairs, [{values!r}], or move it "
                    "to [fixed]."
                )
        seeds = {} if "seed" not in fixed else {"seed": fixed["seed"]}
        axes = {**lists, **seeds}
        scalars = {name: value for name, value in fixed.items() if name != "seed"}
        for chosen in itertools.product(*axes.values()):
            yield {**scalars, **dict(zip(axes, chosen, strict=True))}


def _table(table: Any, name: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ValueError(f"`{name}` is {table!r}: it must be a table, [{name}].")
    for setting in table:
        if setting not in (*_NAMES, "seeds"):
            raise ValueError(f"[{name}] has {setting!r}{_nearest(setting, (*_NAMES, 'seeds'))}.")
    return dict(table)


def _with_seeds(table: dict[str, Any], name: str) -> dict[str, Any]:
    """The table with `seeds = 3` written out as a list of seeds."""
    if "seeds" in table:
        seeds = table.pop("seeds")
        if "seed" in table:
            raise ValueError(f"[{name}] has `seed` and `seeds`: leave one of them out.")
        if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
            raise ValueError(
                f"[{name}] `seeds` must be how many, a whole number of at least 1, found {seeds!r}."
            )
        table["seed"] = list(range(seeds))
    elif name == "fixed" and "seed" in table and not isinstance(table["seed"], list):
        table["seed"] = [table["seed"]]
    return table


def _nearest(name: str, known: Iterable[str]) -> str:
    known = tuple(known)
    close = difflib.get_close_matches(name, known, 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def _used(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the settings that a cell uses."""
    method = _word({**_DEFAULTS, **settings}, "method")
    common = ("method", "ensemble", "shape", "rank", "count", "oversampling", "noise", "seed")
    if method == "recover":
        network = () if _word(settings, "penalty") == "nuclear-norm" else ("depth", "width")
        return (*common, "penalty", "max_outer_steps", "max_inner_steps", *network)
    own = {"label-noise": ("label_noise",), "sam": ("radius",)}
    training = ("optimizer", "learning_rate", "batch_size", "steps", "scale", "depth", "width")
    return (*common, *training, *own.get(_word(settings, "optimizer"), ()))


def _cell(settings: Mapping[str, Any], used: tuple[str, ...]) -> Cell:
    """The cell of settings that are checked here, one after the other and together."""
    if "count" in settings and "oversampling" in settings:
        raise ValueError("`count` and `oversampling` are both given: one follows from the other.")
    if "count" not in settings and "oversampling" not in settings:
        raise ValueError("neither `oversampling` nor `count` is given: say how many measurements.")
    values: dict[str, Any] = {}
    for name in used:
        value = settings.get(name, _DEFAULTS.get(name))
        if value is None:
            if name in (*_OPTIONAL, "count", "oversampling"):
                continue
            raise ValueError(f"`{name}` is missing: give it in [fixed] or [grid].")
        values[name] = _checked(name, value)
    m, n = values.pop("shape")
    rank = values["rank"]
    if rank > min(m, n):
        raise ValueError(f"`rank` is {rank} and `shape` is {m} x {n}: it is {min(m, n)} at most.")
    freedom = rank * (m + n - rank)
    values.setdefault("count", max(1, round(values.get("oversampling", 0) * freedom)))
    values.setdefault("oversampling", values["count"] / freedom)
    count = values["count"]
    if values["ensemble"] == "entries" and count > m * n:
        raise ValueError(
            f"{count} entries (rank {rank}, oversampling {values['oversampling']:.3g}) are more than "
            f"the {m * n} of a {m} x {n} matrix: leave this combination out (several [[grid]] tables "
            "can)."
        )
    if values.get("batch_size", 0) > count:
        raise ValueError(
            f"`batch_size` is {values['batch_size']} and there are {count} measurements: pass fewer."
        )
    fields: dict[str, Any] = {name: values.get(name) for name in Cell.__dataclass_fields__}
    return Cell(**fields | {"m": m, "n": n})


def _checked(name: str, value: Any) -> Any:
    """The value in its type, or a sentence about it."""
    if name in _WORDS:
        return _word({name: value}, name)
    if name == "shape":
        if (
            not isinstance(value, list | tuple)
            or len(value) != 2
            or not all(_is_integer(size) and size >= 1 for size in value)
        ):
            raise ValueError(
                f"`shape` must be two whole numbers of at least 1, found {value!r}: write [20, 30]."
            )
        return tuple(value)
    if name in _LEAST_INTEGER:
        least = _LEAST_INTEGER[name]
        if not _is_integer(value) or value < least:
            raise ValueError(
                f"`{name}` must be a whole number of at least {least}, found {value!r}."
            )
        return value
    number = _is_integer(value) or isinstance(value, float)
    if name == "noise":
        if not number or not 0 <= value < 1:
            raise ValueError(
                f"`noise` must be from 0 to below 1, found {value!r}: it is the error's standard "
                "deviation over the root mean square of the exact measurements."
            )
    elif not number or not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be a positive number, found {value!r}.")
    return float(value)


def _word(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        raise ValueError(f"`{name}` is missing: give it, one of {', '.join(_WORDS[name])}.")
    value, known = settings[name], _WORDS[name]
    if value not in known:
        hint = _nearest(value, known) if isinstance(value, str) else f"; known are {known}"
        raise ValueError(f"`{name}` is {value!r}{hint}.")
    return value


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
