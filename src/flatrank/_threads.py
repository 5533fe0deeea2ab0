"""Work that several threads share, and OpenBLAS held to one while they do."""

import functools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

_P = ParamSpec("_P")
_T = TypeVar("_T")
_lock = threading.Lock()
_users = 0
_limits: threadpool_limits | None = None


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(work: Callable[[Any], Any], parts: Iterable[Any], pool: Executor, others: int) -> None:
    """work(part) for each part, by this thread and so many others, each taking the next part left.

    This thread takes its share: waking another for all of it would take as long as a small table.
    """
    left = iter(list(parts))

    def work_on() -> None:
        for part in left:
            work(part)

    helpers = [pool.submit(work_on) for _ in range(others)]
    work_on()
    for helper in helpers:
        helper.result()


def one_blas_thread(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """The function, during which OpenBLAS has one thread (decision 12).

    The number of threads belongs to the process. The first of several callers at once sets it and the
    last one gives it back: had each its own limits, the first to end would give back more threads
    while others work, which changes the last bits, and the last to end would leave one thread for ever.
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
