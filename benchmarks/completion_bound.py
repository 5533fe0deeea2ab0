"""What no method can beat, on average, on the synthetic ratings of `completion.py`.

    python benchmarks/completion_bound.py              # five splits, a minute or two

The hidden ratings' expectations given the known ones, under the very law that drew them: ten standard
normal directions and biases, noise of 0.8, ratings clipped to 1..5 (so that a rating at a limit was
somewhere beyond it). No estimator has a smaller expected square error. They are averaged over Gibbs
draws of everything that is not known, the ratings beyond the limits too; the error that is left of that
average is told by how little it changes from half the draws to all.
"""

import argparse

import numpy as np
from completion_data import (
    BIAS,
    LIMITS,
    MEAN,
    NOISE,
    PRODUCT,
    RANK,
    SCALE,
    Split,
    products,
    synthetic,
)
from scipy.special import ndtr, ndtri

from flatrank.completion.average._compressed import compressed_lines
from flatrank.completion.average._given import Given
from flatrank.completion.average._lines import draw_lines
from flatrank.entries import Entries

LOW, HIGH = LIMITS


def expected_rating(truth: np.ndarray) -> np.ndarray:
    """The mean of a normal number of deviation NOISE about the truth, clipped to the limits."""
    low, high = (LOW - truth) / NOISE, (HIGH - truth) / NOISE
    density = np.exp(-(low**2) / 2) - np.exp(-(high**2) / 2)
    inside = truth * (ndtr(high) - ndtr(low)) + NOISE * density / (2 * np.pi) ** 0.5
    return LOW * ndtr(low) + HIGH * ndtr(-high) + inside


def best_predictions(split: Split, burn: int, draws: int, seed: int) -> list[np.ndarray]:
    """Of the hidden ratings, from half the draws and from all."""
    random = np.random.default_rng(seed)
    (m, n), q = split.shape, RANK + 1
    latent = split.values - MEAN
    beyond = np.flatnonzero((split.values <= LOW) | (split.values >= HIGH))
    # Both limits as upper ones, by sign.
    sign = np.where(split.values[beyond] <= LOW, 1.0, -1.0)
    edge = sign * (split.values[beyond] - MEAN)
    count = np.arange(len(latent))
    entries = Entries(split.rows, split.columns, split.values, split.shape)
    every = np.ones(len(count), bool)
    layouts = [compressed_lines(entries, count, every, axis=axis) for axis in (0, 1)]
    orders = [layout.values.astype(int) for layout in layouts]  # exact below 2^24
    precision = np.diag([1 / (SCALE * PRODUCT)] * RANK + [1 / (SCALE * BIAS) ** 2]).astype(
        np.float32
    )
    prior = np.zeros(q, np.float32), precision
    levels = [np.full(size, NOISE**-2, np.float32) for size in (m, n)]
    ones = [np.ones(size, np.float32) for size in (m, n)]
    factors = [np.zeros((m, q), np.float32), random.normal(0, 0.1, (n, q)).astype(np.float32)]

    def values(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        left, right = (x.astype(float) for x in factors)
        return (
            products(left[:, :-1], right[:, :-1], rows, columns)
            + left[rows, -1]
            + right[columns, -1]
        )

    total, found = np.zeros(len(split.hidden_values)), []
    for k in range(burn + draws):
        over = 0.9 if k >= burn else 0.0
        for side in (0, 1):
            lines = layouts[side]._replace(values=latent.astype(np.float32)[orders[side]])
            normal = random.standard_normal(factors[side].shape, np.float32)
            noise = levels[side], ones[1 - side]
            given = Given(factors[1 - side], factors[side], *prior, *noise, normal)
            factors[side] = draw_lines(lines, given, biased=True, over=over).draws
        centre = sign * values(split.rows[beyond], split.columns[beyond])
        below = random.random(len(beyond)) * ndtr((edge - centre) / NOISE)
        latent[beyond] = sign * (centre + NOISE * ndtri(np.maximum(below, 1e-300)))
        if k >= burn:
            total += expected_rating(MEAN + values(split.hidden_rows, split.hidden_columns))
            done = k - burn + 1
            if done in (draws // 2, draws):
                found.append(total / done)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--burn", type=int, default=40)
    parser.add_argument("--draws", type=int, default=128)
    arguments = parser.parse_args()
    errors = []
    for seed in range(arguments.seeds):
        split = synthetic(seed)
        found = best_predictions(split, arguments.burn, arguments.draws, 1000 + seed)
        errors.append([split.error(lambda i, j, p=p: p) for p in found])
        print(
            f"split {seed}: half the draws {errors[-1][0]:.4f}, all {errors[-1][1]:.4f}", flush=True
        )
    mean = np.mean(errors, axis=0)
    print(f"\nbest on average: {mean[1]:.4f} (half the draws {mean[0]:.4f})")


if __name__ == "__main__":
    main()
