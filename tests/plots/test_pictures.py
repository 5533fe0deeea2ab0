"""Pictures show the numbers that they were given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr
from flatrank import plots
from flatrank.flatness import general


@pytest.fixture(scope="module")
def problem():
    A = fr.gaussian_measurements(jax.random.key(0), 60, (6, 5))
    network = fr.DeepLinear.gaussian(jax.random.key(1), (6, 5), 3)
    return network, A, jnp.ones(60)


def heights(figure):
    return [bar.get_height() for bar in figure.axes[0].patches]


@pytest.mark.slow
def test_spectrum_shows_every_eigenvalue_once(problem, tmp_path):
    values = jnp.linalg.eigvalsh(fr.flatness.dense_hessian(*problem))
    figure = plots.spectrum(values)
    figure.savefig(tmp_path / "spectrum.png")
    shown = np.concatenate([line.get_ydata() for line in figure.axes[0].lines])
    large = np.abs(values)[np.abs(values) > 1e-10 * np.abs(values).max()]
    np.testing.assert_allclose(np.sort(shown), np.sort(large), rtol=1e-12)
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert f"{int((values > 1e-10).sum())} positive" in texts
    assert f"{int((values < -1e-10).sum())} negative" in texts


@pytest.mark.slow
def test_density_integrates_to_one(problem, tmp_path):
    density = fr.flatness.spectral_density(*problem, key=jax.random.key(0))
    figure = plots.density(density)
    figure.savefig(tmp_path / "density.png")
    grid, curve = figure.axes[0].lines[0].get_data()
    np.testing.assert_allclose(np.trapezoid(curve, grid), 1.0, rtol=1e-3)


@pytest.mark.slow
def test_layer_traces_exact_and_estimated(problem, tmp_path):
    network, A, _ = problem
    figure = plots.layer_traces(fr.flatness.layer_traces(network, A))
    np.testing.assert_allclose(heights(figure), fr.flatness.layer_traces(network, A))
    loss = lambda model: jnp.sum(jnp.tanh(model["a"]) ** 2) + jnp.sum(model["b"] ** 4)  # noqa: E731
    model = {"a": jnp.ones(100), "b": jnp.ones(3)}
    estimate = general.leaf_traces(loss, model, key=jax.random.key(0))
    figure = plots.layer_traces(estimate)
    figure.savefig(tmp_path / "traces.png")
    np.testing.assert_allclose(heights(figure), jax.tree.leaves(estimate.value))
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names == ["['a']", "['b']"]


@pytest.mark.slow
def test_flattening_before_and_after(problem, tmp_path):
    network, A, _ = problem
    figure = plots.flattening(network, A)
    figure.savefig(tmp_path / "flattening.png")
    expected = [
        *fr.flatness.layer_traces(network, A),
        *fr.flatness.layer_traces(fr.flatten(network, A), A),
    ]
    np.testing.assert_allclose(heights(figure), expected, rtol=1e-12)


def test_known_leaves_free_entries_grey_and_shows_errors(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((12, 2)) @ rng.standard_normal((2, 10))
    mask = rng.random((12, 10)) < 0.8
    mask[4] = np.arange(10) == 3
    A = fr.EntryMeasurements.from_mask(mask)
    exact = plots.known(fr.recover(A, truth[mask]))
    exact.savefig(tmp_path / "exact.png")
    matrix, determined = (axis.images[0].get_array() for axis in exact.axes[:2])
    assert (np.isnan(matrix[4]) == (np.arange(10) != 3)).all()
    assert (determined == ~np.isnan(matrix)).all()
    rest = np.arange(12) != 4
    np.testing.assert_allclose(matrix[rest], truth[rest], atol=1e-9)
    noisy = fr.recover(A, truth[mask] + 1e-2 * rng.standard_normal(mask.sum()), noise=1e-2)
    figure = plots.known(noisy)
    errors = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_array_equal(errors[rest], noisy.standard_errors()[rest])
    # Too large for the errors of all entries.
    monkeypatch.setattr("flatrank.recovery.determined._standard_errors._DENSE", 0)
    shown = plots.known(noisy).axes[1].images[0].get_array()
    np.testing.assert_array_equal(shown, noisy.determined.table())
    flattest = fr.recover(A, truth[mask], 2, "flatness", noise=0.1)
    alone = plots.known(flattest)
    assert [axis.get_title() for axis in alone.axes if axis.images][:1] == ["the matrix, rank 0"]
    with pytest.raises(TypeError, match="`solution`"):
        plots.known(truth)
