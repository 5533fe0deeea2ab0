"""What a sweep found, as sections of a report: maps, curves with bands over seeds, a table."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import plots
from ..reports import Picture, Section, Table, mean_and_reach, wilson_interval

Row = Mapping[str, Any]

_MOST_FIGURES = 12
# Results whose logarithm is averaged, and the round-off below which nothing is told apart.
_FLOORS = {"error": 1e-17, "train_loss": 1e-34, "test_loss": 1e-34}
# What may stand on an axis, the horizontal one first.
_AXES = (
    "oversampling",
    "count",
    "noise",
    "learning_rate",
    "label_noise",
    "radius",
    "steps",
    "batch_size",
    "scale",
    "rank",
    "shape",
)
_METHODS = (
    "ensemble",
    "penalty",
    "optimizer",
    "depth",
    "width",
    "max_outer_steps",
    "max_inner_steps",
)
# Where no value is a setting too, and what it means; elsewhere a method that has none.
_DEFAULTS = {"width": "default", "batch_size": "all"}
_LABELS = {
    "oversampling": "oversampling N / (r(m + n - r))",
    "count": "number of measurements N",
    "noise": "noise (share of the measurements' rms)",
    "rank": "rank r",
    "shape": "shape m × n",
    "learning_rate": "learning rate",
    "label_noise": "standard deviation of label noise",
    "radius": "radius of SAM",
    "batch_size": "measurements in a minibatch",
    "scale": "standard deviation of W at the start",
    "depth": "depth L",
    "error": "relative error ||W - M|| / ||M||",
    "train_loss": "loss on the measurements",
    "test_loss": "loss on fresh measurements",
    "trace": "trace of the Hessian",
    "nuclear_norm": "nuclear norm of W",
    "effective_rank": "effective rank of W",
}
_ENSEMBLES = {
    "gaussian": "Gaussian measurements",
    "entries": "missing entries",
    "rank-one": "rank-one measurements",
}
_MEANS = ("error", "train_loss", "test_loss", "trace", "nuclear_norm", "effective_rank")


def mean_interval(values: Sequence[float], name: str = "") -> tuple[float, float, float]:
    """The mean over seeds with Student's 95% interval; of logarithms for errors and losses."""
    x = np.asarray(values, float)
    if name in _FLOORS:
        x = np.log10(np.maximum(x, _FLOORS[name]))
    middle, reach = mean_and_reach(x)
    # A single seed is drawn as a line without a band.
    reach = reach if len(x) > 1 else 0.0
    ends = (middle, middle - reach, middle + reach)
    return (10.0 ** ends[0], 10.0 ** ends[1], 10.0 ** ends[2]) if name in _FLOORS else ends


@dataclass(frozen=True)
class Setting:
    """The cells of one setting, which differ in the seed alone."""

    values: Row
    rows: tuple[Row, ...]
    accuracy: float

    @property
    def seeds(self) -> int:
        """How many seeds were computed: those for which a problem was drawn."""
        return sum(row["successful"] is not None for row in self.rows)

    @property
    def recovered(self) -> int:
        """How many seeds are within the accuracy."""
        return sum(error <= self.accuracy for error in self.of("error"))

    def of(self, name: str) -> list[float]:
        """The results of that name over the seeds that have one: not those that diverged."""
        return [row[name] for row in self.rows if row[name] is not None]


def sweep_sections(
    rows: Iterable[Row], texts: Mapping[str, str], accuracy: float = 1e-6
) -> list[Section]:
    """Sections on the rows of `read_results`, and the sweep files they came from.

    A cell counts as recovered when its relative error is at most `accuracy`.
    """
    shaped = [{**row, "shape": (row["m"], row["n"])} for row in rows]
    sections = [_overview(shaped)]
    for method in ("recover", "train"):
        mine = [row for row in shaped if row["method"] == method]
        if mine:
            sections += _Method(method, mine, accuracy).sections()
    for name, text in texts.items():
        sections.append(Section(f"Settings: {name}", verbatim=text))
    return sections


def _overview(rows: list[dict[str, Any]]) -> Section:
    ends = Counter(row["result"] for row in rows)
    facts = [
        ("cells", f"{len(rows):,}"),
        ("seeds", f"{len({row['seed'] for row in rows})}"),
        ("computing time, without compilation", f"{sum(r['seconds'] or 0 for r in rows):.3g} s"),
    ]
    for package in ("flatrank", "jax"):
        facts.append((package, ", ".join(sorted({row[package] for row in rows}))))
    table = Table(
        ("how cells ended", "method", "cells"),
        tuple(
            (
                sentence,
                ", ".join(sorted({r["method"] for r in rows if r["result"] == sentence})),
                f"{number}",
            )
            for sentence, number in ends.most_common()
        ),
    )
    return Section("What was computed", facts=tuple(facts), table=table)


class _Method:
    """The cells of one method, and the settings that vary among them."""

    def __init__(self, method: str, rows: list[dict[str, Any]], accuracy: float):
        self.method, self.accuracy = method, accuracy
        rows = [_with_defaults(row) for row in rows]
        found = {name: {row[name] for row in rows} for name in (*_AXES, *_METHODS)}
        varying = [name for name, values in found.items() if len(values - {None}) > 1]
        # One follows from the other: the one with fewer values was asked for.
        fewer = len(found["oversampling"]) <= len(found["count"])
        varying = [n for n in varying if n != ("count" if fewer else "oversampling")]
        # What some cells have no value of, as the noise of label noise, names a line.
        numbers = {n for n in _AXES if not found[n] & {None, *_DEFAULTS.values()}}
        self.axes = [n for n in varying if n in numbers]
        if not self.axes and "depth" in varying:
            self.axes = ["depth"]
        self.lines = [n for n in (*_METHODS, *_AXES) if n in varying and n not in self.axes]
        constants = {name: rows[0][name] for name, values in found.items() if len(values) == 1}
        self.fixed = _in_words(constants)
        self.constants = tuple(
            (name.replace("_", " "), _text(value))
            for name, value in constants.items()
            if value is not None
        )
        groups: dict[tuple, list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault(tuple(row[n] for n in (*self.axes, *self.lines)), []).append(row)
        self.settings = [
            Setting(dict(zip((*self.axes, *self.lines), values, strict=True)), tuple(own), accuracy)
            for values, own in sorted(groups.items(), key=lambda item: _order(item[0]))
        ]

    def sections(self) -> list[Section]:
        """Maps and curves of shares (of recoveries), curves of means, the table."""
        sections = []
        if self.method == "recover" and self.axes:
            noiseless = [s for s in self.settings if s.rows[0]["noise"] == 0 and s.seeds]
            if noiseless:
                sections.append(self._shares(noiseless))
        if self.axes:
            sections.append(self._means())
        return [*sections, self._table()]

    def _shares(self, settings: list[Setting]) -> Section:
        figures: list[tuple[str, Picture]] = []
        axes = [n for n in self.axes if len({s.values[n] for s in settings}) > 1] or self.axes[:1]
        x, others = axes[0], axes[1:]
        caption = f"Recovered: relative error at most {self.accuracy:g}. "
        if others:
            y, rest = others[0], others[1:]
            for where, part in _split(settings, rest):
                title = self._title("Share recovered", where, part)
                figures.append(
                    (caption + "Grey: no cell, or no mask found.", self._map(part, x, y, title))
                )
        for where, part in _split(settings, others[1:]):
            panels = {}
            for at, panel in _split(part, others[:1]):
                panels[at.removeprefix(", ")] = self._lines(panel, x, _share)
            title = self._title("Share recovered", where, part)
            picture = plots.curves_over_seeds(panels, _label(x), "share of seeds recovered", title)
            figures.append((caption + "Bands: Wilson's 95% interval.", picture))
        return _section("Recovered matrices", figures)

    def _map(self, settings: list[Setting], x: str, y: str, title: str) -> Picture:
        xs, ys = (sorted({s.values[n] for s in settings}) for n in (x, y))
        planes: dict[str, np.ndarray] = {}
        for s in settings:
            plane = planes.setdefault(self._name(s), np.full((len(ys), len(xs)), np.nan))
            plane[ys.index(s.values[y]), xs.index(s.values[x])] = _share(s)[0]
        x_ticks, y_ticks = ([_text(value) for value in values] for values in (xs, ys))
        return plots.success_map(planes, x_ticks, y_ticks, _label(x), _label(y), title)

    def _means(self) -> Section:
        figures = []
        x, others = self.axes[0], self.axes[1:]
        names = _MEANS if self.method == "train" else ("error", "nuclear_norm", "trace")
        settings = [s for s in self.settings if s.of("error")]
        for name in names:
            positive = name in _FLOORS
            for where, part in _split(settings, others[1:]):
                panels = {}
                for at, panel in _split([s for s in part if s.of(name)], others[:1]):
                    panels[at.removeprefix(", ")] = self._lines(
                        panel,
                        x,
                        lambda s, name=name: mean_interval(s.of(name), name),
                    )
                if not panels:
                    continue
                title = self._title(_label(name).split(" ||")[0], where, part)
                values = [s.values[x] for s in part if s.values[x] is not None]
                log_x = x != "shape" and min(values) > 0 and max(values) >= 20 * min(values)
                picture = plots.curves_over_seeds(
                    panels, _label(x), _label(name), title, log_x, log_y=positive
                )
                mean = "Geometric mean" if positive else "Mean"
                figures.append((f"{mean} over seeds. Bands: Student's 95% interval.", picture))
        return _section("Results over seeds", figures)

    def _lines(self, settings: list[Setting], x: str, figure: Any) -> dict[str, dict[str, Any]]:
        """One line a method: the numbers (middle, low, high) of each setting along x."""
        lines: dict[str, dict[str, Any]] = {}
        everywhere = sorted({s.values[x] for s in settings} - {None})
        for s in settings:
            line = lines.setdefault(self._name(s), {"x": [], "middle": [], "low": [], "high": []})
            # The nuclear norm has no depth: a level line.
            for place in everywhere if s.values[x] is None else [s.values[x]]:
                numbers = (place[0] if x == "shape" else place, *figure(s))
                for part, value in zip(line, numbers, strict=True):
                    line[part].append(value)
        return lines

    def _title(self, what: str, where: str, settings: list[Setting]) -> str:
        """What is drawn and over how many seeds; below it, what does not vary."""
        return f"{what[0].upper()}{what[1:]}{where}, {_seeds(settings)}\n{self.fixed}".strip()

    def _name(self, setting: Setting) -> str:
        """What of the method varies, in words."""
        words = [(name, setting.values[name]) for name in self.lines]
        return ", ".join(
            value
            if isinstance(value, str) and name not in _DEFAULTS
            else f"{name.replace('_', ' ')} {_text(value)}"
            for name, value in words
            if value is not None
        )

    def _table(self) -> Section:
        shares = ("recovered", "from", "to") if self.method == "recover" else ("diverged",)
        headings = (*self.lines, *self.axes, "seeds", *shares, *_MEANS, "seconds")
        rows = []
        for s in self.settings:
            cells = [_text(s.values[name]) for name in (*self.lines, *self.axes)]
            cells.append(f"{s.seeds}")
            if self.method == "train":
                cells.append(f"{s.seeds - len(s.of('error'))}")
            elif s.seeds:
                cells += [f"{value:.3f}" for value in _share(s)]
            else:
                cells += ["", "", ""]
            for name in _MEANS:
                found = s.of(name)
                cells.append(f"{mean_interval(found, name)[0]:.3g}" if found else "")
            seconds = s.of("seconds")
            cells.append(f"{np.mean(seconds):.3g}" if seconds else "")
            rows.append(tuple(cells))
        words = [heading.replace("_", " ") for heading in headings]
        text = (
            "One line a setting, means over seeds (errors and losses: geometric means). "
            + (
                f"Recovered: the share of seeds with a relative error of at most {self.accuracy:g}, "
                "and Wilson's 95% interval. "
                if self.method == "recover"
                else ""
            )
            + "Seconds are those of a cell, without compilation. Click on a heading to sort."
        )
        table = Table(tuple(words), tuple(rows))
        return Section(f"All settings: {self.method}", text, self.constants, table=table)


def _with_defaults(row: dict[str, Any]) -> dict[str, Any]:
    """The row with words where no value is a setting too: not where the method has no such setting."""
    used = {"width": row["depth"] is not None, "batch_size": row["optimizer"] is not None}
    words = {name: word for name, word in _DEFAULTS.items() if used[name] and row[name] is None}
    return {**row, **words}


def _share(setting: Setting) -> tuple[float, float, float]:
    share = setting.recovered / setting.seeds
    return share, *wilson_interval(setting.recovered, setting.seeds)


def _split(settings: list[Setting], names: Sequence[str]) -> Iterable[tuple[str, list[Setting]]]:
    """The settings with equal values of these names, and these in words (", rank r 2")."""
    key = lambda s: tuple(s.values[name] for name in names)  # noqa: E731
    ordered = sorted(settings, key=lambda s: _order(key(s)))
    for values, part in itertools.groupby(ordered, key):
        words = [
            f"{name.replace('_', ' ')} {_text(value)}"
            for name, value in zip(names, values, strict=True)
        ]
        yield "".join(f", {word}" for word in words), sorted(part, key=_along)


def _along(setting: Setting) -> tuple:
    return _order(tuple(setting.values.values()))


def _section(title: str, figures: Sequence[tuple[str, Picture]]) -> Section:
    left = len(figures) - _MOST_FIGURES
    text = f"{left} figures more are left out: their numbers are in the table." if left > 0 else ""
    return Section(title, text, figures=tuple(figures[:_MOST_FIGURES]))


def _in_words(fixed: Row) -> str:
    """Settings that are the same in all cells, for a title."""
    words = [_ENSEMBLES[fixed["ensemble"]]] if "ensemble" in fixed else []
    words += [_text(fixed["shape"])] if "shape" in fixed else []
    words += [fixed[name] for name in ("penalty", "optimizer") if fixed.get(name)]
    named = ("rank", "noise", "depth", "width", "label_noise", "radius", "learning_rate", "steps")
    words += [f"{name.replace('_', ' ')} {_text(fixed[name])}" for name in named if fixed.get(name)]
    return ", ".join(words)


def _seeds(settings: list[Setting]) -> str:
    """How many seeds a setting has, "10 seeds" or "8 to 10 seeds"."""
    numbers = sorted({setting.seeds for setting in settings})
    few = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return f"{few} seed{'' if numbers[-1] == 1 else 's'} a setting"


def _label(name: str) -> str:
    return _LABELS.get(name, name.replace("_", " "))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f"{value[0]} × {value[1]}"
    return value if isinstance(value, str) else f"{value:.6g}"


def _order(values: tuple) -> tuple:
    """Values of mixed kinds in an order: what is missing comes first, then words."""
    return tuple(
        (0, 0) if value is None else (1 if isinstance(value, str) else 2, value) for value in values
    )
