"""Entries that are needed to complete a line, and those that could confirm a matrix of a rank."""

import numpy as np
from jaxtyping import Bool

from ...measurements import EntryMeasurements


def core(A: EntryMeasurements, rank: int) -> Bool[np.ndarray, " N"]:
    """The entries that are left when lines of at most `rank` entries are taken away, again and again.

    A line with as many entries as the rank is completed by a linear system from the rest: its entries
    confirm nothing, and nothing needs them. What is left does not depend on the order.
    """
    rows, columns = np.asarray(A.rows), np.asarray(A.columns)
    left = np.ones(A.count, bool)
    while True:
        thin = np.zeros(A.count, bool)
        for lines, size in ((rows, A.shape[0]), (columns, A.shape[1])):
            counts = np.bincount(lines[left], minlength=size)
            thin |= left & (counts <= rank)[lines]
        if not thin.any():
            return left
        left &= ~thin
