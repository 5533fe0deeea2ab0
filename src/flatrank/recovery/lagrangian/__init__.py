"""Any penalty at any depth: an augmented Lagrangian over the layers."""

from ._lagrangian import Lagrangian as Lagrangian
