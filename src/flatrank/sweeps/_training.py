"""A training run described by a file: the problem, the network, the optimiser, what to record."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import plots
from .._progress import OnStep, silent
from ..data import read_measurements, read_values, write_arrays, write_columns
from ..dynamics import (
    SAM,
    AbstractOptimizer,
    FlatFlow,
    GradientDescent,
    GradientFlow,
    LabelNoise,
    Run,
    interpolating_network,
    scale_by_global_rms,
    train,
)
from ..measurements import AbstractMeasurements
from ..network import DeepLinear
from ..penalties import PENALTIES
from ..problems import ENSEMBLES, draw_measurements, draw_truth
from ..reports import Section, write_report

OPTIMIZERS: dict[str, type[AbstractOptimizer]] = {
    "gradient-descent": GradientDescent,
    "label-noise": LabelNoise,
    "sam": SAM,
    "gradient-flow": GradientFlow,
    "flat-flow": FlatFlow,
}
_KEYS = {
    "problem": ("ensemble", "shape", "rank", "count", "seed", "measurements", "values", "truth"),
    "network": ("depth", "width", "scale", "seed", "start"),
    "run": ("steps", "record", "record_every", "runs", "seed", "until", "checkpoint_minutes"),
}


@dataclass(frozen=True)
class Training:
    """All arguments of `flatrank.train`, and the settings they came from."""

    settings: dict[str, Any]
    network: DeepLinear
    A: AbstractMeasurements
    y: jax.Array
    optimizer: AbstractOptimizer
    arguments: dict[str, Any]
    checkpoint_minutes: float

    @property
    def steps(self) -> int:
        """How many steps the whole run takes."""
        return self.arguments["steps"]

    def run(self, folder: Path, on_step: OnStep = silent) -> Run:
        """Train, or go on where an interrupted run in the folder was last saved."""
        return train(
            self.network,
            self.A,
            self.y,
            self.optimizer,
            **self.arguments,
            on_step=on_step,
            checkpoint=folder / "checkpoints",
            checkpoint_minutes=self.checkpoint_minutes,
        )

    def write(self, folder: Path, run: Run) -> None:
        """history.parquet, network.npz, training.png and report.html, each whole or not there."""
        write_columns(folder / "history.parquet", history_columns(run))
        layers = {f"layer_{j}": np.asarray(w) for j, w in enumerate(run.network.layers, start=1)}
        write_arrays(folder / "network.npz", layers)
        figure = plots.training(run, self.settings["optimizer"]["name"])
        figure.savefig(folder / "training.png", dpi=130)
        text = "Settings: " + json.dumps(self.settings)
        write_report(
            folder / "report.html",
            "flatrank train",
            [Section(run.message, text, facts_of(run), (("", figure),))],
        )


def read_training(path: str | Path) -> Training:
    """The training that a TOML file describes; docs/dynamics.md lists what it may hold.

    Raises FileNotFoundError, ValueError or TypeError with one sentence about what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: check the name.")
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file ({error}).") from error
    for name in ("problem", "network", "optimizer", "run"):
        if not isinstance(settings.get(name), dict):
            raise ValueError(f"{path} has no table [{name}]: it needs it, see docs/dynamics.md.")
    for name, known in _KEYS.items():
        for key in settings[name]:
            if key not in known:
                raise ValueError(f"{path}: [{name}] has {key!r}; known are {', '.join(known)}.")
    A, y, truth = _problem(settings["problem"], path.parent)
    network = _network(settings["network"], A, y)
    optimizer = _optimizer(settings["optimizer"])
    run = dict(settings["run"])
    if "steps" not in run:
        raise ValueError(f"{path}: [run] has no `steps`: say how many.")
    minutes = run.pop("checkpoint_minutes", 5.0)
    key = jax.random.key(run.pop("seed", 0))
    runs = run.pop("runs", 1)
    if not isinstance(runs, int) or runs < 1:
        raise ValueError(f"{path}: `runs` must be a whole number of at least 1, found {runs!r}.")
    if runs > 1:
        key = jax.random.split(key, runs)
    run.setdefault("record", ["loss", "trace", "nuclear_norm", "effective_rank"])
    arguments = {**run, "key": key, "truth": truth}
    return Training(settings, network, A, y, optimizer, arguments, minutes)


def _problem(
    settings: dict[str, Any], folder: Path
) -> tuple[AbstractMeasurements, jax.Array, jax.Array | None]:
    A: AbstractMeasurements
    if "measurements" in settings:
        A = read_measurements(folder / settings["measurements"])
        y = jnp.asarray(read_values(folder / _given(settings, "problem", "values")))
        truth = settings.get("truth")
        return A, y, None if truth is None else jnp.asarray(np.load(folder / truth))
    kind = settings.get("ensemble", "gaussian")
    shape, rank, count = (_given(settings, "problem", k) for k in ("shape", "rank", "count"))
    truth, key = draw_truth(jax.random.key(settings.get("seed", 0)), shape, rank)
    m, n = truth.shape
    if kind not in ENSEMBLES:
        raise ValueError(f"[problem] `ensemble` is {kind!r}; known are {', '.join(ENSEMBLES)}.")
    if kind == "entries" and count > m * n:
        raise ValueError(f"[problem] `count` is {count} and there are {m * n} entries.")
    A = draw_measurements(key, kind, (m, n), count)
    return A, A.apply(truth), truth


def _network(settings: dict[str, Any], A: AbstractMeasurements, y: jax.Array) -> DeepLinear:
    start = settings.get("start", "gaussian")
    if start not in ("gaussian", "interpolating"):
        raise ValueError(f"[network] `start` is {start!r}; known are gaussian, interpolating.")
    network = DeepLinear.gaussian(
        jax.random.key(settings.get("seed", 0)),
        A.shape,
        _given(settings, "network", "depth"),
        settings.get("width"),
        settings.get("scale", 0.1),
    )
    return interpolating_network(network, A, y) if start == "interpolating" else network


def _optimizer(settings: dict[str, Any]) -> AbstractOptimizer:
    fields = dict(settings)
    name = fields.pop("name", None)
    if name not in OPTIMIZERS:
        raise ValueError(f"[optimizer] `name` is {name!r}; known are {', '.join(OPTIMIZERS)}.")
    kind = OPTIMIZERS[name]
    known = sorted(kind.__dataclass_fields__)
    for key in fields:
        if key not in known:
            raise ValueError(f"[optimizer] {name} has no {key!r}; it has {', '.join(known)}.")
    for key, value in fields.items():
        if isinstance(value, list):
            fields[key] = np.asarray(value, float)
    if "penalty" in fields:
        if fields["penalty"] not in PENALTIES:
            raise ValueError(
                f"[optimizer] `penalty` is {fields['penalty']!r}; known are {', '.join(PENALTIES)}."
            )
        fields["penalty"] = PENALTIES[fields["penalty"]]()
    if "transformation" in fields:
        if fields["transformation"] != "global-rms":
            raise ValueError(
                f"[optimizer] `transformation` is {fields['transformation']!r}; known is global-rms "
                "(any optax transformation can be passed from Python)."
            )
        fields["transformation"] = scale_by_global_rms()
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"[optimizer] {name}: {error}.") from error


def _given(settings: dict[str, Any], table: str, key: str) -> Any:
    if key not in settings:
        raise ValueError(f"[{table}] has no `{key}`: say it, see docs/dynamics.md.")
    return settings[key]


def history_columns(run: Run) -> dict[str, np.ndarray]:
    """The history as columns, one line a run and record; entries of vectors are numbered from 1."""
    step = np.asarray(run.history["step"])
    runs, records = run.diverged_at.size, len(step)
    columns = {"run": np.repeat(np.arange(runs), records), "step": np.tile(step, runs)}
    for name, found in run.history.items():
        if name == "step":
            continue
        values = np.broadcast_to(found, (runs, records)) if name == "time" else np.asarray(found)
        values = values.reshape(runs * records, -1)
        if values.shape[1] == 1:
            columns[name] = values[:, 0]
        else:
            columns.update({f"{name}_{k + 1}": values[:, k] for k in range(values.shape[1])})
    return columns


def facts_of(run: Run) -> tuple[tuple[str, str], ...]:
    """Rows of a two-column table: what was recorded at the start and at the end."""
    step = run.history["step"]
    facts = [("steps", f"{step[-1]:,}"), ("records", f"{len(step)}")]
    if run.diverged_at.size > 1:
        facts.append(("runs", f"{run.diverged_at.size}"))
    for name, found in run.history.items():
        if name in ("step", "time"):
            continue
        values = np.asarray(found).reshape(run.diverged_at.size, len(step), -1)
        if values.shape[2] > 1:
            continue
        ends = values[:, -1, 0]
        spread = f" ± {np.nanstd(ends):.2g}" if len(ends) > 1 else ""
        facts.append((name, f"{np.nanmean(values[:, 0, 0]):.5g} -> {np.nanmean(ends):.5g}{spread}"))
    return tuple(facts)
