"""An order for factorisations that XLA would otherwise start at the same time (decision 3)."""

import jax.numpy as jnp
from jaxtyping import Array


def after(earlier: Array, later: Array) -> Array:
    """`later` as it is, but not computed on before `earlier` is known: a zero of it is added.

    A batch of factorisations holds a thread of XLA's CPU pool while it waits for others of the same
    pool; as many batches at once as there are threads wait for ever (jaxlib 0.10.2). Factorisations
    that `vmap` can turn into batches are therefore put in an order wherever there are several.
    """
    # Nothing is above infinity, NaN included, which the compiler does not make use of.
    zero = jnp.ravel(earlier)[0].astype(later.dtype) > jnp.inf
    return later + zero.astype(later.dtype)
