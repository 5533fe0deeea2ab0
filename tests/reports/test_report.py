"""The report is one file that needs nothing else."""

import re

import numpy as np
import pytest

from flatrank import MatrixCompleter
from flatrank.entries import Entries
from flatrank.reports._completion import complete_entries
from flatrank.reports._demo import sense
from flatrank.reports._html import Section, write_report


@pytest.fixture(scope="module")
def completed():
    rng = np.random.default_rng(0)
    truth = 10 + rng.standard_normal((200, 1)) @ rng.standard_normal((1, 30))
    X = np.where(rng.random(truth.shape) < 0.4, truth, np.nan)
    return complete_entries(
        Entries.from_array(X), MatrixCompleter(penalty="flatness", random_state=0)
    ), X


@pytest.mark.slow
def test_report_is_self_contained(completed, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, "a <title>", [completed[0].section(), Section("second", "text & more")])
    page = path.read_text()
    assert "a &lt;title&gt;" in page
    assert "text &amp; more" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert page.count("data:image/png;base64,") == 5
    for fact in ("shape", "observed", "held-out error (RMS)", "effective rank", "nuclear norm"):
        assert f"<td>{fact}</td>" in page
    for caption in ("Observed entries", "no rank was given", "held out of each fit"):
        assert caption in page


def test_filled_table_keeps_what_was_observed(completed):
    table, X = completed
    filled = table.filled()
    seen = ~np.isnan(X)
    np.testing.assert_array_equal(filled[seen], X[seen])
    assert np.isfinite(filled).all()


@pytest.mark.slow
def test_given_strength_needs_no_path(tmp_path):
    X = np.arange(12.0).reshape(3, 4)
    X[0, 0] = np.nan
    table = complete_entries(Entries.from_array(X), MatrixCompleter(strength=0.1, random_state=0))
    assert "held-out error (RMS)" not in dict(table.facts())
    write_report(tmp_path / "r.html", "small", [table.section()])


@pytest.mark.slow
def test_sensing_section_tells_every_depth():
    runs, section = sense(side=12, rank=1, count=110, depths=(2, 3))
    assert [run.rank for run in runs] == [1, 1]
    assert all(run.error < 1e-8 for run in runs)
    assert len(section.facts) == 3
