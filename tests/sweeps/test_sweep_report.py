"""The report of a sweep: its numbers, and the page in a browser."""

import json
import shutil

import numpy as np
import pytest

from flatrank.reports import wilson_interval
from flatrank.reports._html import write_report
from flatrank.sweeps._cells import NO_MASK
from flatrank.sweeps._report import mean_interval, sweep_sections
from flatrank.sweeps._settings import sweep_of

TEXT = "[fixed]\nnote = 'a < b'\n"


def rows_of(settings, result):
    """Rows as a sweep keeps them; result(cell) gives the error.

    NaN stands for a run that ended in numbers that are not finite, None for a problem not drawn.
    """
    rows = []
    for cell in sweep_of(settings).cells:
        error = result(cell)
        values = {
            "error": error,
            "train_loss": 1e-20,
            "test_loss": error,
            "trace": 2.0 + cell.seed,
            "nuclear_norm": 1.0,
            "effective_rank": 1.0,
        }
        if error is None or np.isnan(error):
            values = dict.fromkeys(values)
        versions = {"flatrank": "0.1.0", "jax": "0.10.2"}
        drawn = error is not None
        ended = {
            "result": "It ended." if drawn else NO_MASK,
            "successful": error == error if drawn else None,
            "seconds": 0.25 if drawn else None,
        }
        rows.append({**vars(cell), **values, **versions, **ended})
    return rows


def recoveries():
    settings = [
        {
            "ensemble": "entries",
            "shape": [9, 8],
            "rank": rank,
            "oversampling": oversampling,
            "depth": depth,
            "penalty": penalty,
            "seed": seed,
        }
        for rank in (1, 2)
        for oversampling in (1.5, 2.0, 2.4)
        for depth in (2, 3)
        for penalty in ("flatness", "nuclear-norm")
        for seed in range(5)
    ]

    def error(cell):
        if (cell.rank, cell.oversampling) == (2, 1.5) and cell.seed > 2:
            return None
        return 1e-12 if cell.seed < 2 * (cell.depth or 1) - 2 else 0.1

    return rows_of(settings, error)


def trainings():
    setting = {
        "method": "train",
        "ensemble": "gaussian",
        "shape": [6, 5],
        "rank": 1,
        "count": 20,
        "steps": 10,
        "optimizer": "label-noise",
        "label_noise": 0.1,
    }
    settings = [
        {**setting, "learning_rate": rate, "depth": depth, "seed": seed}
        for rate in (0.001, 0.01, 0.1)
        for depth in (2, 3)
        for seed in range(3)
    ]
    return rows_of(
        settings, lambda cell: np.nan if cell.learning_rate == 0.1 and cell.seed else 0.5
    )


def table_of(sections, title):
    (section,) = (section for section in sections if section.title == title)
    return [dict(zip(section.table.headings, row, strict=True)) for row in section.table.rows]


def test_wilson_interval_solves_its_equation():
    # The ends are where the normal test of the share has |z| = 1.96.
    for found, seeds in ((0, 5), (3, 10), (10, 10)):
        share = found / seeds
        for end in wilson_interval(found, seeds):
            if 0 < end < 1:
                z = abs(share - end) / (end * (1 - end) / seeds) ** 0.5
                np.testing.assert_allclose(z, 1.959964, rtol=1e-5)


def test_mean_interval_covers_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 4))
    covered = [low <= 3 <= high for _, low, high in map(mean_interval, draws.tolist())]
    assert abs(np.mean(covered) - 0.95) < 0.012
    middle, low, high = mean_interval([1e-2, 1e-4], "error")
    np.testing.assert_allclose(middle, 1e-3)
    np.testing.assert_allclose(low * high, middle**2)
    assert mean_interval([0.0], "error") == (pytest.approx(1e-17),) * 3
    assert mean_interval([2.0], "trace") == (2.0, 2.0, 2.0)


def test_the_table_counts_what_was_recovered():
    table = table_of(sweep_sections(recoveries(), {}), "All settings: recover")
    assert len(table) == 2 * 3 * (2 + 1)
    (line,) = (
        line
        for line in table
        if (line["penalty"], line["depth"], line["oversampling"], line["rank"])
        == ("flatness", "2", "2", "1")
    )
    assert (line["seeds"], line["recovered"]) == ("5", "0.400")
    assert line["error"] == f"{10 ** ((2 * -12 + 3 * -1) / 5):.3g}"
    assert line["trace"] == "4"
    # Cells without a mask are no failures: they are not counted.
    fewer = {
        line["seeds"] for line in table if (line["rank"], line["oversampling"]) == ("2", "1.5")
    }
    assert fewer == {"3"}
    # A recovery that ended in numbers that are not finite is a failure.
    lost = [{**row, "error": None} if row["seed"] == 0 else row for row in recoveries()]
    table = table_of(sweep_sections(lost, {}), "All settings: recover")
    assert (table[0]["seeds"], table[0]["recovered"]) == ("5", "0.200")
    strict = table_of(sweep_sections(recoveries(), {}, 1e-13), "All settings: recover")
    assert {line["recovered"] for line in strict} == {"0.000"}


def test_runs_that_diverged_are_told_and_left_out_of_means():
    table = table_of(sweep_sections(trainings(), {}), "All settings: train")
    told = {(line["learning rate"], line["seeds"], line["diverged"]) for line in table}
    assert told == {("0.001", "3", "0"), ("0.01", "3", "0"), ("0.1", "3", "2")}


def test_maps_and_curves_show_the_shares():
    sections = sweep_sections(recoveries(), {"sweep-1.toml": TEXT})
    (section,) = (section for section in sections if section.title == "Recovered matrices")
    (_, planes), (_, curves) = section.figures
    panels = {axis.get_title(): axis for axis in planes.axes if axis.images}
    assert set(panels) == {"flatness, depth 2", "flatness, depth 3", "nuclear-norm"}
    shown = np.asarray(panels["flatness, depth 2"].images[0].get_array())
    np.testing.assert_allclose(shown, [[0.4] * 3, [2 / 3, 0.4, 0.4]])
    assert "3 to 5 seeds" in planes.get_suptitle()
    assert "missing entries, 9 × 8" in planes.get_suptitle()
    assert [axis.get_title() for axis in curves.axes] == ["rank 1", "rank 2"]
    line = curves.axes[0].lines[0]
    np.testing.assert_allclose(line.get_xydata(), [[1.5, 0.4], [2.0, 0.4], [2.4, 0.4]])
    for figure in (planes, curves):
        assert any("oversampling" in axis.get_xlabel() for axis in figure.axes)


def test_depth_is_an_axis_where_nothing_else_varies_and_the_reference_a_level_line():
    rows = [r for r in recoveries() if (r["rank"], r["oversampling"]) == (1, 2.0)]
    sections = sweep_sections(rows, {})
    (section,) = (section for section in sections if section.title == "Recovered matrices")
    ((_, figure),) = section.figures
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert lines["flatness"] == [[2, 0.4], [3, 0.8]]
    assert lines["nuclear-norm"] == [[2, 0.0], [3, 0.0]]


@pytest.mark.parametrize(("name", "values"), [("width", (None, 4)), ("max_outer_steps", (50, 200))])
def test_a_setting_that_has_a_default_is_told_from_it(name, values):
    rows = [
        {**row, name: value}
        for value in values
        for row in recoveries()
        if row["penalty"] == "flatness"
    ]
    table = table_of(sweep_sections(rows, {}), "All settings: recover")
    assert len(table) == 2 * 2 * 3 * 2
    told = {row[name.replace("_", " ")] for row in table}
    assert told == {"default" if value is None else str(value) for value in values}
    assert {row["seeds"] for row in table} <= {"3", "5"}


def test_one_of_oversampling_and_count_is_an_axis():
    rows = [row for row in recoveries() if row["oversampling"] == 2.0]
    table = table_of(sweep_sections(rows, {}), "All settings: recover")
    assert "rank" in table[0]
    assert not {"count", "oversampling"} & set(table[0])


def test_what_does_not_vary_is_told():
    rows = [row for row in recoveries() if row["oversampling"] == 2.0]
    section = sweep_sections(rows, {})[-1]
    assert ("oversampling", "2") in section.facts
    assert ("shape", "9 × 8") in section.facts


def test_axes_of_rates_are_logarithmic():
    sections = sweep_sections(trainings(), {})
    (section,) = (section for section in sections if section.title == "Results over seeds")
    assert len(section.figures) == 6
    assert all(figure.axes[0].get_xscale() == "log" for _, figure in section.figures)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    selenium = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium here: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield chrome
    chrome.quit()


def test_the_page_in_a_browser(browser, tmp_path):
    path = tmp_path / "report.html"
    sections = sweep_sections(recoveries() + trainings(), {"sweep-1.toml": TEXT})
    write_report(path, "Sweep", sections)
    browser.get("about:blank")
    browser.get_log("performance")  # what the browser asked for at its start
    browser.get(path.as_uri())

    asked = [
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    assert asked
    assert {url.split(":")[0] for url in asked if url != path.as_uri()} <= {"data"}

    widths = browser.execute_script(
        "return [...document.images].map(i => i.complete ? i.naturalWidth : 0)"
    )
    assert len(widths) == sum(len(section.figures) for section in sections)
    assert min(widths) > 100
    assert TEXT in browser.execute_script("return document.querySelector('pre').textContent")

    tables = browser.find_elements("css selector", ".sortable")
    table = next(t for t in tables if "oversampling" in t.text)
    headings = [th.text for th in table.find_elements("css selector", "th")]

    def column(name):
        cells = f"tbody td:nth-child({headings.index(name) + 1})"
        return [cell.text for cell in table.find_elements("css selector", cells)]

    def click(name):
        th = table.find_elements("css selector", "th")[headings.index(name)]
        th.find_element("css selector", "button").click()
        sorted_by = table.find_elements("css selector", "th:not([aria-sort=none])")
        assert [other.text.split()[0] for other in sorted_by] == [name]
        return th.get_attribute("aria-sort")

    before = sorted(row.text for row in table.find_elements("css selector", "tbody tr"))
    assert click("error") == "ascending"
    errors = [float(text) for text in column("error")]
    assert errors == sorted(errors)
    assert click("error") == "descending"
    assert [float(text) for text in column("error")] == errors[::-1]
    assert click("penalty") == "ascending"
    assert column("penalty") == sorted(column("penalty"))
    assert click("depth") == "ascending"
    assert column("depth") == ["2"] * 6 + ["3"] * 6 + [""] * 6  # what has none comes last
    assert sorted(row.text for row in table.find_elements("css selector", "tbody tr")) == before

    complaints = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert complaints == []
