"""Random exact recovery problems, numbered, and what their measurements determine, by dense algebra.

`problem(number)` is the same on every machine. Nothing here uses a method of flatrank: `determinacy`
takes dense singular value decompositions at the true matrix, and `judge` compares a solution with it.
"""

from itertools import count as numbers
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np

MASKS = ("uniform", "full lines", "blocks", "popularity", "one line")
DENSE = ("dense Gaussian", "dense 0/1", "dense sparse")
RANK_ONE = ("rank one", "rank one, repeated left")
MATRICES = ("Gaussian", "duplicates", "integer", "sparse", "conditioned")
# Parts of all problems: entries are 70 in 100.
_SEEN = dict(
    zip(
        (*MASKS, *DENSE, *RANK_ONE, "isotropic"),
        (0.20, 0.14, 0.20, 0.14, 0.02, 0.08, 0.05, 0.05, 0.05, 0.05, 0.02),
        strict=True,
    )
)
ACCURACY = 1e-6


class Problem(NamedTuple):
    """A true matrix P Q^T of the rank of its factors, and how it was measured.

    * `seen`: the kind of mask, or the ensemble. `made`: the kind of matrix.
    * `at`: rows and columns of entries; left and right vectors; dense matrices; or nothing.
    """

    number: int
    seen: str
    made: str
    P: np.ndarray
    Q: np.ndarray
    at: tuple[np.ndarray, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the true matrix."""
        return len(self.P), len(self.Q)

    @property
    def rank(self) -> int:
        """The rank of the true matrix."""
        return self.P.shape[1]

    @property
    def truth(self) -> np.ndarray:
        """The true matrix."""
        return self.P @ self.Q.T

    @property
    def y(self) -> np.ndarray:
        """The measurements of the true matrix."""
        X = self.truth
        if self.seen in MASKS:
            return X[self.at]
        if self.seen in DENSE:
            return np.einsum("emn,mn->e", self.at[0], X)
        if self.seen in RANK_ONE:
            return np.einsum("em,mn,en->e", self.at[0], X, self.at[1], optimize=True)
        return X.size**0.5 * X.ravel()

    def measurements(self) -> Any:
        """What was measured, as flatrank has it."""
        import flatrank as fr

        if self.seen in MASKS:
            return fr.EntryMeasurements(*self.at, self.shape)
        if self.seen in DENSE:
            return fr.DenseMeasurements(*self.at, prepare=False)
        if self.seen in RANK_ONE:
            return fr.RankOneMeasurements(*self.at)
        return fr.IsotropicMeasurements(self.shape)

    def __str__(self) -> str:
        m, n = self.shape
        return (
            f"problem {self.number}: {self.seen}, {self.made}, {m} x {n}, rank {self.rank}, "
            f"N = {len(self.y)}"
        )


def problem(number: int) -> Problem:
    """The problem of this number: 4 x 4 to 60 x 60, or 20 x 20 where measurements are not entries."""
    rng = np.random.default_rng([2026, number])
    seen = str(rng.choice(list(_SEEN), p=list(_SEEN.values())))
    made = str(rng.choice(MATRICES))
    largest = 60 if seen in MASKS else 20
    m, n = (int(np.exp(rng.uniform(np.log(4), np.log(largest + 1)))) for _ in range(2))
    if seen == "one line":
        m, n = (1, n) if rng.random() < 0.5 else (m, 1)
    rank = int(rng.integers(1, min(m, n, 4) + 1))
    count = min(m * n, round(rng.uniform(0.8, 2) * rank * (m + n - rank)))
    P, Q = _factors(made, rng, m, n, rank)
    while True:
        drawn = Problem(number, seen, made, P, Q, _at(seen, rng, m, n, rank, count))
        # Zeros alone: the zero matrix is the least of any penalty, and says nothing of a sparse one.
        if drawn.y.any():
            return drawn


def _factors(
    made: str, rng: np.random.Generator, m: int, n: int, rank: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two factors whose product has this rank and a condition number of 1e4 at most."""
    while True:
        P, Q = rng.standard_normal((m, rank)), rng.standard_normal((n, rank))
        if made == "duplicates":
            P = P[rng.integers(max(rank, m // 3), size=m)]
        elif made == "integer":
            P, Q = rng.integers(-2, 3, P.shape) * 1.0, rng.integers(-2, 3, Q.shape) * 1.0
        elif made == "sparse":
            P, Q = P * (rng.random(P.shape) < 0.5), Q * (rng.random(Q.shape) < 0.5)
        elif made == "conditioned":
            P, Q = np.linalg.qr(P)[0], np.linalg.qr(Q)[0]
            P = P * np.logspace(0, -rng.uniform(0, 3), rank)
        s = np.linalg.svd(P @ Q.T, compute_uv=False)
        if s[0] > 0 and s[rank - 1] >= 1e-4 * s[0]:
            return P, Q


def _at(
    seen: str, rng: np.random.Generator, m: int, n: int, rank: int, count: int
) -> tuple[np.ndarray, ...]:
    if seen in MASKS:
        return np.nonzero(_mask(seen, rng, m, n, rank, count))
    if seen == "dense Gaussian":
        return (rng.standard_normal((count, m, n)),)
    if seen in DENSE:
        chosen = rng.random((count, m, n)) < (0.5 if seen == "dense 0/1" else 0.1)
        chosen.reshape(count, -1)[np.arange(count), rng.integers(m * n, size=count)] = True
        return (chosen * (1.0 if seen == "dense 0/1" else rng.standard_normal(chosen.shape)),)
    left, right = rng.standard_normal((count, m)), rng.standard_normal((count, n))
    if seen == "rank one, repeated left":
        left = left[rng.integers(rng.integers(rank, 2 * m), size=count) % count]
    return (left, right) if seen in RANK_ONE else ()


def _mask(seen: str, rng: np.random.Generator, m: int, n: int, rank: int, count: int) -> np.ndarray:
    """About `count` entries, at least one in every row and column."""
    if seen == "one line":
        return np.ones((m, n), bool)
    if seen == "blocks":
        mask = _blocks(rng, m, n, rank, count)
    else:
        rows, columns = np.ones(m), np.ones(n)
        if seen == "full lines":
            rows, columns = (np.where(rng.random(size) < 0.2, 30.0, 1.0) for size in (m, n))
        elif seen == "popularity":
            rows, columns = (1 / rng.permutation(np.arange(1, size + 1)) for size in (m, n))
        mask = _drawn(rng, np.outer(rows, columns), count)
    for view in (mask, mask.T):
        for i in np.flatnonzero(~view.any(axis=1)):
            view[i, rng.integers(view.shape[1])] = True
    return mask


def _drawn(rng: np.random.Generator, weights: np.ndarray, count: int) -> np.ndarray:
    """A mask of `count` entries without replacement, or of all those with a weight."""
    count = min(count, int(np.count_nonzero(weights)))
    mask = np.zeros(weights.shape, bool)
    p = weights.ravel() / weights.sum()
    mask.flat[rng.choice(p.size, count, replace=False, p=p)] = True
    return mask


def _blocks(rng: np.random.Generator, m: int, n: int, rank: int, count: int) -> np.ndarray:
    """Two or three diagonal blocks, and about as many entries outside as glue them: rank^2 each."""
    parts = int(rng.integers(2, 4))
    row_part, column_part = (rng.permutation(np.arange(size) % parts) for size in (m, n))
    inside = row_part[:, None] == column_part
    mask = inside if rng.random() < 0.5 else _drawn(rng, inside * 1.0, count)
    outside = row_part[:, None] < column_part if rng.random() < 0.5 else ~inside
    links = (parts - 1) * rank**2 + int(rng.integers(-2, 4))
    return mask | (_drawn(rng, outside * 1.0, links) if links > 0 else False)


Determinacy = Literal["yes", "unconfirmed", "no"]


def determinacy(problem: Problem, X: np.ndarray, rank: int) -> Determinacy:
    """Whether the measurements determine this matrix of this rank among those of the rank.

    "no": a move that keeps the rank is not seen, to first order. "unconfirmed": all are seen, but some
    measurement is needed for that (leverage one), lines aside that have just `rank` entries;
    if nothing is left but such lines, any values would fit a matrix of the rank.
    """
    (m, n), count = problem.shape, len(problem.y)
    if count < rank * (m + n - rank):
        return "no"
    U, _, Vt = np.linalg.svd(X)
    J = _jacobian(problem, U[:, :rank], Vt[:rank].T)
    if _rank(np.linalg.svd(J, compute_uv=False)) < rank * (m + n - rank):
        return "no"
    if rank == min(m, n) or _sees_everything(problem):
        return "yes"
    if problem.seen in MASKS:
        J = J[_core(problem, rank)]
    left, s, _ = np.linalg.svd(J, full_matrices=False)
    leverages = np.sum(left[:, : _rank(s)] ** 2, axis=1)
    return "yes" if len(J) and np.all(1 - leverages >= 1e-8) else "unconfirmed"


def _rank(s: np.ndarray) -> int:
    return int(np.sum(s > 1e-9 * s[0])) if len(s) else 0


def _jacobian(problem: Problem, U: np.ndarray, V: np.ndarray) -> np.ndarray:
    """The measurements of all A V^T + U B^T, shape (N, k (m + n)).

    With orthonormal U and V nothing depends on the condition number of the matrix.
    """
    (m, n), at = problem.shape, problem.at
    if problem.seen in DENSE:
        parts = at[0] @ V, np.swapaxes(at[0], 1, 2) @ U
    else:
        if problem.seen == "isotropic":
            at = tuple(x.ravel() for x in np.indices((m, n)))
        left, right = at if problem.seen in RANK_ONE else (np.eye(m)[at[0]], np.eye(n)[at[1]])
        parts = left[:, :, None] * (right @ V)[:, None], right[:, :, None] * (left @ U)[:, None]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _sees_everything(problem: Problem) -> bool:
    """Whether one matrix alone meets the measurements, of whatever rank."""
    size = problem.truth.size
    if len(problem.y) < size or problem.seen in MASKS:
        return len(problem.y) >= size
    return problem.seen == "isotropic" or _rank(_all_seen(problem)) == size


def _all_seen(problem: Problem) -> np.ndarray:
    """The singular values of the map from matrices to measurements."""
    product = problem.at[0]
    if problem.seen in RANK_ONE:
        product = product[:, :, None] * problem.at[1][:, None]
    return np.linalg.svd(product.reshape(len(product), -1), compute_uv=False)


def _core(problem: Problem, rank: int) -> np.ndarray:
    """The entries that are left when lines of `rank` or fewer are taken away, again and again."""
    left = np.ones(len(problem.y), bool)
    while True:
        before = left.sum()
        for lines in problem.at:
            left &= np.bincount(lines[left], minlength=lines.max() + 1)[lines] > rank
        if left.sum() == before:
            return left


class Verdict(NamedTuple):
    """A solution beside the truth.

    * `error`: relative, Frobenius. `right`: it is at most `ACCURACY`. `claimed`: `successful`.
    * `determined`: whether the measurements determine the truth.
    * `entries`, `wrong_entries`: how many entries are called determined, and how many of them are not
      those of the truth.
    """

    error: float
    right: bool
    claimed: bool
    determined: Determinacy
    entries: int
    wrong_entries: int
    result: str

    @property
    def outcome(self) -> str:
        """The word of `OUTCOMES` for it."""
        if self.claimed and not self.right:
            return "wrong, claimed"
        if self.determined != "yes":
            return "open, claimed" if self.claimed else "open, not claimed"
        if not self.right:
            return "not found"
        return "right, claimed" if self.claimed else "right, not claimed"


OUTCOMES = {
    "wrong, claimed": "another matrix, called a success: the defect",
    "right, claimed": "determined, found, called a success",
    "right, not claimed": "determined, found, not called a success",
    "not found": "determined, not found, not called a success",
    "open, claimed": "not determined, the truth all the same, called a success",
    "open, not claimed": "not determined, not called a success",
}


def judge(problem: Problem, solution: Any) -> Verdict:
    """The solution of flatrank beside the truth."""
    X, truth = np.asarray(solution.matrix), problem.truth
    error = float(np.linalg.norm(X - truth) / np.linalg.norm(truth))
    called, wrong = 0, 0
    # Until release 0.1 solutions do not say which entries are determined.
    if hasattr(solution, "determined"):
        i, j = (x.ravel() for x in np.indices(truth.shape))
        entries = np.asarray(solution.determined.entries(i, j)).reshape(truth.shape)
        near = np.abs(X - truth) <= ACCURACY * np.sqrt(np.mean(truth**2))
        called, wrong = int(entries.sum()), int((entries & ~near).sum())
    return Verdict(
        error,
        error <= ACCURACY,
        bool(solution.successful),
        determinacy(problem, truth, problem.rank),
        called,
        wrong,
        solution.message,
    )


def small_verdicts(count: int, side: int) -> list[tuple[str, Verdict]]:
    """The verdicts on the first `count` problems of at most side x side, in a process of their own."""
    import jax

    import flatrank as fr

    jax.config.update("jax_enable_x64", True)
    small = (one for one in map(problem, numbers()) if max(one.shape) <= side)
    return [
        (str(one), judge(one, fr.recover(one.measurements(), one.y)))
        for one in islice(small, count)
    ]
