"""The names at top level, the rooms behind them, what they load, and the names of the release before."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner

import flatrank as fr
from flatrank._renamed import MOVED
from flatrank.cli import app, reproduce
from test_documents import MODULES

SOURCE = Path(fr.__file__).parent
HEAVY = ("jax", "sklearn", "pandas", "matplotlib", "duckdb", "diffrax", "orbax", "numba", "scipy")


def loaded_by(code):
    """Which of the heavy libraries a fresh process has loaded after the code."""
    code += f"\nimport sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_face_has_rooms_and_about_twenty_names():
    rooms = [name for name in fr.__all__ if isinstance(getattr(fr, name), types.ModuleType)]
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")} - {"cli"}
    files = {path.stem for path in SOURCE.glob("[!_]*.py")} - {"experiments"}
    assert set(rooms) == folders | files
    assert 20 <= len(fr.__all__) - len(rooms) <= 23
    assert set(dir(fr)) == {*fr.__all__, "__version__"}


def test_star_imports_what_dir_shows():
    found: dict = {}
    exec("from flatrank import *", found)
    assert set(found) - {"__builtins__"} == set(fr.__all__)


def test_no_name_shadows_a_module():
    for name in MODULES[1:]:
        module = importlib.import_module(name)
        parent, _, leaf = name.rpartition(".")
        assert getattr(importlib.import_module(parent), leaf) is module, name


@pytest.mark.parametrize("stub", sorted(SOURCE.rglob("__init__.pyi")), ids=lambda p: p.parent.name)
def test_stubs_name_what_is_there(stub):
    package = ".".join(["flatrank", *stub.parent.relative_to(SOURCE).parts])
    for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            module = importlib.import_module(f"{package}.{node.module}")
            for alias in node.names:
                found = getattr(importlib.import_module(package), alias.name)
                assert found is getattr(module, alias.name), alias.name


def test_a_name_that_never_was_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'flatrank' has no attribute 'recovr'"):
        _ = fr.recovr


@pytest.mark.parametrize("name", MOVED)
def test_names_of_the_release_before_say_where_they_are(name):
    with pytest.warns(
        FutureWarning, match=rf"flatrank\.{name} is called flatrank\.{MOVED[name]} now"
    ):
        found = getattr(fr, name)
    new = fr
    for part in MOVED[name].split("."):
        new = getattr(new, part)
    assert found is new
    assert name not in dir(fr)


def test_a_problem_of_the_release_before_says_where_it_is():
    with pytest.warns(FutureWarning, match=r"called flatrank\.problems\.low_rank_matrix now"):
        found = fr.data.low_rank_matrix
    assert found is fr.problems.low_rank_matrix


def test_the_room_of_the_release_before_says_where_it_has_gone():
    with pytest.raises(ModuleNotFoundError, match=r"flatrank\.sweeps .*run_sweep"):
        importlib.import_module("flatrank.experiments.sweep")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import flatrank", set()),
        ("import flatrank as fr; fr.plots, fr.reports, fr.completion", set()),
        ("import flatrank as fr; fr.trace_of_hessian", {"jax"}),
        ("import flatrank as fr; fr.data", {"jax"}),
        ("import flatrank as fr; fr.recover, fr.train, fr.theory", {"jax", "scipy"}),
        ("from flatrank.reports import RecoveredMatrix, write_report", {"jax", "scipy"}),
        ("from flatrank.cli import app; app(['--help'], standalone_mode=False)", set()),
        ("from flatrank.cli import app; app(['--version'], standalone_mode=False)", set()),
        ("from flatrank.cli import app; app(['sense', '--help'], standalone_mode=False)", set()),
    ],
)
def test_libraries_load_when_they_are_used(code, expected):
    assert loaded_by(code) <= expected


def test_version():
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.output) == (0, f"flatrank {fr.__version__}\n")
    assert re.fullmatch(r"\d+\.\d+\.\d+", fr.__version__)
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["version"]["path"] == "src/flatrank/__init__.py"


def test_help_names_every_paper():
    assert tuple(fr.papers.PAPERS) == reproduce.NAMES


@pytest.mark.slow
@pytest.mark.parametrize("imported", ["", "import jax;"])
def test_commands_run_in_float64_whatever_was_imported_before(imported):
    code = (
        f"import os, sys; {imported} from flatrank import cli; sys.argv = ['flatrank', '--version']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "import jax; print(jax.config.jax_enable_x64, jax.config.jax_compilation_cache_dir, "
        "jax.config.jax_persistent_cache_min_compile_time_secs)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = done.stdout.splitlines()[-1]
    assert told.startswith("True ")
    assert told.endswith("flatrank/compiled 0.0")
