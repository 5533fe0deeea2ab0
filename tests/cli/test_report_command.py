"""flatrank report: a folder in, a page out, or one sentence."""

import pytest
from typer.testing import CliRunner

from command import flatrank
from flatrank.cli import app
from flatrank.sweeps import _cells as sweep_cells
from flatrank.sweeps import _run as sweep
from flatrank.sweeps._settings import Sweep, sweep_of

SETTING = {
    "ensemble": "gaussian",
    "shape": [5, 4],
    "rank": 1,
    "count": 16,
    "depth": 2,
    "penalty": "flatness",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of a sweep in which nothing was computed."""
    monkeypatch.setattr(
        sweep, "run_batch", lambda cells, size: [sweep_cells._row(cell) for cell in cells]
    )
    cells = sweep_of([{**SETTING, "seed": seed} for seed in range(3)]).cells
    sweep.run_sweep(Sweep(cells, "# the text of the file\n"), tmp_path / "swept")
    return tmp_path


@pytest.mark.slow
def test_the_page_has_settings_and_versions_even_without_results(folder):
    run = flatrank("report", "swept", cwd=folder)
    assert run.returncode == 0, run.stderr
    assert "swept/report.html" in run.stdout
    page = (folder / "swept" / "report.html").read_text()
    for text in ("# the text of the file", "All settings: recover", "jax", sweep_cells.NO_MASK):
        assert text in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere",), "nowhere is not a folder"),
        (("empty",), "empty holds no results: run `flatrank sweep` first"),
        (("swept", "--output", "page.pdf"), "page.pdf ends in '.pdf': flatrank writes .html"),
        (("swept", "--accuracy", "-1"), "--accuracy must be positive, found -1.0"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(folder, monkeypatch, arguments, sentence):
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder)
    run = CliRunner().invoke(app, ["report", *arguments])
    assert run.exit_code == 2
    assert run.stderr.startswith("Error: ")
    assert sentence in run.stderr
    assert not list(folder.rglob("*.html")) + list(folder.rglob("*.pdf"))
