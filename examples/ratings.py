"""A table of ratings: what is missing, how sure that is, and what to recommend."""

import numpy as np
import pandas as pd

from flatrank import MatrixCompleter, TripletCompleter

rng = np.random.default_rng(0)
users, films = [f"user {i}" for i in range(300)], [f"film {j}" for j in range(120)]
taste = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 120)) / 2
liked = 3 + taste + 0.4 * rng.standard_normal((300, 1)) + 0.4 * rng.standard_normal((1, 120))
i, j = np.nonzero(rng.random(liked.shape) < 0.3)
ratings = pd.DataFrame(
    {
        "user": np.asarray(users)[i],
        "film": np.asarray(films)[j],
        "rating": np.round(liked[i, j] + 0.5 * rng.standard_normal(len(i)), 1),
    }
)

hidden = rng.random(len(ratings)) < 0.1
known, asked = ratings[~hidden], ratings[hidden]
completer = TripletCompleter("user", "film", "rating", MatrixCompleter(random_state=0)).fit(known)

error = np.sqrt(np.mean((completer.predict(asked) - asked["rating"]) ** 2))
lower, upper = completer.predict_interval(asked, coverage=0.9)
covered = np.mean((lower <= asked["rating"]) & (asked["rating"] <= upper))
print(
    f"{len(asked)} hidden ratings: RMSE {error:.2f} (noise 0.50), 90% intervals held {covered:.0%}"
)
print(completer.recommend(["user 7"], n=3).to_string(index=False))

assert error < 0.6
assert 0.8 < covered < 0.97
