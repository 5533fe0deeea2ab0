"""Training dynamics: steps per second beside PyTorch, and whether training follows the flow.

    make bench-dynamics                   # everything, two cores, about ten minutes
    python benchmarks/dynamics.py speed   # one part: speed, agreement, sharpness or decay

Peer: the script that a researcher would write in PyTorch (eager, SGD, one run after the other), from
the `bench` extra. Contestants take turns in one process with the same threads; medians over rounds.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measure import keep, ratio, side_by_side, table

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
CALL = 256  # steps that one timed call takes


def torch_steps(d: int, count: int, depth: int, batch: int) -> Callable[[], None]:
    """Label-noise SGD as a script in PyTorch."""
    import torch

    generator = torch.Generator().manual_seed(0)
    A = torch.randn(count, d, d, generator=generator)
    y = 0.1 * torch.randn(count, generator=generator)
    layers = [
        torch.nn.Parameter(torch.randn(d, d, generator=generator) / d**0.5) for _ in range(depth)
    ]
    optimizer = torch.optim.SGD(layers, lr=1e-3)

    def steps() -> None:
        for _ in range(CALL):
            chosen = torch.randint(0, count, (batch,))
            matrix = layers[0]
            for layer in layers[1:]:
                matrix = layer @ matrix
            outputs = torch.einsum("bij,ij->b", A[chosen], matrix)
            labels = y[chosen] + 0.1 * torch.randn(batch)
            loss = ((outputs - labels) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps


def flatrank_steps(d: int, count: int, depth: int, batch: int, runs: int) -> Callable[[], None]:
    """The same through `train`, its start and end included, nothing recorded in between."""
    import jax
    import jax.numpy as jnp

    import flatrank as fr

    keys = jax.random.split(jax.random.key(0), 3)
    A = fr.DenseMeasurements(jax.random.normal(keys[0], (count, d, d), jnp.float32))
    y = 0.1 * jax.random.normal(keys[1], (count,), jnp.float32)
    layers = tuple(
        jax.random.normal(key, (d, d), jnp.float32) / d**0.5
        for key in jax.random.split(keys[2], depth)
    )
    network = fr.DeepLinear(layers)
    key = keys[0] if runs == 1 else jax.random.split(keys[0], runs)
    # Long enough that the start and the end of a run do not count, as in the peer's.
    steps = CALL * (16 if runs == 1 else 1)

    def call() -> None:
        fr.train(
            network,
            A,
            y,
            fr.LabelNoise(1e-3, 0.1, batch),
            steps=steps,
            key=key,
            record=("loss",),
            record_every=steps,
        )

    return call


def speed(rounds: int, with_torch: bool) -> list[dict[str, Any]]:
    """Steps per second of one run and of 64 seeds, at two sizes."""
    found = []
    for d, count, depth, batch in ((60, 1200, 3, 32), (10, 60, 3, 4)):
        contestants = {
            "one run": flatrank_steps(d, count, depth, batch, 1),
            "64 seeds at once": flatrank_steps(d, count, depth, batch, 64),
        }
        taken = {"one run": 16 * CALL, "64 seeds at once": 64 * CALL, "PyTorch": CALL}
        if with_torch:
            contestants["PyTorch"] = torch_steps(d, count, depth, batch)
        seconds = side_by_side(contestants, rounds)
        each = {name: [t / taken[name] for t in times] for name, times in seconds.items()}
        for name, times in each.items():
            found.append(
                {
                    "size": f"d = {d}, N = {count}, L = {depth}, B = {batch}",
                    "method": name,
                    "steps per second": 1 / statistics.median(times),
                    "times PyTorch": ratio(each["PyTorch"], times) if with_torch else None,
                }
            )
    rows = [
        [
            str(one["size"]),
            str(one["method"]),
            f"{one['steps per second']:,.0f}",
            f"{one['times PyTorch']:.1f}" if with_torch else "-",
        ]
        for one in found
    ]
    print(table(["size", "method", "steps / s (all runs together)", "times PyTorch"], rows))
    return found


def agreements(quick: bool) -> list[dict[str, Any]]:
    """The difference to the flow by depth, optimiser and learning rate; exponents; a picture."""
    from flatrank import plots
    from flatrank.papers import _drift as drift

    rates = (8e-3, 4e-3) if quick else (4e-3, 2e-3, 1e-3, 5e-4)
    figures, rows = [], []
    for depth in (2,) if quick else (2, 3, 4):
        found = drift.agreement(drift.zero_loss_problem(depth), rates, runs=8 if quick else 16)
        for name in dict.fromkeys(one.optimizer for one in found):
            same = [one for one in found if one.optimizer == name]
            slope, error = drift.exponent(same)
            for one in same:
                figures.append(
                    {
                        "depth": depth,
                        "optimizer": name,
                        "learning_rate": one.learning_rate,
                        "steps": one.steps,
                        "largest": one.largest,
                        "mean": one.mean,
                        "standard_error": one.standard_error,
                        "exponent": slope,
                        "exponent_error": error,
                    }
                )
            shares = " / ".join(f"{100 * one.largest:.1f}" for one in same)
            means = " / ".join(f"{100 * one.mean:+.2f}" for one in same)
            rows.append([str(depth), name, shares, means, f"{slope:.2f} ± {error:.2f}"])
        if not quick:
            least = [one for one in found if one.learning_rate == min(rates)]
            curves = {"the flow": (least[0].time, least[0].flow)}
            curves |= {one.optimizer: (one.time, one.trace) for one in least}
            title = f"Depth {depth}, learning rate {min(rates):g}: one time axis"
            picture = plots.on_one_axis(curves, title)
            picture.savefig(PICTURES / f"drift-depth-{depth}.png", dpi=110)
    header = [
        "depth",
        "optimiser",
        f"largest difference, %, at {' / '.join(f'{rate:g}' for rate in rates)}",
        "mean difference, %",
        "exponent",
    ]
    print(table(header, rows))
    return figures


def sharpnesses(quick: bool) -> list[dict[str, Any]]:
    """What full-batch SAM lowers and what 1-SAM does; a picture."""
    from flatrank import plots
    from flatrank.papers import _drift as drift

    figures, rows = [], []
    for depth in (2, 3):
        found = drift.sharpness(
            drift.zero_loss_problem(depth), 2e-3, 0.05, 10_000 if quick else 300_000
        )
        for name, values in (("full batch", found.full_batch), ("1-SAM", found.single)):
            ends = {k: (float(v[0]), float(v[-1])) for k, v in values.items()}
            figures.append({"depth": depth, "SAM": name, **ends})
            shown = [f"{first:.4g} -> {last:.4g}" for first, last in ends.values()]
            rows.append([str(depth), name, *shown])
        if not quick:
            title = f"Depth {depth}: what SAM of one radius lowers"
            picture = plots.sam(found.steps, found.full_batch, found.single, title)
            picture.savefig(PICTURES / f"sam-depth-{depth}.png", dpi=110)
    print(table(["depth", "SAM", "largest eigenvalue", "trace"], rows))
    return figures


def decays(quick: bool) -> list[dict[str, Any]]:
    """The rate at which the flow comes to its limit at depth 2, beside the predicted one."""
    from flatrank.papers import _drift as drift

    figures = []
    for seed in range(2 if quick else 10):
        found = asdict(drift.decay(drift.zero_loss_problem(2, seed=seed)))
        figures.append({"seed": seed} | {k: found[k] for k in ("measured", "predicted", "fit")})
    rows = [
        [str(f["seed"]), f"{f['measured']:.3f}", f"{f['predicted']:.3f}", f"{f['fit']:.6f}"]
        for f in figures
    ]
    print(table(["seed", "rate measured", "rate predicted", "R^2 of the line"], rows))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parts = ("speed", "agreement", "sharpness", "decay")
    parser.add_argument("part", nargs="?", choices=["all", *parts], default="all")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing kept")
    parser.add_argument("--without-torch", action="store_true", help="only flatrank")
    arguments = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    rounds = 3 if arguments.quick else arguments.rounds
    calls: dict[str, Callable[[], Any]] = {
        "speed": lambda: speed(rounds, not arguments.without_torch),
        "agreement": lambda: agreements(arguments.quick),
        "sharpness": lambda: sharpnesses(arguments.quick),
        "decay": lambda: decays(arguments.quick),
    }
    chosen = parts if arguments.part == "all" else (arguments.part,)
    figures = {}
    for part in chosen:
        print(f"\n{part}")
        figures[part] = calls[part]()
    if not arguments.quick and arguments.part == "all":
        keep("dynamics", figures)


if __name__ == "__main__":
    main()
