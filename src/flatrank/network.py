"""The deep linear network W = W_L ... W_1: its products, its singular values, its initialisations."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._checks import (
    as_floating,
    as_key,
    as_positive,
    as_real,
    as_shape,
    found,
    not_empty,
    one_network,
    positive_integer,
)
from ._order import after


class DeepLinear(eqx.Module):
    """A deep linear network with layers W_1 (k_1 x n), ..., W_L (m x k_{L-1}), W_1 first.

    Raises TypeError or ValueError for layers that are not real matrices or do not fit together.

    >>> import jax
    >>> network = DeepLinear.gaussian(jax.random.key(0), (5, 4), depth=3, width=2)
    >>> [layer.shape for layer in network.layers], network.matrix().shape
    ([(2, 4), (2, 2), (5, 2)], (5, 4))
    """

    layers: tuple[Float[Array, "_ _"], ...]

    def __init__(self, layers: Any):
        if not isinstance(layers, tuple | list):
            raise TypeError(
                f"`layers` must be a tuple of matrices, W_1 first, found {found(layers)}: for one "
                "matrix pass (matrix,), or use DeepLinear.balanced(matrix, depth)."
            )
        layers = tuple(
            not_empty(as_real(layer, f"layers[{j}]", 2), f"layers[{j}]")
            for j, layer in enumerate(layers)
        )
        if not layers:
            raise ValueError("`layers` is empty: a network has at least one layer.")
        for j, (lower, upper) in enumerate(itertools.pairwise(layers)):
            if lower.shape[0] != upper.shape[1]:
                raise ValueError(
                    f"`layers[{j}]` has {lower.shape[0]} rows and `layers[{j + 1}]` has "
                    f"{upper.shape[1]} columns: these must be equal (W_1 comes first)."
                )
        self.layers = layers

    @property
    def depth(self) -> int:
        """The number L of layers."""
        return len(self.layers)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the end-to-end matrix."""
        return self.layers[-1].shape[0], self.layers[0].shape[1]

    @property
    def width(self) -> int:
        """The smallest hidden width, which bounds the rank; min(m, n) for a single layer."""
        return min((layer.shape[0] for layer in self.layers[:-1]), default=min(self.shape))

    def matrix(self) -> Float[Array, "m n"]:
        """The end-to-end matrix W_L ... W_1, shape (m, n)."""
        return _product(self.layers)

    def factors(self) -> tuple[Float[Array, "m k"], Float[Array, "k n"]]:
        """The end-to-end matrix cut in two at its narrowest hidden layer: (m, k) and (k, n).

        A single layer is cut at its smaller side, with an identity.
        """
        if self.depth == 1:
            (layer,) = self.layers
            m, n = self.shape
            if m <= n:
                return jnp.eye(m, dtype=layer.dtype), layer
            return layer, jnp.eye(n, dtype=layer.dtype)
        widths = [layer.shape[0] for layer in self.layers[:-1]]
        cut = widths.index(min(widths)) + 1
        return _product(self.layers[cut:]), _product(self.layers[:cut])

    def uppers(self) -> tuple[Float[Array, "m _"] | None, ...]:
        """The products P_j = W_L ... W_{j+1}, j = 1..L; None stands for P_L = I."""
        products: list[Array | None] = [None]
        for layer in self.layers[:0:-1]:
            above = products[-1]
            products.append(layer if above is None else above @ layer)
        return tuple(products[::-1])

    def lowers(self) -> tuple[Float[Array, "_ n"] | None, ...]:
        """The products Q_j = W_{j-1} ... W_1, j = 1..L; None stands for Q_1 = I."""
        products: list[Array | None] = [None]
        for layer in self.layers[:-1]:
            below = products[-1]
            products.append(layer if below is None else layer @ below)
        return tuple(products)

    def svd(self) -> tuple[Float[Array, "m k"], Float[Array, " k"], Float[Array, "k n"]]:
        """The thin singular value decomposition of the end-to-end matrix, k <= the width.

        QR of both factors, then a decomposition of a k x k core: the matrix is not formed.
        """
        left, right = self.factors()
        return svd_of_product(left, right.T)

    def scaled(self, factor: Any) -> "DeepLinear":
        """The network of factor * W (factor > 0), the scale shared equally by the layers."""
        factor = as_positive(factor, "factor", "the scale is shared by the layers", zero=True)
        each = jnp.asarray(factor, self.layers[0].dtype) ** (1 / self.depth)
        return DeepLinear(tuple(each * layer for layer in self.layers))

    @classmethod
    def gaussian(
        cls,
        key: Any,
        shape: tuple[int, int],
        depth: int,
        width: int | None = None,
        scale: Any = 1.0,
    ) -> "DeepLinear":
        """Independent Gaussian layers; every entry of W has mean 0 and standard deviation `scale`.

        Each layer has standard deviation (scale / sqrt(k_1 ... k_{L-1}))^{1/L}, so that the layers
        share the scale. `width` defaults to min(m, n), which does not restrict the rank.
        """
        key = as_key(key)
        m, n = as_shape(shape)
        depth = positive_integer(depth, "depth")
        scale = as_positive(scale, "scale", "pass 1.0 for entries of variance one", zero=True)
        width = min(m, n) if width is None else positive_integer(width, "width")
        deviation = (scale / width ** ((depth - 1) / 2)) ** (1 / depth)
        sizes = [n, *[width] * (depth - 1), m]
        keys = jax.random.split(key, depth)
        return cls(
            tuple(
                deviation * jax.random.normal(layer_key, (upper, lower))
                for layer_key, lower, upper in zip(keys, sizes[:-1], sizes[1:], strict=True)
            )
        )

    @classmethod
    def balanced(cls, matrix: Any, depth: int, width: int | None = None) -> "DeepLinear":
        """The balanced network of a matrix: W_{j+1}^T W_{j+1} = W_j W_j^T; the least weight decay.

        With M = U diag(s) V^T, the first layer is diag(s^{1/L}) V^T, the inner ones diag(s^{1/L}),
        the last U diag(s^{1/L}). A width below the rank gives the nearest matrix of rank `width`;
        a width above min(m, n) pads with zeros.
        """
        matrix = as_matrix(matrix)
        u, s, vt = jnp.linalg.svd(matrix, full_matrices=False)
        return cls.from_svd(u, s, vt, depth, width)

    @classmethod
    def from_svd(
        cls,
        u: Any,
        s: Any,
        vt: Any,
        depth: int,
        width: int | None = None,
    ) -> "DeepLinear":
        """The balanced network of a matrix given by its singular value decomposition.

        `u` has shape (m, k), `s` (k,) and `vt` (k, n).
        """
        u, s, vt = as_floating(u, "u", 2), as_floating(s, "s", 1), as_floating(vt, "vt", 2)
        not_empty(u, "u")
        not_empty(vt, "vt")
        if not len(s) == u.shape[1] == len(vt):
            raise ValueError(
                f"`u`, `s` and `vt` have shapes {u.shape}, {s.shape} and {vt.shape}: pass a thin "
                "decomposition, (m, k), (k,) and (k, n)."
            )
        depth = positive_integer(depth, "depth")
        width = len(s) if width is None else positive_integer(width, "width")
        return cls(balanced_layers(jnp, u, s, vt, depth, width))


def balanced_layers(xp: Any, u: Any, s: Any, vt: Any, depth: int, width: int) -> tuple[Any, ...]:
    """The layers of `DeepLinear.from_svd`, by the functions of `jax.numpy` or `numpy`."""
    if depth == 1:
        return ((u * s[None]) @ vt,)
    keep, pad = min(width, len(s)), max(0, width - len(s))
    root = xp.pad(s[:keep], (0, pad)) ** (1 / depth)
    first = root[:, None] * xp.pad(vt[:keep], ((0, pad), (0, 0)))
    last = xp.pad(u[:, :keep], ((0, 0), (0, pad))) * root[None]
    return (first, *[xp.diag(root)] * (depth - 2), last)


def as_network(value: Any, name: str = "network") -> DeepLinear:
    """A network, given as such or as what holds one (a `Solution`, a `Run`); or TypeError.

    Raises ValueError for the layers of many runs at once.
    """
    network = held_network(value)
    if network is None:
        raise TypeError(
            f"`{name}` is a {type(value).__name__}: pass a DeepLinear, such as "
            "DeepLinear.balanced(matrix, depth=2) for a matrix, or a Solution."
        )
    return one_network(network, name)


def as_matrix(value: Any, name: str = "matrix", *, finite: bool = True) -> jax.Array:
    """A real matrix, given as such or as the network (or the `Solution`) whose matrix it is.

    Without `finite` its values are not looked at.
    """
    if held_network(value) is not None:
        return as_network(value, name).matrix()
    return not_empty((as_real if finite else as_floating)(value, name, 2), name)


def held_network(value: Any) -> DeepLinear | None:
    """The network, or the one that a value holds, if any."""
    network = value if isinstance(value, DeepLinear) else getattr(value, "network", None)
    return network if isinstance(network, DeepLinear) else None


def svd_of_product(
    left: Float[Array, "m k"], right: Float[Array, "n k"]
) -> tuple[Float[Array, "m r"], Float[Array, " r"], Float[Array, "r n"]]:
    """The thin singular value decomposition of left right^T, which is not formed."""
    basis_left, upper_left = jnp.linalg.qr(left)
    basis_right, upper_right = jnp.linalg.qr(after(basis_left, right))
    core = after(basis_right, upper_left @ upper_right.T)
    u, s, vt = jnp.linalg.svd(core, full_matrices=False)
    return basis_left @ u, s, vt @ basis_right.T


def _product(layers: tuple[Array, ...]) -> jax.Array:
    """W_j ... W_i of layers (W_i, ..., W_j), multiplied in the cheapest order."""
    return layers[0] if len(layers) == 1 else jnp.linalg.multi_dot(layers[::-1])
