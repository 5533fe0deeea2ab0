"""What the exact trace of the Hessian costs, beside the loss and beside estimators of it.

    make bench-flatness                   # everything, one core, a few minutes
    python benchmarks/flatness.py --help  # parts

Peers: `pip install -e '.[bench]'`. Every method gets the same layers, measurements and y; they take
turns in one process, on one core (or on the accelerator that JAX finds); medians over rounds.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from measure import keep, ratio, side_by_side, table, use_one_core

PENALTY = 0.1
PROBES = 10
DOCS = Path(__file__).parents[1] / "docs"


def problem(d: int, count: int, depth: int, dtype: str) -> tuple[Any, Any, Any]:
    import jax
    import jax.numpy as jnp

    import flatrank as fr

    keys = jax.random.split(jax.random.key(0), 3)
    A = fr.DenseMeasurements(jax.random.normal(keys[0], (count, d, d), jnp.dtype(dtype)))
    network = fr.DeepLinear(
        tuple(
            jax.random.normal(k, (d, d), jnp.dtype(dtype)) / d**0.5
            for k in jax.random.split(keys[1], depth)
        )
    )
    return network, A, jax.random.normal(keys[2], (count,), jnp.dtype(dtype))


def jax_methods(network: Any, A: Any, y: Any) -> dict[str, tuple[Callable, Callable | None]]:
    """name -> (call to be timed, value of the trace for a seed)."""
    import jax
    import matfree.stochtrace as stochtrace
    from jax.flatten_util import ravel_pytree

    import flatrank as fr

    A = jax.block_until_ready(A.prepared())
    flat, restore = ravel_pytree(network)

    @jax.jit
    def loss_gradient(network, A, y):
        return jax.value_and_grad(fr.loss)(network, A, y)

    @jax.jit
    def exact(network, A, y):
        total = lambda n: fr.loss(n, A, y) + PENALTY * fr.trace_of_hessian(n, A)  # noqa: E731
        return jax.value_and_grad(total)(network)

    estimator = stochtrace.estimator_monte_carlo(
        stochtrace.monte_carlo_trace(), stochtrace.sampler_signs(flat, num=PROBES)
    )

    def hutchinson(x, A, y, key):
        gradient = jax.grad(lambda x: fr.loss(restore(x), A, y))
        return estimator(lambda v: jax.jvp(gradient, (x,), (v,))[1], key)

    @jax.jit
    def estimated(x, A, y, key):
        total = lambda x: fr.loss(restore(x), A, y) + PENALTY * hutchinson(x, A, y, key)  # noqa: E731
        return jax.value_and_grad(total)(x)

    value = jax.jit(hutchinson)
    key = jax.random.key(1)
    ready = jax.block_until_ready
    return {
        "loss gradient alone": (lambda: ready(loss_gradient(network, A, y)), None),
        "loss + exact trace, gradient (flatrank)": (
            lambda: ready(exact(network, A, y)),
            lambda seed: float(jax.jit(fr.trace_of_hessian)(network, A)),
        ),
        f"loss + Hutchinson-{PROBES}, gradient (matfree)": (
            lambda: ready(estimated(flat, A, y, key)),
            lambda seed: float(value(flat, A, y, jax.random.key(seed))),
        ),
    }


def torch_methods(network: Any, A: Any, y: Any) -> dict[str, tuple[Callable, Callable | None]]:
    import numpy as np
    import torch
    from curvlinops import HessianLinearOperator, hutchinson_trace
    from pyhessian import hessian

    torch.set_num_threads(1)
    matrices = torch.from_numpy(np.array(A.matrices)).flatten(1)
    target = torch.from_numpy(np.array(y))

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for j, layer in enumerate(network.layers):
                self.register_parameter(
                    f"layer{j}", torch.nn.Parameter(torch.from_numpy(np.array(layer)))
                )

        def forward(self, inputs):
            matrix = self.layer0
            for j in range(1, network.depth):
                matrix = getattr(self, f"layer{j}") @ matrix
            return inputs @ matrix.reshape(-1)

    model, square = Model(), torch.nn.MSELoss()
    parameters = list(model.parameters())

    def loss_gradient():
        return torch.autograd.grad(square(model(matrices), target), parameters)

    def hutchinson(create_graph):
        loss = square(model(matrices), target)
        gradient = torch.autograd.grad(loss, parameters, create_graph=True)
        total = 0.0
        for _ in range(PROBES):
            probe = [torch.randint_like(p, 2) * 2 - 1 for p in parameters]
            product = torch.autograd.grad(
                gradient, parameters, probe, create_graph=create_graph, retain_graph=True
            )
            total = total + sum((v * h).sum() for v, h in zip(probe, product, strict=True))
        return loss, total / PROBES

    def estimated():
        loss, trace = hutchinson(create_graph=True)
        return torch.autograd.grad(loss + PENALTY * trace, parameters)

    def seeded(function):
        def value(seed):
            torch.manual_seed(seed)
            return float(function())

        return value

    operator = HessianLinearOperator(
        model, square, parameters, [(matrices, target)], check_deterministic=False
    )
    by_curvlinops = lambda: hutchinson_trace(operator, num_matvecs=PROBES)  # noqa: E731

    def by_pyhessian():
        found = hessian(model, square, data=(matrices, target), cuda=False)
        value = statistics.mean(found.trace(maxIter=PROBES, tol=0.0))
        model.zero_grad()
        return value

    return {
        "loss gradient alone (PyTorch)": (loss_gradient, None),
        f"loss + Hutchinson-{PROBES}, gradient (PyTorch)": (
            estimated,
            seeded(lambda: hutchinson(create_graph=False)[1].detach()),
        ),
        f"Hutchinson-{PROBES}, value only (curvlinops)": (by_curvlinops, seeded(by_curvlinops)),
        f"Hutchinson-{PROBES}, value only (PyHessian)": (by_pyhessian, seeded(by_pyhessian)),
    }


def peers(rounds: int, seeds: int, with_torch: bool) -> list[dict[str, Any]]:
    """d = 60, N = 1200, L = 3: time, and error or standard deviation relative to the trace."""
    import flatrank as fr

    found = []
    for dtype in ("float32", "float64"):
        network, A, y = problem(60, 1200, 3, dtype)
        methods = jax_methods(network, A, y)
        if with_torch:
            methods |= torch_methods(network, A, y)
        truth = float(fr.trace_of_hessian(*problem(60, 1200, 3, "float64")[:2]))
        if dtype == "float32":  # the same numbers, summed in float64
            import jax

            wide = jax.tree.map(lambda x: x.astype("float64"), (network, A))
            truth = float(fr.trace_of_hessian(*wide))
        seconds = side_by_side({name: call for name, (call, _) in methods.items()}, rounds)
        reference = seconds["loss gradient alone"]
        rows = []
        for name, (_, value) in methods.items():
            values = [value(seed) for seed in range(seeds)] if value else []
            row = {
                "dtype": dtype,
                "method": name,
                "milliseconds": 1e3 * statistics.median(seconds[name]),
                "ratio": ratio(seconds[name], reference),
                "error": abs(statistics.mean(values) / truth - 1) if values else None,
                "deviation": statistics.stdev(values) / abs(truth) if values else None,
            }
            rows.append(row)
        found += rows
        print(f"\nm = n = 60, N = 1200, L = 3, {dtype}; {rounds} rounds, {seeds} seeds\n")
        print(
            table(
                [
                    "method",
                    "ms",
                    "times the loss gradient",
                    "error of the mean",
                    "standard deviation",
                ],
                [
                    [
                        row["method"],
                        f"{row['milliseconds']:.2f}",
                        f"{row['ratio']:.2f}",
                        "" if row["error"] is None else f"{row['error']:.1e}",
                        "" if row["deviation"] is None else f"{row['deviation']:.1e}",
                    ]
                    for row in rows
                ],
            )
        )
    return found


def growth(rounds: int, largest: bool) -> list[dict[str, Any]]:
    """How the gradient of loss + trace grows with d, N and L; the chosen form against the other."""
    import jax

    import flatrank as fr

    base = {"d": 60, "N": 1200, "L": 3}
    grid = {
        "d": [20, 40, 60, 80, 100, 140, 200],
        "N": [100, 300, 1200, 4000, 20000],
        "L": [2, 3, 4, 6, 8],
    }
    if not largest:
        grid = {"d": [20, 40, 60], "N": [100, 300, 1200], "L": [2, 3, 4]}

    @partial(jax.jit, static_argnames="penalty")
    def gradient(network, A, y, penalty):
        total = lambda n: fr.loss(n, A, y) + penalty * fr.trace_of_hessian(n, A)  # noqa: E731
        return jax.grad(total)(network)

    @jax.jit
    def loss_gradient(network, A, y):
        return jax.grad(fr.loss)(network, A, y)

    found = []
    for varied, sizes in grid.items():
        for size in sizes:
            cell = {**base, varied: size}
            network, A, y = problem(cell["d"], cell["N"], cell["L"], "float32")
            stream = A.prepared(depth=2)
            forms = {"stream": stream}
            chosen = "end moments" if cell["L"] <= 2 else "stream"
            if cell["L"] > 2 and A.tensor_pays(cell["L"]):
                chosen = "tensor"
            if cell["L"] > 2:
                tensor = _with_tensor(stream)
                if tensor is not None:
                    forms["tensor"] = tensor
            calls = {
                name: partial(
                    lambda n, form, y: jax.block_until_ready(gradient(n, form, y, PENALTY)),
                    network,
                    form,
                    y,
                )
                for name, form in forms.items()
            }
            calls["loss"] = lambda n=network, f=stream, y=y: jax.block_until_ready(
                loss_gradient(n, f, y)
            )
            seconds = {
                name: statistics.median(values)
                for name, values in side_by_side(calls, rounds, budget=0.1).items()
            }
            taken = seconds["stream" if chosen == "end moments" else chosen]
            best = min(seconds[name] for name in forms)
            found.append(
                {
                    "varied": varied,
                    **cell,
                    "form": chosen,
                    "milliseconds": 1e3 * taken,
                    "times the loss": taken / seconds["loss"],
                    "times the best form": taken / best,
                }
            )
            print(found[-1], flush=True)
            del network, A, y, stream, forms, calls
    return found


def _with_tensor(A: Any) -> Any:
    """The measurements with the moment tensor, whether or not the cost model wants it; None: too big."""
    import equinox as eqx

    from flatrank._checks import free_memory
    from flatrank.measurements import _moments

    m, n = A.shape
    if (m * n) ** 2 // 4 * 4 > free_memory() // 4 or A.count * (m * n) ** 2 > 5e12:
        return None
    return eqx.tree_at(
        lambda A: A.moment_tensor,
        A,
        _moments.moment_tensor(A.matrices),
        is_leaf=lambda x: x is None,
    )


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The slope of log time in the upper half of each axis, form by form as chosen."""
    import numpy as np

    slopes = {}
    for varied in ("d", "N", "L"):
        mine = [row for row in rows if row["varied"] == varied]
        mine = mine[len(mine) // 2 :]
        x, t = ([row[key] for row in mine] for key in (varied, "milliseconds"))
        slopes[varied] = float(np.polyfit(np.log(x), np.log(t), 1)[0])
    return slopes


def write_growth(rows: list[dict[str, Any]], slopes: dict[str, float]) -> None:
    """docs/growth.md and its picture."""
    from measure import machine

    from flatrank.plots._canvas import canvas

    figure, axes = canvas(11.0, 3.4, 3)
    markers = {"tensor": "o", "stream": "s", "end moments": "^"}
    for axis, varied in zip(axes, ("d", "N", "L"), strict=True):
        mine = [row for row in rows if row["varied"] == varied]
        axis.loglog(
            [r[varied] for r in mine], [r["milliseconds"] for r in mine], "-", color="#b8b8b8"
        )
        for form, marker in markers.items():
            some = [row for row in mine if row["form"] == form]
            if some:
                axis.loglog(
                    [r[varied] for r in some], [r["milliseconds"] for r in some], marker, label=form
                )
        axis.loglog(
            [r[varied] for r in mine],
            [r["milliseconds"] / r["times the loss"] for r in mine],
            "k:",
            label="loss gradient alone",
        )
        axis.set(xlabel=varied, title=f"upper half: ${varied}^{{{slopes[varied]:.1f}}}$")
        axis.set_xticks([r[varied] for r in mine], [str(r[varied]) for r in mine])
        axis.minorticks_off()
    axes[0].set_ylabel("gradient of loss + trace (ms)")
    for axis in axes:
        axis.legend(frameon=False)
    figure.savefig(DOCS / "pictures" / "growth.png", dpi=110)
    about = machine()
    body = table(
        ["d = m = n", "N", "L", "form", "ms", "times the loss gradient", "times the best form"],
        [
            [
                str(r["d"]),
                str(r["N"]),
                str(r["L"]),
                r["form"],
                f"{r['milliseconds']:.2f}",
                f"{r['times the loss']:.2f}",
                f"{r['times the best form']:.2f}",
            ]
            for r in rows
        ],
    )
    (DOCS / "growth.md").write_text(
        "# How the cost of the exact trace grows\n\n"
        "Gradient of loss + trace of the Hessian, dense measurements, float32, widths d, prepared "
        f"once. Written by `make bench-flatness` on {about['device']}, one core, jax {about['jax']}, "
        f"{about['date']}.\n\n"
        "*Form*: what the inner layers use, chosen by the cost model of "
        "`DenseMeasurements.tensor_pays` (two layers need the end moments only). *Times the best "
        "form*: the price of the model's mistakes, where both forms fit.\n\n"
        f"{body}\n\n"
        "Measured exponents of the time in the upper half of each axis: "
        + ", ".join(f"{name}^{value:.2f}" for name, value in slopes.items())
        + ".\n\n![growth](pictures/growth.png)\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=["all", "peers", "growth"], default="all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, few rounds, nothing kept"
    )
    parser.add_argument("--without-torch", action="store_true", help="only the methods in JAX")
    arguments = parser.parse_args()
    use_one_core()
    import jax

    jax.config.update("jax_enable_x64", True)
    rounds, seeds = (2, 3) if arguments.quick else (arguments.rounds, arguments.seeds)
    figures: dict[str, Any] = {}
    if arguments.part in ("all", "peers"):
        figures["peers"] = peers(rounds, seeds, not arguments.without_torch)
    if arguments.part in ("all", "growth"):
        figures["growth"] = growth(rounds, not arguments.quick)
        figures["exponents"] = exponents(figures["growth"])
        if not arguments.quick:
            write_growth(figures["growth"], figures["exponents"])
    if not arguments.quick:
        keep("flatness", figures)


if __name__ == "__main__":
    main()
