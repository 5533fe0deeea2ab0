"""A draw of every line of one side, given the other: one protocol, two machines.

XLA draws from `LineBuckets`, as an accelerator wants them; machine code draws from `CompressedLines`,
several times as fast on a CPU.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from ...entries import Entries
from .._buckets import LineBuckets, line_buckets
from ._bucketed import draw_bucketed
from ._compressed import CompressedLines, compressed_lines, compressible, draw_compressed
from ._given import Given, LineDraws

Lines = LineBuckets | CompressedLines


def arranged(
    entries: Entries,
    values: Float[np.ndarray, " N"],
    used: Bool[np.ndarray, " N"],
    *,
    axis: int,
    width: int,
) -> Lines:
    """The used entries by rows (`axis` 0) or columns (1), as the machine at hand draws them fastest."""
    if jax.default_backend() == "cpu" and compressible():
        return compressed_lines(entries, values, used, axis=axis)
    # Without weight, not left out: so that shapes, which are compiled, do not depend on it.
    return line_buckets(entries, values, used.astype(np.float32), axis=axis, width=width)


def draw_lines(lines: Lines, given: Given, *, biased: bool, over: float) -> LineDraws:
    """Every line's conditional mean given the other side, a draw, and its squared residuals.

    The draw lies on the other side of the mean from `given.own`, with correlation -over (Adler 1981):
    the distribution is the same, and averages of successive draws vary less.
    """
    if isinstance(lines, CompressedLines):
        return draw_compressed(lines, given, biased=biased, over=over)
    arrays = jax.tree.map(jnp.asarray, (given, np.float32(biased), np.float32(over)))
    return LineDraws(*(np.asarray(found) for found in draw_bucketed(lines, *arrays)))
