"""What a draw of lines is given, and what it gives."""

from typing import Any, NamedTuple


class Given(NamedTuple):
    """All that the conditional distribution of m lines of q numbers depends on, but for their entries.

    Lines end with their bias. An entry's noise has the precision `own_noise` of its line times
    `other_noise` of its place in it. Arrays of NumPy, or of JAX where XLA draws.

    * `other` (n, q): the other side.
    * `own` (m, q): these lines as they were drawn last.
    * `mean` (q,), `precision` (q, q): of the lines' prior.
    * `own_noise` (m,), `other_noise` (n,): precisions.
    * `normal` (m, q): standard normal numbers.
    """

    other: Any
    own: Any
    mean: Any
    precision: Any
    own_noise: Any
    other_noise: Any
    normal: Any


class LineDraws(NamedTuple):
    """The lines' conditional means (m, q), draws (m, q), and squared residuals (m,).

    The squares are weighted by the noise precisions of the other side.
    """

    means: Any
    draws: Any
    squares: Any
