"""10,000 random exact problems: does `recover` ever call a wrong matrix a success?

    make bench-never-wrong                         # all of them, one core, kept
    python benchmarks/never_wrong.py --only 123    # one problem again

`exact_problems.py` draws them, from below the information limit (oversampling 0.8) to twice as far, and
decides by dense algebra whether the truth is determined. A matrix is right up to a relative Frobenius
error of 1e-6. Exceptions are printed with their number: another matrix, or an entry of another value,
that is called determined; a success where the truth is not determined; no success where it is, and was
found; whatever is raised.
"""

import argparse
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from exact_problems import ACCURACY, OUTCOMES, Problem, Verdict, determinacy, judge, problem
from measure import keep, machine, table, use_one_core

PAGE = Path(__file__).parents[1] / "docs" / "never-wrong.md"
# Programs of all shapes at once exceed the memory maps that Linux allows.
ROUND = 100


def solved(one: Problem) -> tuple[Any, Verdict, float]:
    """The solution, the verdict on it, and the seconds that `recover` took."""
    import flatrank as fr

    A, y = one.measurements(), one.y
    start = time.perf_counter()
    solution = fr.recover(A, y)
    seconds = time.perf_counter() - start
    return solution, judge(one, solution), seconds


def exception(one: Problem, solution: Any, verdict: Verdict) -> str | None:
    """What is wrong with a claim, in a line; None: nothing."""
    rank = int(solution.rank)
    if verdict.outcome == "wrong, claimed":
        # What was found may itself be the only matrix of its rank: the measurements cannot tell.
        X = np.asarray(solution.matrix)
        itself = determinacy(one, X, rank) if rank else "no"
        what = f"wrong, claimed: error {verdict.error:.1e}, rank {rank}"
        return f"{one}: {what}; truth determined: {verdict.determined}, found: {itself}"
    if verdict.outcome == "open, claimed":
        return f"{one}: right, claimed; truth determined: {verdict.determined}"
    if verdict.wrong_entries:
        return f"{one}: {verdict.wrong_entries} of {verdict.entries} entries called determined are wrong"
    if verdict.outcome == "right, not claimed":
        return f"{one}: right and determined, not claimed: {verdict.result}"
    return None


def run(first: int, count: int, kept: bool) -> dict[str, Any]:
    """All problems in turn; figures so far are printed, and kept if they are to be, every `ROUND`."""
    import jax

    counts: dict[str, Counter] = {}
    results: Counter = Counter()
    exceptions, seconds, errors = [], [], [0.0]
    figures: dict[str, Any] = {}
    begin = time.perf_counter()
    for number in range(first, first + count):
        one = problem(number)
        try:
            solution, verdict, elapsed = solved(one)
        except Exception as error:  # a benchmark of 10,000 goes on
            exceptions.append(f"{one}: raised {type(error).__name__}: {error}")
            print(exceptions[-1], flush=True)
            continue
        seconds.append(elapsed)
        if verdict.outcome == "right, claimed":
            errors.append(verdict.error)
        # Without the numbers of this one.
        results[verdict.result.split(" Not determined:")[0], verdict.right] += 1
        for kind in ("all", one.seen, one.made + " matrix"):
            mine = counts.setdefault(kind, Counter())
            mine[verdict.outcome] += 1
            mine["entries"] += verdict.entries
            mine["wrong entries"] += verdict.wrong_entries
        found = exception(one, solution, verdict)
        if found:
            exceptions.append(found)
            print(found, flush=True)
        done = number + 1 - first
        if done % ROUND == 0 or done == count:
            figures = {
                "first": first,
                "problems": done,
                "counts": {kind: dict(mine) for kind, mine in counts.items()},
                "results": [[*what, times] for what, times in results.most_common()],
                "largest error claimed right": max(errors),
                "exceptions": exceptions,
                "seconds": time.perf_counter() - begin,
                "median seconds": statistics.median(seconds),
                "largest seconds": max(seconds),
            }
            print(f"{done} in {figures['seconds']:.0f} s: {dict(counts['all'])}", flush=True)
            if kept:
                keep("never-wrong", figures)
            jax.clear_caches()
    return figures


def counted(figures: dict[str, Any]) -> str:
    """The table of outcomes for each kind of measurements and of matrix."""
    columns = [*OUTCOMES, "entries", "wrong entries"]
    kinds = sorted(
        figures["counts"], key=lambda kind: (kind != "all", kind.endswith("matrix"), kind)
    )
    rows = [[kind, *(str(figures["counts"][kind].get(c, 0)) for c in columns)] for kind in kinds]
    return table(["kind", *columns], rows)


def page(figures: dict[str, Any], about: dict[str, Any]) -> str:
    """docs/never-wrong.md."""
    outcomes = "\n".join(f"* *{name}*: {meaning}." for name, meaning in OUTCOMES.items())
    exceptions = "\n".join(f"* {line}" for line in figures["exceptions"]) or "None."
    return f"""# Never wrong

`recover` on {figures["problems"]:,} random exact problems: how often does it call another matrix than
the truth a success? Written by `make bench-never-wrong` on {about["device"]},
one core, float64, jax {about["jax"]}, {about["date"]}, in {figures["seconds"] / 60:.0f} minutes.
`recover` takes {1e3 * figures["median seconds"]:.0f} ms (median; at most
{figures["largest seconds"]:.1f} s).

Shapes from 4 x 4 to 60 x 60 (20 x 20 where measurements are not entries), ranks 1 to 4, measurements
from 0.8 times to twice the degrees of freedom: many do not determine the matrix, on purpose. Whether
they do is decided without flatrank, by dense singular value decompositions at the truth: no move that
keeps the rank is unseen, and no measurement is needed for that, lines aside that have just as many
entries as the rank. A matrix is right up to a relative error of {ACCURACY:.0e}. The problems are
drawn by `benchmarks/exact_problems.py`.

{counted(figures)}

{outcomes}
* *entries*: called determined. *wrong entries*: called determined, and another value.

The largest error of what is right and called a success: {figures["largest error claimed right"]:.0e}.

## Exceptions

Each can be run again: `python benchmarks/never_wrong.py --only NUMBER`.

{exceptions}
"""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first problem")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one problem, in full")
    parser.add_argument("--keep", action="store_true", help=f"write results and docs/{PAGE.name}")
    arguments = parser.parse_args()
    use_one_core()
    import jax

    jax.config.update("jax_enable_x64", True)
    if arguments.only is not None:
        one = problem(arguments.only)
        solution, verdict, seconds = solved(one)
        print(one, *verdict._asdict().items(), ("seconds", seconds), sep="\n")
        print(exception(one, solution, verdict) or "no exception")
        return
    figures = run(arguments.first, arguments.problems, arguments.keep)
    print(counted(figures))
    for sentence, right, times in figures["results"]:
        print(f"{times} {'right' if right else 'wrong'}: {sentence}")
    if arguments.keep:
        PAGE.write_text(page(figures, machine()))


if __name__ == "__main__":
    main()
