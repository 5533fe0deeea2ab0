"""Label noise drifts along the zero-loss manifold as the flow of the trace of the Hessian does."""

import jax
import numpy as np

import flatrank as fr

jax.config.update("jax_enable_x64", True)
truth = fr.DeepLinear.gaussian(jax.random.key(0), (6, 6), depth=2, width=1).matrix()
A = fr.gaussian_measurements(jax.random.key(1), 20, (6, 6))
y = A.apply(truth)
start = fr.DeepLinear.gaussian(jax.random.key(2), (6, 6), depth=2, scale=0.8)
interpolator = fr.dynamics.retracted(start, A, y)  # the nearest network of zero loss

# The flow for the time that the steps take along it: learning rate^2 noise^2 / 2 batch size each.
noise = fr.LabelNoise(learning_rate=0.0005, noise=0.8, batch_size=1)
steps = 200_000
time = float(fr.dynamics.equivalent_time(noise, steps))
flow = fr.train(interpolator, A, y, fr.dynamics.FlatFlow(time / 50), steps=50, record=("trace",))
noisy = fr.train(
    interpolator,
    A,
    y,
    noise,
    steps=steps,
    key=jax.random.split(jax.random.key(3), 4),  # four runs
    record=("trace",),
    record_every=steps // 50,
)

traces = np.asarray(noisy.history["trace"]).mean(0)
print("share of the time   trace of the flow   trace of label noise, mean of 4 runs")
for k in (0, 10, 25, 50):
    print(f"{k / 50:17.1f} {float(flow.history['trace'][k]):19.2f} {traces[k]:25.2f}")
fall = flow.history["trace"][0] - flow.history["trace"][-1]
assert fall > 0.1 * flow.history["trace"][0]
assert np.abs(traces - flow.history["trace"]).max() < 0.05 * flow.history["trace"][0]
