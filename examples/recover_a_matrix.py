"""A matrix back from a third of its entries, without its rank."""

import jax
import numpy as np

import flatrank as fr

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
truth = rng.standard_normal((100, 3)) @ rng.standard_normal((3, 80))

# Five lines.
A = fr.EntryMeasurements.from_mask(rng.random(truth.shape) < 1 / 3)
y = A.apply(truth)
solution = fr.recover(A, y, depth=3, penalty=fr.WeightDecay())
error = np.linalg.norm(solution.matrix - truth) / np.linalg.norm(truth)
print(f"{solution.message} Rank {solution.rank}, relative error {error:.0e}.")

assert solution.rank == 3
assert error < 1e-10
