"""Two machines for one text: NumPy on the CPU, and XLA for accelerators, `jit` and `vmap`.

An algorithm is written once, with the functions of `machine.xp` and the control flow below. Under XLA a
program for every shape is compiled, 10 s of it for one `recover`; NumPy begins at once. Shapes are fixed
under XLA, where a direction that is dropped becomes a zero column; on the host it goes.
"""

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._order import after
from .._progress import OnStep
from ._tell import tell, told


class Stop:
    """When to give up before the end, and why a solve did: a deadline, or Ctrl-C.

    * `reason`: None while nothing has stopped it.
    """

    reason: Literal["time", "interrupt"] | None

    def __init__(self, max_seconds: float | None = None):
        self.reason = None
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds

    @property
    def limited(self) -> bool:
        """Whether there is a deadline."""
        return self._deadline is not None

    def now(self) -> bool:
        """Whether to stop."""
        if self.reason is None and self._deadline is not None and time.monotonic() > self._deadline:
            self.reason = "time"
        return self.reason is not None


class Xla(NamedTuple):
    """Compiled programs of fixed shapes."""

    xp: Any = jnp

    def run(self, function: Callable, *arguments: Any, **options: Any) -> Any:
        """The function of these arguments, compiled."""
        return _compiled(function)(*arguments, **options)

    def loop(self, go_on: Callable, body: Callable, state: Any, stop: Stop | None = None) -> Any:
        """The state after `body` was applied as long as `go_on`; nothing can stop it on the way."""
        return jax.lax.while_loop(go_on, body, state)

    def either(self, condition: Any, yes: Callable, no: Callable) -> Any:
        """What the first function gives where the condition holds, else the second."""
        return jax.lax.cond(condition, yes, no)

    def chosen(self, condition: Any, yes: Any, no: Any) -> Any:
        """The first tree of arrays where the condition holds, else the second."""
        return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)

    def put(self, values: Any, place: Any, value: Any) -> Any:
        """The values with one of them replaced."""
        return values.at[place].set(value)

    def after(self, earlier: Any, later: Any) -> Any:
        """`later`, not computed on before `earlier` is known (decision 3)."""
        return after(earlier, later)

    def live(self, alive: Any, *columns: Any) -> tuple:
        """Columns of which some are dead; shapes are fixed, so that they stay."""
        return columns

    def normal(self, key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        """Standard normal numbers."""
        return jax.random.normal(key, shape, dtype)

    def integer(self, value: int) -> Any:
        """A counter."""
        return jnp.asarray(value)

    def tell(self, on_step: OnStep | None, step: Any, residual: Any, limit: int) -> None:
        """Tell of a step from within compiled code."""
        tell(on_step, step, residual, limit)


class Host(NamedTuple):
    """NumPy and machine code, in Python's own control flow."""

    xp: Any = np

    def run(self, function: Callable, *arguments: Any, **options: Any) -> Any:
        """The function of these arguments."""
        with np.errstate(all="ignore"):  # as under XLA: what is not finite is looked for
            return function(*arguments, **options)

    def loop(self, go_on: Callable, body: Callable, state: Any, stop: Stop | None = None) -> Any:
        """The state after `body` was applied as long as `go_on`, or until `stop`: the best so far."""
        while go_on(state):
            if stop is not None and stop.now():
                break
            try:
                state = body(state)
            except KeyboardInterrupt:
                if stop is None:
                    raise
                stop.reason = "interrupt"
        return state

    def either(self, condition: Any, yes: Callable, no: Callable) -> Any:
        """What the first function gives where the condition holds, else the second."""
        return yes() if condition else no()

    def chosen(self, condition: Any, yes: Any, no: Any) -> Any:
        """The first value where the condition holds, else the second."""
        return yes if condition else no

    def put(self, values: Any, place: Any, value: Any) -> Any:
        """The values with one of them replaced."""
        values = values.copy()
        values[place] = value
        return values

    def after(self, earlier: Any, later: Any) -> Any:
        """`later`: one thing is done after the other here."""
        return later

    def live(self, alive: Any, *columns: Any) -> tuple:
        """The columns that are alive, but at least one of each."""
        alive = alive if alive.any() else np.arange(len(alive)) == 0
        return columns if alive.all() else tuple(column[..., alive] for column in columns)

    def normal(self, key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        """Standard normal numbers, always in float64."""
        words = np.asarray(jax.random.key_data(key)).ravel().tolist()
        return np.random.Generator(np.random.Philox(words)).standard_normal(shape)

    def integer(self, value: int) -> Any:
        """A counter."""
        return value

    def tell(self, on_step: OnStep | None, step: Any, residual: Any, limit: int) -> None:
        """Tell of a step."""
        if on_step is not None:
            told(on_step, int(step), float(residual), limit)


Machine = Xla | Host
XLA, HOST = Xla(), Host()

_programs: dict[Callable, Any] = {}


def _compiled(function: Callable) -> Any:
    if function not in _programs:
        _programs[function] = eqx.filter_jit(function)
    return _programs[function]
