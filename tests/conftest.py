"""Float64, no silent promotion, and every annotated shape checked."""

import gc
import os
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiled programs are kept: both workers need many of the same ones, a worker that has run out of
# memory maps (below) needs its own again, and the next run needs them all. Compiling is four fifths of
# a test.
_KEPT = Path(__file__).parents[1] / ".cache" / "compiled"
if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    jax.config.update("jax_compilation_cache_dir", str(_KEPT))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# The hook stays: rooms are imported when a test first asks for one.
install_import_hook("flatrank", "beartype.beartype")

import flatrank  # noqa: E402

# A compiled CPU program keeps memory maps; Linux allows a process 65,530 of them by default
# (vm.max_map_count) and XLA crashes in the compiler when there are no more. The suite needs more.
_MAPS = Path("/proc/self/maps")
_MOST_MAPS = 25_000


@pytest.fixture(autouse=True)
def _few_memory_maps():
    """Forget compiled programs before the process runs out of memory maps."""
    yield
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        eqx.clear_caches()
        jax.clear_caches()
        gc.collect()


def _mask(m: int, n: int) -> np.ndarray:
    mask = np.random.default_rng(m + n).random((m, n)) < 0.6
    np.fill_diagonal(mask, True)
    mask[-1], mask[:, -1] = True, True
    return mask


def _normal(seed: int, *shape: int) -> jax.Array:
    return jax.numpy.asarray(np.random.default_rng(seed).standard_normal(shape))


ENSEMBLES = {
    "dense": lambda m, n, N: flatrank.DenseMeasurements(_normal(0, N, m, n), prepare=False),
    "dense, prepared": lambda m, n, N: flatrank.DenseMeasurements(
        _normal(1, 20 * N, m, n)
    ).prepared(),
    "isotropic": lambda m, n, N: flatrank.IsotropicMeasurements((m, n)),
    "rank one": lambda m, n, N: flatrank.RankOneMeasurements(_normal(2, N, m), _normal(3, N, n)),
    "entries": lambda m, n, N: flatrank.EntryMeasurements.from_mask(_mask(m, n)),
}


@pytest.fixture(params=ENSEMBLES)
def ensemble(request):
    """A function (m, n) -> measurements, one for each ensemble."""
    return lambda m, n, count=7: ENSEMBLES[request.param](m, n, count)


@pytest.fixture
def explicit():
    """The measurement matrices (N, m, n) of any ensemble, from the adjoint of unit vectors."""
    return lambda A: np.asarray(jax.vmap(A.adjoint)(jax.numpy.eye(A.count)))
