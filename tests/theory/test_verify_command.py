"""flatrank verify: one table, an exit code, a report."""

import dataclasses

import numpy as np
import pytest
from typer.testing import CliRunner

from flatrank import plots
from flatrank.cli import app
from flatrank.theory import Check, Relation
from flatrank.theory import _curvature as curvature

NAMES = [theorem.name for theorem in (curvature.ALS, curvature.WEIGHT_DECAY)]


@pytest.fixture
def two_theorems(monkeypatch):
    def use(*theorems):
        monkeypatch.setattr("flatrank.theory._theorems.THEOREMS", theorems)

    use(curvature.ALS, curvature.WEIGHT_DECAY)
    return use


def test_a_table_and_a_report(two_theorems, tmp_path):
    report = tmp_path / "theory.html"
    run = CliRunner(env={"COLUMNS": "120"}).invoke(
        app, ["verify", "--quick", "--seed", "3", "--report", str(report)]
    )
    assert run.exit_code == 0, run.output
    for word in (*NAMES, "theorem", "instances", "worst slack", "verdict", "holds"):
        assert word in run.output
    page = report.read_text()
    assert page.count("data:image/png;base64,") == 2
    assert curvature.ALS.statement.split(",")[0] in page


def test_a_failure_is_named_and_ends_in_exit_code_1(two_theorems):
    wrong = dataclasses.replace(curvature.ALS, formula=lambda U, V, A: 0.0)
    two_theorems(wrong, curvature.WEIGHT_DECAY)
    run = CliRunner(env={"COLUMNS": "120"}).invoke(app, ["verify", "--quick"])
    assert run.exit_code == 1
    assert "Error: not verified: ALS-WR is flatness." in run.output


def test_bad_input_ends_in_a_sentence(tmp_path):
    run = CliRunner().invoke(app, ["verify", "--report", str(tmp_path / "theory.txt")])
    assert run.exit_code == 2
    assert ".html" in run.output
    assert not list(tmp_path.iterdir())


def test_the_picture_shows_every_instance():
    check = Check(
        "made up",
        Relation.at_most,
        0.0,
        np.asarray([1.0, 2.0, 100.0]),
        np.asarray([2.0, 3.0, 50.0]),
        np.asarray([0.5, 0.3, -0.5]),
        np.asarray([True, True, False]),
    )
    lines = plots.sides(check).axes[0].lines
    assert [len(line.get_xdata()) for line in lines] == [2, 1, 2]
