"""Loss + exact trace as a user writes it, beside XLA's two passes over the same arrays.

    python benchmarks/one_pass.py           # one core, a minute or two
    python benchmarks/one_pass.py --quick   # few rounds, nothing kept

All forms take turns in one process on one core; its own time is counted; medians over rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from measure import keep, ratio, side_by_side, table, use_one_core

from flatness import PENALTY, problem

CASES = [(60, count, 3, dtype) for count in (1200, 4000) for dtype in ("float32", "float64")]
LOSS, TOTAL = "loss gradient (two passes)", "loss + trace, gradient (two passes)"
NEW_LOSS, NEW_TOTAL = "loss gradient", "loss + trace, gradient"


def two_passes(A: Any) -> tuple[Callable, Callable]:
    """The loss, and loss + trace of `A.prepared()`, as XLA differentiates them (until decision 15)."""
    import jax.numpy as jnp

    from flatrank.measurements._packing import pack

    m, n = A.shape

    def gram(factor, size):
        return jnp.eye(size, dtype=A.matrices.dtype) if factor is None else factor @ factor.T

    def transpose(factor):
        return None if factor is None else factor.T

    def loss(network, A, y):
        return jnp.mean((A.apply(network.matrix()) - y) ** 2)

    def total(network, A, y):
        *pairs, last = zip(network.uppers(), network.lowers(), strict=True)
        first, *inner = pairs
        ends = jnp.vdot(gram(first[0], m), A.row_moment) + jnp.vdot(
            gram(transpose(last[1]), n), A.column_moment
        )
        left = jnp.stack([pack(gram(P, m), doubled=True) for P, _ in inner])
        right = jnp.stack([pack(gram(transpose(Q), n), doubled=True) for _, Q in inner])
        forms = jnp.sum((left @ A.moment_tensor) * right, axis=1)
        return loss(network, A, y) + PENALTY * 2 * (ends + jnp.sum(forms))

    return loss, total


def case(d: int, count: int, depth: int, dtype: str, rounds: int) -> dict[str, Any]:
    """Milliseconds and ratios of one problem, and by how much the forms differ."""
    import jax
    import jax.numpy as jnp

    import flatrank as fr

    begun = time.process_time()
    network, A, y = problem(d, count, depth, dtype)
    built = time.process_time() - begun
    loss, total = two_passes(A)
    forms = {
        LOSS: loss,
        TOTAL: total,
        NEW_LOSS: fr.loss,
        NEW_TOTAL: lambda n, A, y: fr.loss(n, A, y) + PENALTY * fr.trace_of_hessian(n, A),
    }
    calls = {}
    first: dict[str, float] = {}
    found = {}
    for name, form in forms.items():
        compiled = jax.jit(jax.value_and_grad(form))
        begun = time.process_time()
        found[name] = jax.block_until_ready(compiled(network, A, y))
        first[name] = time.process_time() - begun
        calls[name] = lambda f=compiled: jax.block_until_ready(f(network, A, y))
    seconds = side_by_side(calls, rounds, budget=0.05, clock=time.process_time)
    error = max(
        float(jnp.max(jnp.abs(one - two)) / jnp.max(jnp.abs(two)))
        for one, two in zip(
            jax.tree.leaves(found[NEW_TOTAL]), jax.tree.leaves(found[TOTAL]), strict=True
        )
    )
    return {
        "d": d,
        "N": count,
        "L": depth,
        "dtype": dtype,
        "milliseconds": {name: 1e3 * statistics.median(s) for name, s in seconds.items()},
        "loss + trace / the same in two passes": ratio(seconds[NEW_TOTAL], seconds[TOTAL]),
        "loss + trace / loss in two passes": ratio(seconds[NEW_TOTAL], seconds[LOSS]),
        "loss / loss in two passes": ratio(seconds[NEW_LOSS], seconds[LOSS]),
        "largest relative difference": error,
        "seconds to draw and prepare": built,
        "seconds of the first call": first,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    use_one_core()
    import jax

    jax.config.update("jax_enable_x64", True)
    rows = []
    for one in CASES:
        rows.append(case(*one, 3 if arguments.quick else arguments.rounds))
        print(rows[-1], flush=True)
    ratios = [name for name in rows[0] if " / " in name]
    print(
        table(
            ["N", "data type", "ms", *ratios, "difference"],
            [
                [
                    str(row["N"]),
                    row["dtype"],
                    f"{row['milliseconds'][NEW_TOTAL]:.2f}",
                    *(f"{row[name]:.2f}" for name in ratios),
                    f"{row['largest relative difference']:.0e}",
                ]
                for row in rows
            ],
        )
    )
    if not arguments.quick:
        keep("one-pass", {"cases": rows})


if __name__ == "__main__":
    main()
