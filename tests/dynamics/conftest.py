"""A problem that the tests of training share, away from zero loss and at it."""

import pytest

from flatrank.dynamics import interpolating_network
from training_problems import Problem, small


@pytest.fixture(scope="package")
def problem():
    """Depth 3, away from zero loss."""
    return small()


@pytest.fixture(scope="package")
def flat_problem():
    """Depth 2, at zero loss."""
    A, y, network, truth = small(depth=2)
    return Problem(A, y, interpolating_network(network, A, y), truth)
