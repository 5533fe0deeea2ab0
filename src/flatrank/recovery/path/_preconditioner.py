"""What makes conjugate gradients on the normal equations converge in few steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._factored_measurements import Pair


class Preconditioner(NamedTuple):
    """An approximate inverse, by blocks of each row or by a diagonal that is the same for all."""

    blocks: tuple[Array, ...] | None
    diagonal: Array | None

    def __call__(self, pair: Pair) -> Pair:
        """The approximate inverse times a pair."""
        if self.blocks is None:
            assert self.diagonal is not None
            return self.diagonal[None] * pair[0], self.diagonal[None] * pair[1]
        return tuple(  # type: ignore[return-value]
            jnp.einsum("mij,mj->mi", block, x) for block, x in zip(self.blocks, pair, strict=True)
        )


def inverse_blocks(
    blocks: Float[Array, "m k k"], ridge: Float[Array, " k"]
) -> Float[Array, "m k k"]:
    """Inverses of blocks + diag(ridge), scaled to a unit diagonal first."""
    k = blocks.shape[-1]
    eye = jnp.eye(k, dtype=blocks.dtype)
    slack = 4e3 * float(jnp.finfo(blocks.dtype).eps)
    diagonal = jnp.diagonal(blocks, axis1=1, axis2=2) + ridge[None]
    scale = jnp.where(diagonal > 0, diagonal, 1.0) ** -0.5
    outer = scale[:, :, None] * scale[:, None, :]
    scaled = blocks * outer * (1 - eye)[None] + (1 + slack) * eye[None]
    factor = jnp.linalg.cholesky(scaled)
    inverse = jax.scipy.linalg.cho_solve((factor, True), jnp.broadcast_to(eye, blocks.shape))
    return inverse * outer
