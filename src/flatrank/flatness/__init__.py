"""Curvature of the loss of a deep linear network, exact: its trace, the flattest layers, its spectrum.

`flatness.general` does the same for any JAX loss, with estimates that say how good they are.
A new quantity of curvature is one file here.
"""

from . import general as general
from ._flatten import change_basis as change_basis
from ._flatten import flatten as flatten
from ._induced import Formula as Formula
from ._induced import induced_regularizer as induced_regularizer
from ._induced import regularizer_path as regularizer_path
from ._lanczos import SpectralDensity as SpectralDensity
from ._spectrum import dense_hessian as dense_hessian
from ._spectrum import hessian_operator as hessian_operator
from ._spectrum import largest_eigenvalue as largest_eigenvalue
from ._spectrum import largest_eigenvalues as largest_eigenvalues
from ._spectrum import spectral_density as spectral_density
from ._trace import check_values as check_values
from ._trace import fitting as fitting
from ._trace import layer_traces as layer_traces
from ._trace import loss as loss
from ._trace import trace_of_hessian as trace_of_hessian
from .general import Eigenpairs as Eigenpairs
from .general import Estimate as Estimate
