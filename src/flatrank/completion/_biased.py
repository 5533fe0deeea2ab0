"""A deep linear network with a bias for each row and each column."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from ..network import DeepLinear

# Entries predicted at once: rows of both factors are gathered for them.
_GATHERED = 2**18


class BiasedNetwork(eqx.Module):
    """W[a, b] + r_a + c_b."""

    network: DeepLinear
    row_bias: Float[Array, " m"]
    column_bias: Float[Array, " n"]

    def in_units(self, spread: float) -> dict[str, Any]:
        """The network and the biases of the data that were divided by `spread`, biases in float64."""
        return {
            "network": self.network.scaled(spread),
            "row_bias": np.asarray(self.row_bias, np.float64) * spread,
            "column_bias": np.asarray(self.column_bias, np.float64) * spread,
        }

    def at(self, rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, " N"]:
        """The values at (rows_i, columns_i) by NumPy, float64, a bounded part gathered at a time."""
        left, right = (np.asarray(factor) for factor in self.network.factors())
        row_bias, column_bias = np.asarray(self.row_bias), np.asarray(self.column_bias)
        out = np.empty(len(rows), np.float64)
        for start in range(0, len(rows), _GATHERED):
            part = slice(start, start + _GATHERED)
            out[part] = np.einsum("ek,ek->e", left[rows[part]], right.T[columns[part]])
        return out + row_bias[rows] + column_bias[columns]
