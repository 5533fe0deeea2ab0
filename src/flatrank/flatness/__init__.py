"""Curvature of the loss of a deep linear network, exact."""

from . import general as general
from .flatten import change_basis as change_basis
from .flatten import flatten as flatten
from .general import Eigenpairs as Eigenpairs
from .general import Estimate as Estimate
from .induced import induced_regularizer as induced_regularizer
from .induced import regularizer_path as regularizer_path
from .lanczos import SpectralDensity as SpectralDensity
from .spectrum import dense_hessian as dense_hessian
from .spectrum import hessian_operator as hessian_operator
from .spectrum import largest_eigenvalue as largest_eigenvalue
from .spectrum import largest_eigenvalues as largest_eigenvalues
from .spectrum import spectral_density as spectral_density
from .trace import check_fit as check_fit
from .trace import check_values as check_values
from .trace import layer_traces as layer_traces
from .trace import loss as loss
from .trace import trace_of_hessian as trace_of_hessian
