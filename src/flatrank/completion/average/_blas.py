"""OpenBLAS held to one thread while any thread of this process draws."""

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

_P = ParamSpec("_P")
_T = TypeVar("_T")
_lock = threading.Lock()
_users = 0
_limits: threadpool_limits | None = None


def one_blas_thread(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """The function, during which OpenBLAS has one thread.

    The number of threads belongs to the process. The first of several callers at once sets it and the
    last one gives it back: had each its own limits, the first to end would give back more threads
    while others draw, which changes the last bits, and the last to end would leave one thread for ever.
    """

    @functools.wraps(function)
    def limited(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        global _users, _limits
        with _lock:
            if _users == 0:
                _limits = threadpool_limits(limits=1, user_api="blas")
            _users += 1
        try:
            return function(*args, **kwargs)
        finally:
            with _lock:
                _users -= 1
                if _users == 0 and _limits is not None:
                    _limits.restore_original_limits()
                    _limits = None

    return limited
