"""flatrank reproduce: pictures, numbers, claims and their verdicts, in a folder."""

from dataclasses import replace

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from flatrank.cli import app
from flatrank.papers._paper import Finding, Paper, PaperFigure, Rows
from flatrank.papers._reproduce import reproduce
from flatrank.plots import Curve, Panel, panels
from flatrank.reports._claims import Claim, largest_of, mean_of


def straight_line(*, seed, on_step, slope, points):
    x = np.arange(points)
    y = slope * x + seed
    on_step("half way", 0.5)
    table = Rows()
    table.add(kind="line", x=x, y=y)
    table.add(kind="mark", x=1.0)
    picture = panels("a line", [Panel("x", "y", [Curve(x, np.stack([y, y + 1]), "line")])])
    claims = (
        Claim("It rises.", "slope", mean_of([slope, slope + 0.1]), least=0.0),
        Claim("It is below ten.", "largest value", largest_of(y), most=10.0),
    )
    return Finding(picture, claims, table.columns(), (("a fact", "of the data"),))


PAPER = Paper(
    "somebody1999",
    "S. Body: On lines, 1999",
    "A note.",
    (
        PaperFigure("lines", "A line.", straight_line, {"slope": 2.0, "points": 50}, {"points": 4}),
        PaperFigure("falling", "Another.", straight_line, {"slope": -1e3, "points": 5}),
    ),
)


@pytest.fixture(autouse=True)
def paper(monkeypatch):
    monkeypatch.setattr("flatrank.papers._reproduce.PAPERS", {PAPER.name: PAPER})


def run(*arguments):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["reproduce", *map(str, arguments)])


@pytest.mark.slow
def test_all_files_and_a_page_with_every_verdict(tmp_path):
    done = run("somebody1999", "--output", tmp_path / "new")
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "new").iterdir()}
    kinds = ("png", "svg", "parquet")
    assert names == {"report.html", *(f"figure-{k}.{kind}" for k in (1, 2) for kind in kinds)}
    page = (tmp_path / "new" / "report.html").read_text()
    assert page.index("It rises.") < page.index("data:image")
    assert page.count("data:image/png;base64,") == 2
    for words in (
        PAPER.reference,
        "It rises.",
        "does not hold",
        "claimed: at least 0",
        "<td>points</td><td>4 (full scale: 50)</td>",
        "<td>a fact</td><td>of the data</td>",
    ):
        assert words in page
    assert "does not hold" in done.output
    table = duckdb.sql(f"SELECT * FROM '{tmp_path}/new/figure-1.parquet'").fetchnumpy()
    np.testing.assert_array_equal(table["x"], [0, 1, 2, 3, 1])
    np.testing.assert_array_equal(table["y"], [0, 2, 4, 6, np.nan])
    assert list(table["kind"]) == ["line"] * 4 + ["mark"]


def test_a_figure_that_fails_leaves_those_before_it(tmp_path, monkeypatch):
    def failing(**settings):
        raise ArithmeticError("it diverged")

    broken = replace(PAPER.figures[1], make=failing)
    paper = replace(PAPER, figures=(PAPER.figures[0], broken))
    monkeypatch.setattr("flatrank.papers._reproduce.PAPERS", {PAPER.name: paper})
    with pytest.raises(ArithmeticError, match="it diverged"):
        reproduce("somebody1999", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "It rises." in page
    assert not (tmp_path / "figure-2.png").exists()


def test_one_figure_at_full_scale_with_another_seed(tmp_path):
    steps = []
    found = reproduce(
        "somebody1999",
        tmp_path,
        figure=1,
        scale="full",
        seed=7,
        on_step=lambda *step: steps.append(step),
    )
    assert [one.number for one in found] == [1]
    assert found[0].finding.columns["y"][0] == 7
    assert [str(claim.verdict) for claim in found[0].finding.claims] == [
        "holds",
        "does not hold",
    ]
    assert len(found[0].finding.columns["x"]) == 51
    assert not (tmp_path / "figure-2.png").exists()
    assert ("figure 1: half way", 0.5) in steps


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody2000",), ("'nobody2000'", "somebody1999")),
        (("somebody1999", "--figure", "3"), ("`figure` is 3", "1 to 2")),
        (("somebody1999", "--figure", "0"), ("`figure` is 0",)),
        (("somebody1999", "--scale", "huge"), ("'huge'", "quick, full")),
        (("somebody1999", "--seed", "-1"), ("`seed` is -1",)),
    ],
)
def test_bad_input_ends_in_a_sentence(arguments, words, tmp_path):
    done = run(*arguments, "--output", tmp_path / "new")
    assert done.exit_code == 2
    assert done.output.startswith("Error: ")
    assert all(word in done.output for word in words)
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "taken").write_text("mine")
    done = run("somebody1999", "--output", tmp_path / "taken")
    assert done.exit_code == 2
    assert "is a file: name a folder" in done.output
    assert (tmp_path / "taken").read_text() == "mine"
