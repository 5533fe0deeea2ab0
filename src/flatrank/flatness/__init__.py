"""Curvature of the loss of a deep linear network, exact."""

from .flatten import change_basis as change_basis
from .flatten import flatten as flatten
from .trace import check_fit as check_fit
from .trace import check_values as check_values
from .trace import layer_traces as layer_traces
from .trace import loss as loss
from .trace import trace_of_hessian as trace_of_hessian
