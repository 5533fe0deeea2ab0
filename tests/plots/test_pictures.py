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
