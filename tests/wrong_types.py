"""Wrong types on every public function: each works or says a sentence that names an argument.

A script of its own, which test_wrong_types.py runs: in the test session the hook of conftest.py would
raise at every annotation before flatrank says its sentence. Functions that JAX can trace are traced
and not computed (`jax.eval_shape`): shapes and types are what goes wrong here, and nothing is compiled.
"""

import re
import sys
import traceback
import types
import warnings
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import flatrank as fr

SOURCE = str(Path(fr.__file__).parent)
FACES = [
    "completion",
    "dynamics",
    "entries",
    "flatness",
    "flatness.general",
    "measurements",
    "network",
    "norms",
    "penalties",
    "plots",
    "problems",
    "recovery",
    "theory",
]

# What is on a face and is not called by users with arguments of their own.
RETURNED = [
    "SpectralDensity",
    "Eigenpairs",
    "Estimate",
    "Formula",
    "Run",
    "TrainingResult",
    "DivergenceError",
    "RIPConstant",
    "Check",
    "Outcome",
    "Relation",
    "Theorem",
    "Certificate",
    "NuclearMinimum",
    "Result",
    "Determinacy",
    "Determined",
    "Solution",
    "Completion",
    "HeldOut",
    "AverageCompletion",
    "SingleCompletion",
    "PathStep",
    "Curve",
    "Panel",
    "Problem",
    "LongForm",
]
FOR_OTHER_ROOMS = [
    "check_values",
    "fitting",
    "mean_square",
    "solution",
    "as_measurements",
    "as_network",
    "as_matrix",
    "as_penalty",
    "as_values",
    "balanced_layers",
    "held_network",
    "svd_of_product",
    "id_columns",
    "predict_pairs",
    "SingleFactorisation",
    "FactorisationAverage",
    "AbstractMeasurements",
    "AbstractMethod",
    "AbstractOptimizer",
    "AbstractPenalty",
    "Network",
]


FUNCTIONS = ("loss", "function", "on_step")


@dataclass
class Call:
    """A valid call: what is called, with which arguments; how far it goes, and its other names."""

    function: Any
    arguments: dict[str, Any]
    traced: bool = True
    names: tuple[str, ...] = ()
    only: tuple[str, ...] = field(default=())


def valid_calls() -> dict[str, Call]:
    """One valid call of each public function, by its name without "flatrank."."""
    key = jax.random.key(0)
    A = fr.gaussian_measurements(key, 8, (3, 2))
    entries = fr.EntryMeasurements([0, 1, 2, 0], [0, 1, 0, 1], (3, 2))
    rank_one = fr.RankOneMeasurements(np.ones((4, 3)), np.ones((4, 2)))
    network = fr.DeepLinear.gaussian(key, (3, 2), 2)
    matrix = network.matrix()
    y = A.apply(matrix)
    u, s, vt = network.svd()
    loss = lambda model, x: jnp.sum(model**2) * x  # noqa: E731
    density = fr.flatness.SpectralDensity(jnp.ones((2, 3)), jnp.ones((2, 3)) / 3)
    nA = {"network": network, "A": A}
    nAy = {**nA, "y": y}
    any_loss = {"loss": loss, "model": jnp.ones(3), "x": 1.0}
    completion = fitted().completion_
    line = {"x": [1, 2], "middle": [1, 2], "low": [0, 1], "high": [2, 3]}
    descent = fr.dynamics.GradientDescent(0.01)
    history = {"largest_eigenvalue": np.ones(3), "trace": np.ones(3)}
    frame = pd.DataFrame({"user": [1, 2], "item": [3, 4], "rating": [1.0, 2.0]})
    pairs = {"rows": [0, 1], "columns": [1, 0]}
    draw = {"key": key, "shape": (3, 2), "rank": 1}
    curve = fr.plots.Panel("x", "y", [fr.plots.Curve([1, 2], [1, 2])])
    check = fr.theory.Check(
        "a", fr.theory.Relation.equal, 0.1, *(np.ones(2) for _ in range(3)), np.ones(2, bool)
    )
    triplets = fr.TripletCompleter(
        completer=fr.MatrixCompleter(draws=0, max_sweeps=1, random_state=0)
    )
    table = {"user": [0, 0, 1, 1], "item": [0, 1, 0, 1], "rating": [1.0, 2.0, 3.0, 4.0]}
    triplets.fit(table)
    completer = fitted()
    calls: dict[str, Call] = {
        # networks, norms, penalties
        "network.DeepLinear": Call(fr.DeepLinear, {"layers": network.layers}),
        "network.DeepLinear.gaussian": Call(
            fr.DeepLinear.gaussian,
            {"key": key, "shape": (3, 2), "depth": 2, "width": 2, "scale": 1.0},
        ),
        "network.DeepLinear.balanced": Call(
            fr.DeepLinear.balanced, {"matrix": matrix, "depth": 2, "width": 2}
        ),
        "network.DeepLinear.from_svd": Call(
            fr.DeepLinear.from_svd, {"u": u, "s": s, "vt": vt, "depth": 2, "width": 2}
        ),
        "network.DeepLinear.scaled": Call(network.scaled, {"factor": 2.0}),
        **{
            f"norms.{name}": Call(getattr(fr.norms, name), {"matrix": matrix})
            for name in ("singular_values", "nuclear_norm", "effective_rank", "stable_rank")
        },
        "norms.schatten_norm": Call(fr.norms.schatten_norm, {"matrix": matrix, "p": 1.0}),
        "norms.numerical_rank": Call(fr.norms.numerical_rank, {"matrix": matrix, "tolerance": 0.1}),
        "norms.weighted_trace_norm": Call(
            fr.norms.weighted_trace_norm,
            {"matrix": matrix, "row_weights": np.ones(3), "column_weights": np.ones(2)},
        ),
        # measurements
        "measurements.DenseMeasurements": Call(
            fr.DenseMeasurements, {"matrices": np.ones((2, 3, 2))}
        ),
        "measurements.EntryMeasurements": Call(
            fr.EntryMeasurements, {"rows": [0, 1], "columns": [1, 0], "shape": (3, 2)}
        ),
        "measurements.EntryMeasurements.from_mask": Call(
            fr.EntryMeasurements.from_mask, {"mask": np.eye(3, dtype=bool)}
        ),
        "measurements.IsotropicMeasurements": Call(fr.IsotropicMeasurements, {"shape": (3, 2)}),
        "measurements.RankOneMeasurements": Call(
            fr.RankOneMeasurements, {"left": np.ones((4, 3)), "right": np.ones((4, 2))}
        ),
        "measurements.gaussian_measurements": Call(
            fr.gaussian_measurements, {"key": key, "count": 4, "shape": (3, 2)}
        ),
        "entries.Entries": Call(
            fr.entries.Entries,
            {"rows": [0, 1], "columns": [1, 0], "values": [1.0, 2.0], "shape": (3, 2)},
            traced=False,
        ),
        # flatness
        "flatness.loss": Call(fr.loss, nAy),
        "flatness.trace_of_hessian": Call(fr.trace_of_hessian, nA),
        "flatness.layer_traces": Call(fr.flatness.layer_traces, nA),
        "flatness.flatten": Call(fr.flatten, {**nA, "max_sweeps": 2}),
        "flatness.change_basis": Call(
            fr.flatness.change_basis, {"network": network, "j": 0, "X": np.eye(2), "Y": np.eye(2)}
        ),
        "flatness.induced_regularizer": Call(
            fr.induced_regularizer, {"matrix": matrix, "A": A, "depth": 2}
        ),
        "flatness.regularizer_path": Call(
            fr.flatness.regularizer_path, {"A": A, "depth": 2}, traced=False
        ),
        "flatness.hessian_operator": Call(fr.flatness.hessian_operator, nAy),
        "flatness.dense_hessian": Call(fr.flatness.dense_hessian, nAy),
        "flatness.largest_eigenvalue": Call(fr.flatness.largest_eigenvalue, nAy),
        "flatness.largest_eigenvalues": Call(
            fr.flatness.largest_eigenvalues, {**nAy, "count": 1, "key": key, "tolerance": 0.1}
        ),
        "flatness.spectral_density": Call(
            fr.flatness.spectral_density, {**nAy, "key": key, "probes": 2, "points": 3}
        ),
        "flatness.SpectralDensity.mean_of": Call(density.mean_of, {"function": jnp.exp}),
        "flatness.SpectralDensity.smoothed": Call(
            density.smoothed, {"grid": np.ones(3), "width": 1.0}
        ),
        **{
            f"flatness.general.{name}": Call(
                getattr(fr.flatness.general, name),
                {**any_loss, **more},
                only=("loss", "model", *more),
            )
            for name, more in {
                "hessian_operator": {},
                "dense_hessian": {},
                "trace_of_hessian": {"key": key, "probes": 2, "memory": 10**9},
                "leaf_traces": {"key": key, "probes": 2, "memory": 10**9},
                "largest_eigenvalue": {},
                "largest_eigenvalues": {"count": 1, "key": key, "tolerance": 0.1, "memory": 10**9},
                "spectral_density": {"key": key, "probes": 2, "points": 2, "memory": 10**9},
            }.items()
        },
        # problems
        "problems.low_rank_matrix": Call(fr.problems.low_rank_matrix, draw),
        "problems.draw_truth": Call(fr.problems.draw_truth, draw),
        "problems.draw_measurements": Call(
            fr.problems.draw_measurements,
            {"key": key, "ensemble": "entries", "shape": (3, 2), "count": 4},
        ),
        "problems.draw_covering_entries": Call(
            fr.problems.draw_covering_entries,
            {"key": key, "shape": (3, 2), "count": 6, "least": 1},
            traced=False,
        ),
        "problems.draw_problem": Call(
            fr.problems.draw_problem,
            {**draw, "ensemble": "gaussian", "count": 4, "least": 1},
        ),
        "problems.gaussian_problem": Call(
            fr.problems.gaussian_problem,
            {"depth": 2, "shape": (3, 2), "rank": 1, "count": 4, "seed": 0, "scale": 1.0},
        ),
        "problems.unit_entries_problem": Call(
            fr.problems.unit_entries_problem,
            {"ensemble": "completion", "side": 3, "rank": 1, "count": 4, "seed": 0},
            traced=False,
        ),
        # recovery
        "recovery.recover": Call(
            fr.recover,
            {
                "A": A,
                "y": y,
                "depth": 2,
                "penalty": fr.WeightDecay(),
                "method": fr.recovery.Lagrangian(1, 1),
                "noise": None,
                "strength": None,
                "width": 2,
                "key": key,
                "start": network,
                "tolerance": 0.1,
                "max_seconds": None,
                "on_step": None,
            },
        ),
        "recovery.certificate": Call(
            fr.certificate, {"solution": network, "A": A, "y": y, "penalty": fr.WeightDecay()}
        ),
        "recovery.dual_norm": Call(
            partial(fr.recovery.dual_norm, weighted=False), {"A": A, "v": y}
        ),
        "recovery.nuclear_minimum": Call(
            fr.recovery.nuclear_minimum,
            {"A": entries, "y": np.ones(4), "tolerance": 0.1, "max_steps": 2},
            traced=False,
        ),
        "recovery.Path": Call(fr.recovery.Path, {"max_steps": 1, "max_inner_steps": 1}),
        "recovery.Lagrangian": Call(
            fr.recovery.Lagrangian, {"max_outer_steps": 1, "max_inner_steps": 1}
        ),
        "recovery.Auto": Call(
            fr.recovery.Auto, {"path": fr.recovery.Path(), "lagrangian": fr.recovery.Lagrangian()}
        ),
        # dynamics
        "dynamics.train": Call(
            fr.train,
            {
                **nAy,
                "optimizer": descent,
                "steps": 2,
                "key": key,
                "record": ("loss",),
                "record_every": 1,
                "truth": matrix,
                "until": {"loss": 0.0},
                "on_step": tell,
                "checkpoint": None,
                "checkpoint_minutes": 5.0,
            },
        ),
        "dynamics.GradientDescent": Call(
            fr.dynamics.GradientDescent,
            {
                "learning_rate": 0.1,
                "batch_size": 2,
                "epochs": True,
                "penalty": fr.Flatness(),
                "strength": 0.1,
                "transformation": optax.trace(0.9),
            },
            traced=False,
        ),
        "dynamics.LabelNoise": Call(
            fr.LabelNoise,
            {"learning_rate": 0.1, "noise": 1.0, "batch_size": 2, "distribution": "gaussian"},
            traced=False,
        ),
        "dynamics.SAM": Call(
            fr.SAM, {"learning_rate": 0.1, "radius": 1.0, "batch_size": 1}, traced=False
        ),
        "dynamics.GradientFlow": Call(
            fr.dynamics.GradientFlow, {"time_step": 0.1, "tolerance": 1e-6}, traced=False
        ),
        "dynamics.FlatFlow": Call(
            fr.dynamics.FlatFlow, {"time_step": 0.1, "tolerance": 1e-6}, traced=False
        ),
        "dynamics.scale_by_global_rms": Call(
            fr.dynamics.scale_by_global_rms, {"decay": 0.9, "epsilon": 1e-4}, traced=False
        ),
        "dynamics.equivalent_penalty": Call(
            fr.dynamics.equivalent_penalty, {"optimizer": descent, "A": A}, traced=False
        ),
        "dynamics.equivalent_time": Call(
            fr.dynamics.equivalent_time, {"optimizer": descent, "steps": 3, "A": A}, traced=False
        ),
        "dynamics.retracted": Call(fr.dynamics.retracted, nAy),
        "dynamics.tangent": Call(fr.dynamics.tangent, {**nA, "vector": network}),
        "dynamics.tangent_slope": Call(fr.dynamics.tangent_slope, nA),
        "dynamics.interpolating_network": Call(fr.dynamics.interpolating_network, nAy),
        "dynamics.singular_value_speeds": Call(fr.dynamics.singular_value_speeds, nAy),
        "dynamics.network_speeds": Call(fr.dynamics.network_speeds, nAy),
        # theory
        "theory.trace_lower_bound": Call(
            fr.theory.trace_lower_bound,
            {"A": A, "y": y, "multipliers": y, "depth": 3, "delta": 0.5},
        ),
        "theory.from_quadratic_form": Call(
            fr.theory.from_quadratic_form, {"form": np.eye(6), "shape": (3, 2)}, traced=False
        ),
        "theory.hessian_trace": Call(
            fr.theory.hessian_trace, {"layers": network.layers, "matrices": A.matrices, "y": y}
        ),
        "theory.rip_constant": Call(
            fr.theory.rip_constant, {"A": A, "rank": 1, "key": key, "starts": 1, "steps": 1}
        ),
        "theory.gaussian_rip_prediction": Call(
            fr.theory.gaussian_rip_prediction,
            {"m": 3, "n": 2, "N": 10, "r": 1, "confidence": 0.9},
            traced=False,
        ),
        "theory.gaussian_risk_factor": Call(
            fr.theory.gaussian_risk_factor,
            {"m": 3, "n": 2, "N": 10, "confidence": 0.9},
            traced=False,
        ),
        "theory.verify": Call(fr.theory.verify, {"key": None, "on_step": 0}, traced=False),
        "theory.Theorem.check": Call(fr.theory.THEOREMS[0].check, {"key": None}, traced=False),
        # completion
        "completion.MatrixCompleter.fit": Call(
            new_completer().fit, {"X": np.eye(3)}, traced=False, names=(r"\bX\b", "Expected 2D")
        ),
        "completion.MatrixCompleter.fit_entries": Call(
            new_completer().fit_entries,
            {**pairs, "values": [1.0, 2.0], "shape": (2, 2), "on_step": tell},
            traced=False,
        ),
        "completion.MatrixCompleter.partial_fit_entries": Call(
            clone(fitted()).fit(np.eye(3)).partial_fit_entries,
            {**pairs, "values": [1.0, 2.0], "shape": (3, 3)},
            traced=False,
        ),
        "completion.MatrixCompleter.transform": Call(
            completer.transform, {"X": np.eye(3)}, traced=False, names=(r"\bX\b", "Expected 2D")
        ),
        "completion.MatrixCompleter.score": Call(
            completer.score, {"X": np.eye(3)}, traced=False, names=(r"\bX\b", "Expected 2D")
        ),
        "completion.MatrixCompleter.predict_entries": Call(
            completer.predict_entries, pairs, traced=False
        ),
        "completion.MatrixCompleter.predict_interval": Call(
            completer.predict_interval, {**pairs, "coverage": 0.9}, traced=False
        ),
        "completion.MatrixCompleter.recommend": Call(
            completer.recommend, {"rows": [0, 1], "n": 2}, traced=False
        ),
        "completion.MatrixCompleter": Call(
            lambda **parameters: fr.MatrixCompleter(**parameters).fit(np.eye(3)),
            {
                "depth": 2,
                "penalty": "flatness",
                "strength": 0.1,
                "width": 1,
                "biases": True,
                "validation_fraction": 0.1,
                "tolerance": 0.1,
                "max_sweeps": 1,
                "draws": 0,
                "smoothing": 0.0,
                "random_state": 0,
            },
            traced=False,
            names=("seed",),
        ),
        "completion.TripletCompleter": Call(
            lambda **parameters: fr.TripletCompleter(**parameters).fit(frame),
            {"row": "user", "column": "item", "value": "rating", "completer": new_completer()},
            traced=False,
            names=("The table has no column",),
        ),
        "completion.TripletCompleter.fit": Call(
            triplets.fit, {"frame": table}, traced=False, names=("The table", "column")
        ),
        "completion.TripletCompleter.partial_fit": Call(
            deepcopy(triplets).partial_fit,
            {"frame": table},
            traced=False,
            names=("The table", "column"),
        ),
        "completion.TripletCompleter.predict": Call(
            triplets.predict, {"frame": table}, traced=False, names=("The table", "column")
        ),
        "completion.TripletCompleter.predict_interval": Call(
            triplets.predict_interval,
            {"frame": table, "coverage": 0.9},
            traced=False,
            names=("The table", "column"),
        ),
        "completion.TripletCompleter.recommend": Call(
            triplets.recommend,
            {"ids": [0, 1], "n": 2},
            traced=False,
            names=("[Cc]olumn 'user'", "no 'user'"),
        ),
        "completion.TripletCompleter.from_table": Call(
            fr.TripletCompleter.from_table,
            {"table": None, "completer": completer},
            traced=False,
        ),
        "completion.save_model": Call(
            fr.save_model,
            {"path": Path("no", "where.safetensors"), "completer": completer},
            traced=False,
            names=("ends in", "is not a directory"),
        ),
        "completion.load_model": Call(
            fr.load_model, {"path": Path("no", "where")}, traced=False, names=("is not a file",)
        ),
        # plots
        "plots.singular_values": Call(fr.plots.singular_values, {"values": s}, traced=False),
        "plots.convergence": Call(fr.plots.convergence, {"history": np.ones(3)}, traced=False),
        "plots.residuals": Call(fr.plots.residuals, {"history": np.ones(3)}, traced=False),
        "plots.path": Call(fr.plots.path, {"completion": completion}, traced=False),
        "plots.residual_histogram": Call(
            fr.plots.residual_histogram, {"completion": completion}, traced=False
        ),
        "plots.table": Call(
            fr.plots.table,
            {"entries": completer.entries_, "completion": completion},
            traced=False,
        ),
        "plots.false_colour": Call(
            fr.plots.false_colour, {"images": {"a": np.ones((2, 2, 3))}, "title": "a"}, traced=False
        ),
        "plots.recovered_spectra": Call(
            fr.plots.recovered_spectra,
            {"spectra": {"a": s}, "truth": s, "title": "a"},
            traced=False,
        ),
        "plots.training": Call(fr.plots.training, {"run": None, "title": "a"}, traced=False),
        "plots.on_one_axis": Call(
            fr.plots.on_one_axis,
            {"curves": {"a": (np.ones(3), np.ones(3))}, "title": "a"},
            traced=False,
        ),
        "plots.sam": Call(
            fr.plots.sam,
            {"steps": np.arange(3), "full_batch": history, "single": history, "title": "a"},
            traced=False,
        ),
        "plots.spectrum": Call(fr.plots.spectrum, {"eigenvalues": s, "title": "a"}, traced=False),
        "plots.density": Call(fr.plots.density, {"density": density, "width": 0.1}, traced=False),
        "plots.layer_traces": Call(fr.plots.layer_traces, {"traces": s}, traced=False),
        "plots.flattening": Call(fr.plots.flattening, nA, traced=False),
        "plots.known": Call(fr.plots.known, {"solution": fr.recover(A, y)}, traced=False),
        "plots.panels": Call(
            fr.plots.panels, {"title": "a", "found": [curve], "across": 1}, traced=False
        ),
        "plots.success_map": Call(
            fr.plots.success_map,
            {
                "shares": {"a": np.ones((1, 2))},
                "x_ticks": ["1", "2"],
                "y_ticks": ["1"],
                "x_label": "x",
                "y_label": "y",
                "title": "a",
            },
            traced=False,
        ),
        "plots.curves_over_seeds": Call(
            fr.plots.curves_over_seeds,
            {"panels": {"a": {"b": line}}, "x_label": "x", "y_label": "y", "title": "a"},
            traced=False,
        ),
        "plots.sides": Call(fr.plots.sides, {"check": check}, traced=False),
    }
    for kind in (fr.Flatness, fr.WeightDecay):
        name = f"penalties.{kind.__name__}"
        calls[name] = Call(kind(), nA)
        calls[f"{name}.settle"] = Call(kind().settle, nA)
        calls[f"{name}.degree"] = Call(kind().degree, {"depth": 2}, traced=False)
    for some in (A, entries, rank_one, fr.IsotropicMeasurements((3, 2))):
        name = f"measurements.{type(some).__name__}"
        calls[f"{name}.apply"] = Call(some.apply, {"matrix": matrix})
        calls[f"{name}.adjoint"] = Call(some.adjoint, {"values": np.ones(some.count)})
        calls[f"{name}.second_moment"] = Call(some.second_moment, {"S": np.eye(2)})
        calls[f"{name}.second_moment_adjoint"] = Call(some.second_moment_adjoint, {"T": np.eye(3)})
        calls[f"{name}.part"] = Call(some.part, {"chosen": [0, 1]})
        calls[f"{name}.prepared"] = Call(some.prepared, {"depth": 3, "width": 2, "memory": 10**9})
    return calls


def tell(what: str, fraction: float) -> None:
    """Listen to the progress."""
    del what, fraction


def new_completer() -> fr.MatrixCompleter:
    """A completer that is quick."""
    return fr.MatrixCompleter(draws=0, strength=0.1, max_sweeps=1, random_state=0)


_fitted: list[fr.MatrixCompleter] = []


def fitted() -> fr.MatrixCompleter:
    """A completer that knows a little table."""
    if not _fitted:
        table = np.outer([1.0, 2, 3], [1.0, 2, 4])
        _fitted.append(fr.MatrixCompleter(draws=0, max_sweeps=1, random_state=0).fit(table))
    return _fitted[0]


def wrong_things() -> list[Any]:
    """Values of all kinds, most of them wrong wherever they are passed."""
    key = jax.random.key(0)
    A = fr.gaussian_measurements(key, 8, (3, 2))
    network = fr.DeepLinear.gaussian(key, (3, 2), 2)
    numbers = {"loss": jnp.asarray(0.0)}
    history = {"step": np.arange(1), "loss": np.ones(1)}
    run = fr.dynamics.Run(network, history, fr.dynamics.TrainingResult.completed, jnp.asarray(-1))
    runs = jax.tree.map(lambda x: jnp.stack([x, x]), network)
    text = pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0]})
    dates = pd.DataFrame({"a": pd.to_datetime(["2020-01-01", "2020-01-02"]), "b": [1.0, 2.0]})
    return [
        *(None, 0, -1, 1.5, float("nan"), float("inf"), True, "text", b"bytes", 1 + 2j),
        *([], [1, [2]], ["a", "b"], (), (1,), (3, 2), {}, {"loss": 1}, {1: "a"}, set(), {1, 2}),
        *(object(), lambda: 0, len, int, fr.WeightDecay, fr.DeepLinear, fr.SAM, iter([1])),
        *(range(3), slice(2), Ellipsis, Path("missing"), types.SimpleNamespace(network=1)),
        np.array(["a"]),
        np.array([["a", "b"], ["c", "d"]]),
        np.array([object()]),
        np.array([[1.0, None], ["x", 2.0]], object),
        np.array(["2020-01-01"], "M8[D]"),
        np.full((3, 2), np.datetime64("2020-01-01")),
        *(np.float64(3), np.array(2.0), np.bool_(True), np.ones(3), np.ones((2, 2, 2))),
        *(np.ones((3, 2)), np.ones((3, 2), complex), np.zeros(0), np.zeros((0, 2))),
        *(np.zeros((3, 0)), np.arange(3), np.full(8, np.nan), np.ma.masked_array([1.0], [True])),
        *(jnp.ones(3), jnp.asarray(1), jnp.ones((3, 2), jnp.complex64), jnp.ones((4, 3, 2))),
        *(
            key,
            jax.random.split(key),
            jax.random.PRNGKey(0),
            jax.random.split(jax.random.PRNGKey(0)),
        ),
        *(text, dates, text["a"], pd.DataFrame([[1.0, 2.0]], columns=["a", "a"])),
        *(A, fr.IsotropicMeasurements((4, 5)), fr.EntryMeasurements([0], [0], (2, 2))),
        *(network, runs, run, numbers, fr.Flatness(), fr.dynamics.FlatFlow(0.1), fitted()),
        *(fitted().completion_, fitted().entries_, network.layers, list(network.layers)),
    ]


def unreached(calls: dict[str, Call]) -> list[str]:
    """Public names without a valid call in the table."""
    faces = {face: fr for face in ("",)} | {face: _face(face) for face in FACES}
    missing = []
    for face, module in faces.items():
        for name in dir(module) if face else fr.__all__:
            value = getattr(module, name)
            inside = getattr(value, "__module__", "") or ""
            if name.startswith("_") or not callable(value) or not inside.startswith("flatrank"):
                continue
            if not face:
                known = any(one.rpartition(".")[2] == name for one in calls)
            else:
                known = _home(value, name, face) in calls or any(
                    one.startswith(f"{face}.{name}.") for one in calls
                )
                # Imported for the room's own use.
                known |= not inside.startswith(f"flatrank.{face}")
            if not known and name not in (*RETURNED, *FOR_OTHER_ROOMS):
                missing.append(f"{face}.{name}".strip("."))
    return missing


def _face(name: str) -> Any:
    module: Any = fr
    for part in name.split("."):
        module = getattr(module, part)
    return module


def _home(value: Any, name: str, face: str) -> str:
    return f"{face}.{name}"


def complaint(call: Call, arguments: dict[str, Any]) -> str | None:
    """What is wrong with how a call ends; None: it works, or a sentence of ours names an argument."""
    if any(
        callable(arguments.get(name)) and arguments[name] is not call.arguments[name]
        for name in FUNCTIONS
    ):
        return None  # a function of other arguments: what it says is its own
    positional = [v for name, v in arguments.items() if call.only and name not in call.only]

    def called() -> tuple:
        if positional:
            given = {name: v for name, v in arguments.items() if name in call.only}
            call.function(given.pop("loss"), given.pop("model"), *positional, **given)
        else:
            call.function(**arguments)
        return ()

    try:
        jax.eval_shape(called) if call.traced else called()
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        return None  # as far as tracing goes
    except (TypeError, ValueError, MemoryError, OSError, FloatingPointError) as error:
        frames = [
            f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_file()
        ]
        innermost, told = frames[-1], str(error)
        if innermost.filename == __file__ and innermost.name == "<lambda>":
            return None  # the caller's own function
        names = [rf"`{re.escape(name)}\b" for name in call.arguments] + list(call.names)
        at = f"{Path(innermost.filename).name}:{innermost.lineno}"
        validation = "sklearn/utils" in innermost.filename and call.names
        if not innermost.filename.startswith(SOURCE) and not validation:
            return f"{type(error).__name__} from {at}: {told[:200]}"
        if not any(re.search(name, told) for name in names) and not validation:
            return f"{type(error).__name__} without a name from {at}: {told[:200]}"
        return None
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{Path(frame.filename).name}:{frame.lineno}"
        return f"{type(error).__name__} from {at}: {str(error)[:200]}"
    return None


def shown(value: Any) -> str:
    """A value in one line."""
    return f"{type(value).__name__} {' '.join(repr(value).split())[:60]}"


NUMBERS = st.integers(-3, 3) | st.floats(width=32) | st.text(max_size=3) | st.none() | st.booleans()
DRAWN = st.one_of(
    NUMBERS,
    st.lists(NUMBERS | st.lists(NUMBERS, max_size=2), max_size=3),
    st.dictionaries(st.text(max_size=2), NUMBERS, max_size=2),
    hnp.arrays(
        hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
    ),
)


def exhausted(calls: dict[str, Call], pool: list[Any], only: str) -> Counter:
    """All that is wrong, of the whole table times the whole pool."""
    found: Counter = Counter()
    for name, call in calls.items():
        if only not in name:
            continue
        for argument in call.only or call.arguments:
            for value in pool:
                wrong = complaint(call, call.arguments | {argument: value})
                if wrong:
                    found[f"{name}({argument}={shown(value)}): {wrong}"] += 1
    return found


def searched(name: str, call: Call, pool: list[Any], examples: int) -> None:
    """Hypothesis replaces an argument, or swaps two of them; AssertionError for the least complaint."""
    names = st.sampled_from(call.only or list(call.arguments))

    @settings(
        max_examples=examples * len(call.only or call.arguments),
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(names, st.sampled_from(range(len(pool))) | DRAWN.map(lambda x: [x]), names)
    def check(argument: str, value: Any, other: str) -> None:
        value = value[0] if isinstance(value, list) else pool[value]
        arguments = call.arguments | {argument: value}
        if argument != other and isinstance(value, type(call.arguments[other])):
            arguments[other] = call.arguments[argument]
        wrong = complaint(call, arguments)
        assert wrong is None, f"{name}({argument}={shown(value)}): {wrong}"

    check()


def main() -> int:
    """Print what is wrong; the number of functions with a complaint."""
    warnings.simplefilter("ignore")
    calls, pool = valid_calls(), wrong_things()
    missing = unreached(calls)
    if missing:
        print(f"No valid call in the table of tests/wrong_types.py: {', '.join(missing)}")
    for name, call in calls.items():
        if any(value is None for value in call.arguments.values()):
            continue
        wrong = complaint(call, call.arguments)
        if wrong:
            print(f"{name} does not work as it should: {wrong}")
    if "--all" in sys.argv:
        only = sys.argv[sys.argv.index("--all") + 1] if sys.argv[-1] != "--all" else ""
        found = exhausted(calls, pool, only)
        print(*found, sep="\n")
        return len(found)
    bad = len(missing)
    for name, call in calls.items():
        try:
            searched(name, call, pool, 6)
        except AssertionError as error:
            print(str(error).splitlines()[0])
            bad += 1
    return bad


if __name__ == "__main__":
    sys.exit(min(main(), 100))
