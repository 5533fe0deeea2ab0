"""How flat a deep linear network is, and how flat it could be with the same matrix."""

import jax
import numpy as np

import flatrank as fr

jax.config.update("jax_enable_x64", True)
truth = fr.DeepLinear.gaussian(jax.random.key(0), (20, 20), depth=2, width=2).matrix()
A = fr.gaussian_measurements(jax.random.key(1), 300, (20, 20))

print("depth   trace of the Hessian   flattened   F(M)   isotropic formula")
for depth in (2, 3, 4):
    network = fr.DeepLinear.balanced(truth, depth)
    skewed = fr.DeepLinear((3 * network.layers[0], network.layers[1] / 3, *network.layers[2:]))
    trace = float(fr.trace_of_hessian(skewed, A))
    flat = float(fr.trace_of_hessian(fr.flatten(skewed, A), A))
    least = float(fr.induced_regularizer(truth, A, depth))
    even = fr.IsotropicMeasurements(truth.shape)
    formula = float(fr.induced_regularizer(truth, even, depth))
    print(f"{depth}       {trace:12.1f}        {flat:12.1f}  {least:8.1f}   {formula:8.1f}")
    assert flat < trace
    # The flattest layers of this matrix, whichever network one starts from; near the isotropic
    # formula, as Gaussian measurements are nearly isometric.
    np.testing.assert_allclose(flat, least, rtol=1e-6)
    np.testing.assert_allclose(least, formula, rtol=0.3)
