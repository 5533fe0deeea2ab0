"""Exact recovery beside its peers: near the information limit, ill conditioned, large.

    make bench-recovery                     # everything, one core, about an hour
    python benchmarks/recovery.py --help    # single cells, fewer seeds

Peers: `pip install -e '.[bench]'`. *They are told the rank, flatrank is not.* pymanopt runs conjugate
gradients on the manifold of fixed-rank matrices; ScaledASD (Tanner and Wei 2016) and ScaledGD (Tong, Ma
and Chi 2021) are plain ports, below; cvxpy minimises the nuclear norm. Each gets `--limit` seconds a
problem and starts from the truncated singular value decomposition. Compilation is not counted: every
problem of flatrank is solved twice and the second time is taken; the first is reported beside it.

Masks are uniform, drawn again until every row and column has at least `rank` entries and no entry
joins a row and a column that have just `rank` of them: such an entry leaves one equation for two
unknowns, and nobody could recover the matrix.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measure import keep, table, use_one_core

DEPTH = 4


class Entries(NamedTuple):
    """A completion problem: the factors of the truth, the observed entries."""

    left: np.ndarray
    right: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.left), len(self.right)

    @property
    def rank(self) -> int:
        return self.left.shape[1]

    def values(self) -> np.ndarray:
        return np.einsum("ik,ik->i", self.left[self.rows], self.right[self.columns])

    def error(self, left: np.ndarray, right: np.ndarray) -> float:
        """The relative error of left right^T in blocks of rows, without a matrix of doubles."""
        square = total = 0.0
        for i in range(0, len(self.left), 500):
            truth = self.left[i : i + 500] @ self.right.T
            square += float(np.sum((left[i : i + 500] @ right.T - truth) ** 2))
            total += float(np.sum(truth**2))
        return (square / total) ** 0.5


def completion(
    m: int,
    n: int,
    rank: int,
    oversampling: float,
    seed: int,
    condition: float = 1.0,
    popular: bool = False,
) -> Entries:
    rng = np.random.default_rng([seed, m, n, rank, int(1000 * oversampling), int(condition)])
    left, right = rng.standard_normal((m, rank)), rng.standard_normal((n, rank))
    if condition > 1:
        spectrum = np.logspace(0, -np.log10(condition), rank)
        left, right = np.linalg.qr(left)[0] * spectrum, np.linalg.qr(right)[0]
    count = round(oversampling * rank * (m + n - rank))
    draw = _popular if popular else _uniform
    return Entries(left, right, *draw(rng, m, n, rank, count))


def _uniform(
    rng: np.random.Generator, m: int, n: int, rank: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    while True:
        flat = rng.choice(m * n, count, replace=False, shuffle=False)
        rows, columns = flat // n, flat % n
        by_row, by_column = (
            np.bincount(rows, minlength=m),
            np.bincount(columns, minlength=n),
        )
        tight = (by_row[rows] == rank) & (by_column[columns] == rank)
        if min(by_row.min(), by_column.min()) >= rank and not tight.any():
            return rows, columns


def _popular(
    rng: np.random.Generator, m: int, n: int, rank: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column popularity decaying as 1/k; lines with too few entries are topped up."""
    weights = -np.log(np.arange(1, m + 1))[:, None] - np.log(np.arange(1, n + 1))[None]
    keys = weights + rng.gumbel(size=(m, n))
    mask = keys >= np.partition(keys.ravel(), -count)[-count]
    for view in (mask, mask.T):
        for line in view:
            missing = rank - line.sum()
            if missing > 0:
                line[rng.choice(np.flatnonzero(~line), missing, replace=False)] = True
    return np.nonzero(mask)


class Outcome(NamedTuple):
    error: float
    seconds: float
    first_seconds: float | None = None


def flatrank_completion(problem: Entries, limit: float) -> Outcome:
    import jax
    import jax.numpy as jnp

    import flatrank as fr

    A = fr.EntryMeasurements(problem.rows, problem.columns, problem.shape)
    y = jnp.asarray(problem.values())
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        solution = jax.block_until_ready(fr.recover(A, y, DEPTH, fr.WeightDecay()))
        seconds.append(time.perf_counter() - start)
    left, right = (np.asarray(x) for x in solution.network.factors())
    return Outcome(problem.error(left, right.T), seconds[1], seconds[0])


def _spectral(problem: Entries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import scipy.sparse
    import scipy.sparse.linalg

    y, (m, n) = problem.values(), problem.shape
    filled = scipy.sparse.csr_array((y, (problem.rows, problem.columns)), shape=problem.shape)
    u, s, vt = scipy.sparse.linalg.svds(filled * (m * n / len(y)), problem.rank)
    return u[:, ::-1], s[::-1], vt[::-1]


def _sparse_gradient(problem: Entries) -> Callable[[np.ndarray], Any]:
    import scipy.sparse

    def build(residual: np.ndarray) -> Any:
        return scipy.sparse.csr_array(
            (residual, (problem.rows, problem.columns)), shape=problem.shape
        )

    return build


def scaled_gd(problem: Entries, limit: float) -> Outcome:
    """L <- L - eta G R (R^T R)^{-1}, R <- R - eta G^T L (L^T L)^{-1}, G = residual / p, eta = 1/2.

    The published step diverges near the limit: a step that raises the residual is undone and eta halved.
    """
    start = time.perf_counter()
    y, sparse = problem.values(), _sparse_gradient(problem)
    u, s, vt = _spectral(problem)
    L, R = u * np.sqrt(s), vt.T * np.sqrt(s)
    p = len(y) / (problem.shape[0] * problem.shape[1])
    norm = np.linalg.norm(y)
    eta, before, kept = 0.5, np.inf, (L, R)
    while time.perf_counter() - start < limit:
        residual = np.einsum("ik,ik->i", L[problem.rows], R[problem.columns]) - y
        now = np.linalg.norm(residual)
        if not now <= before:
            (L, R), eta = kept, eta / 2
            before = np.inf
            continue
        if now < 1e-13 * norm or eta < 1e-6:
            break
        before, kept = now, (L, R)
        G = sparse(residual / p)
        step_L = np.linalg.solve(R.T @ R, (G @ R).T).T
        step_R = np.linalg.solve(L.T @ L, (G.T @ L).T).T
        L, R = L - eta * step_L, R - eta * step_R
    return Outcome(problem.error(*kept), time.perf_counter() - start)


def scaled_asd(problem: Entries, limit: float) -> Outcome:
    """Alternating scaled steepest descent with exact line searches."""
    start = time.perf_counter()
    y, sparse = problem.values(), _sparse_gradient(problem)
    rows, columns = problem.rows, problem.columns
    u, s, vt = _spectral(problem)
    L, R = u * np.sqrt(s), vt.T * np.sqrt(s)
    norm = np.linalg.norm(y)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.einsum("ik,ik->i", a[rows], b[columns])

    residual = y - product(L, R)
    while time.perf_counter() - start < limit and np.linalg.norm(residual) > 1e-13 * norm:
        gradient = sparse(residual) @ R
        direction = np.linalg.solve(R.T @ R, gradient.T).T
        image = product(direction, R)
        length = np.sum(gradient * direction) / np.sum(image**2)
        L, residual = L + length * direction, residual - length * image
        gradient = sparse(residual).T @ L
        direction = np.linalg.solve(L.T @ L, gradient.T).T
        image = product(L, direction)
        length = np.sum(gradient * direction) / np.sum(image**2)
        R, residual = R + length * direction, residual - length * image
    return Outcome(problem.error(L, R), time.perf_counter() - start)


def pymanopt_cg(problem: Entries, limit: float) -> Outcome:
    import pymanopt

    start = time.perf_counter()
    y, sparse = problem.values(), _sparse_gradient(problem)
    manifold = pymanopt.manifolds.FixedRankEmbedded(*problem.shape, problem.rank)

    def residual(u: np.ndarray, s: np.ndarray, vt: np.ndarray) -> np.ndarray:
        return np.einsum("ik,ik->i", (u * s)[problem.rows], vt.T[problem.columns]) - y

    @pymanopt.function.numpy(manifold)
    def cost(u: np.ndarray, s: np.ndarray, vt: np.ndarray) -> float:
        return 0.5 * float(np.sum(residual(u, s, vt) ** 2))

    @pymanopt.function.numpy(manifold)
    def gradient(u: np.ndarray, s: np.ndarray, vt: np.ndarray) -> tuple:
        G = sparse(residual(u, s, vt))
        Gv, Gtu = G @ vt.T, G.T @ u
        return Gv * s, np.einsum("ij,ij->j", u, Gv), (Gtu * s).T

    solver = pymanopt.optimizers.ConjugateGradient(
        max_time=limit,
        max_iterations=100_000,
        min_gradient_norm=1e-13 * np.linalg.norm(y),
        min_step_size=1e-16,
        verbosity=0,
    )
    task = pymanopt.Problem(manifold, cost, euclidean_gradient=gradient)
    point = solver.run(task, initial_point=_spectral(problem)).point
    u, s, vt = (np.asarray(x) for x in point)
    return Outcome(problem.error(u * s, vt.T), time.perf_counter() - start)


SOLVERS = {
    "flatrank (rank not told)": flatrank_completion,
    "pymanopt CG": pymanopt_cg,
    "ScaledASD": scaled_asd,
    "ScaledGD": scaled_gd,
}

CELLS: dict[str, dict[str, Any]] = {
    **{
        f"300x300 rank 10, {os}": {"m": 300, "n": 300, "rank": 10, "oversampling": os}
        for os in (1.5, 1.2, 1.1, 1.05)
    },
    **{
        f"1000x1000 rank 10, {os}": {"m": 1000, "n": 1000, "rank": 10, "oversampling": os}
        for os in (1.5, 1.2, 1.1, 1.05)
    },
    "400x250 rank 25, 1.2": {"m": 400, "n": 250, "rank": 25, "oversampling": 1.2},
    "300x300 rank 10, popularity 1/k, 3": {
        "m": 300,
        "n": 300,
        "rank": 10,
        "oversampling": 3,
        "popular": True,
    },
    "300x300 rank 10, condition 1e5, 2": {
        "m": 300,
        "n": 300,
        "rank": 10,
        "oversampling": 2,
        "condition": 1e5,
    },
    "5000x5000 rank 10, 2": {"m": 5000, "n": 5000, "rank": 10, "oversampling": 2},
}


def run_completion(
    chosen: list[str], seeds: int, peer_seeds: int, limit: float, first_seed: int
) -> list[dict[str, Any]]:
    found = []
    for cell in chosen:
        problems = [completion(**CELLS[cell], seed=first_seed + seed) for seed in range(seeds)]
        for name, solver in SOLVERS.items():
            ours = solver is flatrank_completion
            some = problems if ours else problems[:peer_seeds]
            if not some:
                continue
            outcomes = [solver(problem, limit) for problem in some]
            errors = [outcome.error for outcome in outcomes]
            row = {
                "cell": cell,
                "solver": name,
                "seeds": len(some),
                "within 1e-5": sum(e <= 1e-5 for e in errors),
                "within 1e-12": sum(e <= 1e-12 for e in errors),
                "median error": statistics.median(errors),
                "largest error": max(errors),
                "median seconds": statistics.median(o.seconds for o in outcomes),
                "largest seconds": max(o.seconds for o in outcomes),
                "first seconds": outcomes[0].first_seconds,
                "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
            found.append(row)
            print(
                f"{cell}: {name}: {row['within 1e-5']}/{len(some)} (1e-12: {row['within 1e-12']}), "
                f"median error {row['median error']:.1e}, median {row['median seconds']:.2f} s, "
                f"largest {row['largest seconds']:.2f} s, peak {row['peak GiB']:.1f} GiB",
                flush=True,
            )
    return found


def run_sensing(seeds: int, convex: bool) -> list[dict[str, Any]]:
    """60 x 60, rank 3: dense Gaussian and rank-one measurements; flatness against the nuclear norm."""
    import jax

    import flatrank as fr
    from flatrank.problems import low_rank_matrix

    found = []
    freedom = 3 * (60 + 60 - 3)
    for kind, times in (("Gaussian", 1.1), ("Gaussian", 1.3), ("Gaussian", 2.0), ("rank one", 2.0)):
        count = int(times * freedom)
        errors, seconds, differences = [], [], []
        for seed in range(seeds):
            keys = jax.random.split(jax.random.key(seed), 3)
            truth = low_rank_matrix(keys[0], (60, 60), 3)
            if kind == "Gaussian":
                A: Any = fr.gaussian_measurements(keys[1], count, (60, 60))
            else:
                sides = (jax.random.normal(k, (count, 60)) for k in jax.random.split(keys[1]))
                A = fr.RankOneMeasurements(*sides)
            y = A.apply(truth)
            for _ in range(2):
                start = time.perf_counter()
                solution = jax.block_until_ready(fr.recover(A, y, DEPTH, fr.WeightDecay()))
                elapsed = time.perf_counter() - start
            seconds.append(elapsed)
            error = np.linalg.norm(solution.matrix - truth) / np.linalg.norm(truth)
            errors.append(float(error))
            if convex and kind == "Gaussian" and seed == 0:
                differences.append(_against_nuclear_norm(A, y))
        row = {
            "cell": f"{kind} 60x60 rank 3, {times}",
            "seeds": seeds,
            "within 1e-5": sum(e <= 1e-5 for e in errors),
            "within 1e-12": sum(e <= 1e-12 for e in errors),
            "median error": statistics.median(errors),
            "median seconds": statistics.median(seconds),
            "flatness against the weighted nuclear norm": differences,
        }
        found.append(row)
        print(row, flush=True)
    return found


def _against_nuclear_norm(A: Any, y: Any) -> dict[str, float]:
    """The flattest depth-2 interpolator against cvxpy's minimiser of the same weighted nuclear norm."""
    import cvxpy
    import jax.numpy as jnp

    import flatrank as fr
    from flatrank.recovery import Lagrangian

    start = time.perf_counter()
    solution = fr.recover(A, y, 2, fr.Flatness(), method=Lagrangian(max_inner_steps=400))
    ours = time.perf_counter() - start
    m, n = A.shape
    left = np.linalg.cholesky(np.asarray(A.second_moment(jnp.eye(n)))).T
    right = np.linalg.cholesky(np.asarray(A.second_moment_adjoint(jnp.eye(m)))).T
    X = cvxpy.Variable((m, n))
    matrices = np.asarray(A.matrices).reshape(A.count, -1)
    constraint = matrices @ cvxpy.vec(X, order="C") == np.asarray(y)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(left @ X @ right.T)), [constraint])
    start = time.perf_counter()
    problem.solve(solver=cvxpy.SCS, eps=1e-7, max_iters=20_000)
    theirs = time.perf_counter() - start
    gap = fr.certificate(solution, A, y)
    return {
        "penalty / cvxpy SCS - 1": float(solution.penalty) / (4 * problem.value) - 1,
        "duality gap (certificate)": float(gap.gap),
        "matrix difference": float(
            np.linalg.norm(solution.matrix - X.value) / np.linalg.norm(X.value)
        ),
        "seconds, compilation included": ours,
        "seconds of cvxpy": theirs,
    }


def run_noise(seeds: int) -> list[dict[str, Any]]:
    """Error over that of an oracle: least squares from the truth, on its rank, by scipy."""
    import jax.numpy as jnp

    import flatrank as fr

    found = []
    for kind in ("entries 100x80 rank 5, 2.5", "Gaussian 40x40 rank 3, 2"):
        for level in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
            known, unknown, ranks, estimates = [], [], [], []
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                if kind.startswith("entries"):
                    problem = completion(100, 80, 5, 2.5, seed)
                    A: Any = fr.EntryMeasurements(problem.rows, problem.columns, (100, 80))
                else:
                    problem = completion(40, 40, 3, 2, seed)
                    A = fr.DenseMeasurements(rng.standard_normal((len(problem.rows), 40, 40)))
                truth = jnp.asarray(problem.left @ problem.right.T)
                clean = A.apply(truth)
                sigma = level * float(jnp.sqrt(jnp.mean(clean**2)))
                y = clean + sigma * jnp.asarray(rng.standard_normal(len(clean)))
                best = _oracle_error(A, y, problem)
                for noise, errors in ((sigma, known), ("auto", unknown)):
                    solution = fr.recover(A, y, DEPTH, fr.WeightDecay(), noise=noise)
                    error = jnp.linalg.norm(solution.matrix - truth) / jnp.linalg.norm(truth)
                    errors.append(float(error) / best)
                    ranks.append(int(solution.rank) == problem.rank)
                estimates.append(float(solution.noise) / sigma)
            row = {
                "problem": kind,
                "noise": level,
                "seeds": seeds,
                "told, median": statistics.median(known),
                "told, largest": max(known),
                "auto, median": statistics.median(unknown),
                "auto, largest": max(unknown),
                "rank found": sum(ranks) / len(ranks),
                "noise estimated / true, median": statistics.median(estimates),
            }
            found.append(row)
            print(row, flush=True)
    return found


def _oracle_error(A: Any, y: Any, problem: Entries) -> float:
    import jax
    import jax.numpy as jnp
    import scipy.optimize

    (m, n), r = problem.shape, problem.rank

    def residual(x: Any) -> Any:
        return A.apply(x[: m * r].reshape(m, r) @ x[m * r :].reshape(n, r).T) - y

    u, s, vt = np.linalg.svd(problem.left @ problem.right.T, full_matrices=False)
    root = np.sqrt(s[:r])
    start = np.concatenate([(u[:, :r] * root).ravel(), (vt[:r].T * root).ravel()])
    value, slope = jax.jit(residual), jax.jit(jax.jacobian(residual))
    best = scipy.optimize.least_squares(
        lambda x: np.asarray(value(jnp.asarray(x))),
        start,
        jac=lambda x: np.asarray(slope(jnp.asarray(x))),
        method="trf",
        xtol=1e-12,
        ftol=1e-14,
        gtol=1e-14,
        max_nfev=30,
    ).x
    return problem.error(best[: m * r].reshape(m, r), best[m * r :].reshape(n, r))


_DIFFERENCES = ("penalty / cvxpy SCS - 1", "duality gap (certificate)", "matrix difference")
_SECONDS = ("seconds, compilation included", "seconds of cvxpy")


def write_page(kept: Path) -> None:
    """docs/recovery.md from the figures that were kept."""
    figures = json.loads(kept.read_text())
    completion_rows = table(
        [
            "problem (oversampling)",
            "solver",
            "within 1e-5",
            "median error",
            "median s",
            "largest s",
        ],
        [
            [
                row["cell"],
                row["solver"],
                f"{row['within 1e-5']} of {row['seeds']}",
                f"{row['median error']:.0e}",
                f"{row['median seconds']:.2f}",
                f"{row['largest seconds']:.2f}",
            ]
            for row in figures["completion"]
        ],
    )
    sensing_rows = table(
        ["problem (measurements / degrees of freedom)", "within 1e-5", "median error", "median s"],
        [
            [
                row["cell"],
                f"{row['within 1e-5']} of {row['seeds']}",
                f"{row['median error']:.0e}",
                f"{row['median seconds']:.2f}",
            ]
            for row in figures["sensing"]
        ],
    )
    convex_rows = table(
        ["problem", "penalty / cvxpy's - 1", "proved gap", "matrices differ by", "s", "s, cvxpy"],
        [
            [
                row["cell"],
                *(f"{found[name]:.0e}" for name in _DIFFERENCES),
                *(f"{found[name]:.0f}" for name in _SECONDS),
            ]
            for row in figures["sensing"]
            for found in row["flatness against the weighted nuclear norm"]
        ],
    )
    noise_rows = table(
        ["problem", "noise", "told: median (largest)", "auto: median (largest)", "rank found"],
        [
            [
                row["problem"],
                f"{row['noise']:.0e}",
                f"{row['told, median']:.2f} ({row['told, largest']:.2f})",
                f"{row['auto, median']:.2f} ({row['auto, largest']:.2f})",
                f"{100 * row['rank found']:.0f}%",
            ]
            for row in figures["noise"]
        ],
    )
    first = [r["first seconds"] for r in figures["completion"] if r["first seconds"]]
    gibibytes = max(
        r["peak GiB"] for r in figures["completion"] if r["solver"].startswith("flatrank")
    )
    page = f"""# Recovery beside its peers

Written by `make bench-recovery` on {figures["device"]}, one core, float64, jax
{figures["jax"]}, {figures["date"]}. flatrank: `recover(A, y, depth={figures["depth"]},
penalty=WeightDecay())`; **it is not told the rank, the peers are**. Peers get
{figures["limit"]:.0f} s a problem and fewer seeds. Compilation is not counted; the first problem of a
shape takes {min(first):.0f} to {max(first):.0f} s with it. Peak memory of the whole run:
{gibibytes:.1f} GiB. Masks that leave a matrix undetermined are drawn again (the docstring of
`benchmarks/recovery.py` has the rule).

## Missing entries

{completion_rows}

## Dense and rank-one measurements

Weight decay, depth {figures["depth"]}:

{sensing_rows}

Flatness at depth 2 against the minimiser of the same weighted nuclear norm by cvxpy (SCS, 1e-7, at most
20,000 iterations; one seed):

{convex_rows}

## Noise

Error relative to that of an oracle, least squares on the true rank started from the truth;
{figures["noise"][0]["seeds"]} seeds a line:

{noise_rows}
"""
    (Path(__file__).parents[1] / "docs" / "recovery.md").write_text(page)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cells", nargs="*", help="parts of cell names; default: all")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--peer-seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=10.0, help="seconds a problem, peers")
    parser.add_argument("--only", choices=["completion", "sensing", "noise"])
    parser.add_argument("--without-cvxpy", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/")
    parser.add_argument("--page", type=Path, help="only write docs/recovery.md from kept figures")
    arguments = parser.parse_args()
    if arguments.page:
        return write_page(arguments.page)
    use_one_core()
    import jax

    jax.config.update("jax_enable_x64", True)
    wanted = arguments.cells or [""]
    chosen = [cell for cell in CELLS if any(part in cell for part in wanted)]
    figures: dict[str, Any] = {"depth": DEPTH, "limit": arguments.limit}
    if arguments.only in (None, "completion"):
        rows = run_completion(
            chosen, arguments.seeds, arguments.peer_seeds, arguments.limit, arguments.first_seed
        )
        figures["completion"] = rows
        print()
        print(
            table(
                ["cell", "solver", "success", "median error", "median s", "largest s"],
                [
                    [
                        row["cell"],
                        row["solver"],
                        f"{row['within 1e-5']}/{row['seeds']}",
                        f"{row['median error']:.0e}",
                        f"{row['median seconds']:.2f}",
                        f"{row['largest seconds']:.2f}",
                    ]
                    for row in rows
                ],
            )
        )
    if arguments.only in (None, "sensing"):
        figures["sensing"] = run_sensing(arguments.seeds, not arguments.without_cvxpy)
    if arguments.only in (None, "noise"):
        figures["noise"] = run_noise(min(arguments.seeds, 5))
    if arguments.keep:
        kept = keep("recovery", figures)
        if not (arguments.only or arguments.cells):
            write_page(kept)
    return None


if __name__ == "__main__":
    main()
