"""Panels draw the median and the whole range of the seeds, and say what their axes are."""

import numpy as np

from flatrank.plots import Curve, Panel, panels


def test_a_curve_is_the_median_with_a_band_to_the_extremes(tmp_path):
    x = np.asarray([1.0, 10.0, 100.0])
    y = np.asarray([[1.0, 2.0, np.nan], [3.0, 4.0, np.nan], [8.0, 9.0, np.nan]])
    panel = Panel("x [s]", "y [m]", [Curve(x, y, "three seeds")], "title", "xy", ticks=(1, 100))
    figure = panels("all", [panel, Panel("a", "b", [Curve(x, x, marker="o", style="")])])
    figure.savefig(tmp_path / "panels.png")
    axis, other = figure.axes
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [3.0, 4.0, np.nan])
    band = axis.collections[0].get_datalim(axis.transData)
    assert (band.y0, band.y1) == (1.0, 9.0)
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_xscale()) == ("x [s]", "y [m]", "log")
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["three seeds"]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["1", "100"]
    assert not other.collections  # one seed: no band
    assert other.lines[0].get_linestyle() == "None"
    assert other.get_legend() is None
