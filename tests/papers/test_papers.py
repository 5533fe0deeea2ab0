"""Every figure of every paper runs, at sizes of seconds, and each of its claims can fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatrank import Flatness, recover
from flatrank.papers import (
    PAPERS,
    arora_convex,
    arora_training,
    depth_success,
    ding_recovery,
    ding_regularity,
    gatmiry_endpoints,
    gatmiry_matrices,
    gatmiry_training,
)
from flatrank.papers import (
    _recoveries as recoveries,
)
from flatrank.problems import draw_problem
from flatrank.reports._claims import Verdict

SMALL = {"side": 10, "rank": 1, "counts": (40, 70), "most_steps": 1000, "seeds": 1}
FEW = {"depths": (2, 3), "side": 6, "rank": 1, "oversamplings": (1.5, 2.5), "trials": 2}
TINY = {
    ("gatmiry2023", 1): {"depths": (2,), "side": 5, "measurements": 15, "steps": 3000, "seeds": 2},
    ("gatmiry2023", 2): {
        "depth": 2,
        "side": 5,
        "measurements": 12,
        "learning_rates": (0.01, 0.02),
        "noises": (0.5, 1.0),
        "time": 0.05,
        "seeds": 2,
    },
    ("gatmiry2023", 3): {"depths": (2,), "side": 5, "counts": (12, 20), "seeds": 1},
    ("gatmiry2023", 4): {"depths": (2,), "side": 5, "counts": (5, 22), "seeds": 2},
    ("gatmiry2023", 5): {"depths": (2,), "side": 4, "counts": (50, 400, 3200), "seeds": 2},
    ("gatmiry2023", 6): {"depths": (3,), "side": 3, "matrices": 2},
    ("arora2019", 1): SMALL | {"scales": (1e-2, 1e-3)},
    ("arora2019", 2): SMALL | {"scales": (1e-2,)},
    ("arora2019", 3): {
        "side": 20,
        "rank": 1,
        "measurements": 200,
        "depths": (2, 3),
        "steps": 500,
        "seeds": 1,
    },
    ("arora2019", 4): {
        "side": 10,
        "rank": 1,
        "measurements": 50,
        "depths": (2,),
        "rates": (2e-3, 4e-3),
        "seeds": 1,
    },
    ("depth", 1): FEW,
    ("ding2022", 1): {
        "models": ("quadratic", "entries"),
        "sides": (6,),
        "rank": 1,
        "loads": (2.0, 4.0),
        "trials": 2,
    },
    ("ding2022", 2): {"models": ("quadratic", "entries"), "side": 6, "rank": 1, "trials": 2},
    ("depth", 2): FEW | {"ensembles": ("gaussian",), "depths": (2,)},
}


def test_every_figure_has_a_tiny_version_here():
    known = {(name, k + 1) for name, paper in PAPERS.items() for k in range(len(paper.figures))}
    assert set(TINY) == known


@pytest.mark.slow
@pytest.mark.parametrize("key", TINY, ids=lambda key: f"{key[0]}-{key[1]}")
def test_a_tiny_version_runs(key):
    name, number = key
    figure = PAPERS[name].figures[number - 1]
    settings = figure.settings("quick")
    assert settings.keys() == figure.settings("full").keys()
    assert set(TINY[key]) <= set(settings)
    said = []
    finding = figure.make(seed=1, on_step=lambda *step: said.append(step), **settings | TINY[key])
    assert said
    assert all(0 <= fraction <= 1 for _, fraction in said)
    assert len({len(column) for column in finding.columns.values()}) == 1
    shown = [axis for axis in finding.picture.axes if axis.get_visible()]
    for axis in shown:
        place = axis.get_subplotspec()  # None: a colour bar; panels that share an axis name it once
        assert axis.get_xlabel() or place is None or not place.is_last_row()
        assert axis.get_ylabel() or (place is not None and not place.is_first_col())
    for claim in finding.claims:
        assert np.isfinite(claim.number.value), claim
        # Where it can fail: it has a bound.
        assert np.isfinite(claim.least) or np.isfinite(claim.most)


def verdicts(claims):
    return [claim.verdict for claim in claims]


def turned(before, after):
    """Which claims held and do not hold any more."""
    return [
        k
        for k, (one, other) in enumerate(zip(verdicts(before), verdicts(after), strict=True))
        if one is Verdict.holds and other is Verdict.fails
    ]


def near(value, *shape):
    """Values within a thousandth of one, so that there is an interval."""
    return value * (1 + 1e-3 * np.random.default_rng(0).uniform(-1, 1, shape))


def test_claims_on_training_fail_on_other_data():
    def claims(trace_with, loss_with, trace_drift, test_with):
        found = {}
        for depth in (2, 3):
            kept = {"loss": loss_with, "trace": trace_with, "test_loss": test_with}
            found[depth, "label noise"] = {name: near(v, 4, 9) for name, v in kept.items()}
            trace = near(1.0, 4, 9) * np.linspace(1, trace_drift, 9)
            found[depth, "no label noise"] = {"trace": trace, "test_loss": near(1.0, 4, 9)}
        return gatmiry_training._training_claims(found, (2, 3), floor=0.1)

    sound = claims(0.2, 0.02, 1.0, 0.01)
    assert set(verdicts(sound)) == {Verdict.holds}
    assert turned(sound, claims(0.9, 0.09, 1.0, 0.01)) == [0]
    assert turned(sound, claims(0.2, 0.02, 0.8, 0.01)) == [1]
    assert turned(sound, claims(0.2, 0.04, 1.0, 0.01)) == [2]
    assert turned(sound, claims(0.2, 0.02, 1.0, 2.0)) == [3, 4]


def test_claims_on_end_points_fail_on_other_data():
    def claims(**ratios):
        sound = {"gradient flow": 2.0, "limit of label noise": 1.0, "flattest": 1.0, "bound": 3.0}
        values = {
            (count, depth, kind): near(ratios.get(kind.replace(" ", "_"), value), 4)
            for kind, value in sound.items()
            for count in (20, 40)
            for depth in (2, 3)
        }
        return gatmiry_endpoints._end_claims(values, (2, 3), (20, 40))

    sound = claims()
    assert set(verdicts(sound)) == {Verdict.holds}
    assert turned(sound, claims(flattest=1.2)) == [0, 1, 2]
    assert turned(sound, claims(limit_of_label_noise=1.5)) == [2]
    assert turned(sound, claims(gradient_flow=1.05)) == [3]
    assert turned(sound, claims(bound=0.9)) == [4]


def test_claims_on_matrices_fail_on_other_data():
    counts = (100, 400, 1600, 6400)

    def isometry(power=-0.5, ratio=1.01, predicted=3.0):
        delta = near(1.0, 4, 4) * np.power(counts, power)
        return gatmiry_matrices._isometry_claims(
            delta, near(ratio, 2, 8, 4), predicted * np.power(counts, power), counts, 2
        )

    sound = isometry()
    assert set(verdicts(sound)) == {Verdict.holds}
    assert turned(sound, isometry(power=-0.2)) == [0]
    assert turned(sound, isometry(predicted=0.5)) == [1]
    assert turned(sound, isometry(ratio=1.5)) == [2]

    def errors(convex, flattest):
        found = {"convex": np.asarray([convex] * 40), "flattest": np.asarray([flattest] * 40)}
        return gatmiry_matrices._error_claims(found, (20, 40, 60), 19)

    sound = errors([1.0, 1.0, 1e-9], [1.0, 1.0, 1e-9])
    assert set(verdicts(sound)) == {Verdict.holds}
    assert turned(sound, errors([1.0, 1.0, 1e-9], [1.0, 1e-9, 1.0])) == [0, 1, 2]
    assert turned(sound, errors([1e-9, 1.0, 1e-9], [1e-9, 1.0, 1e-9])) == [3]
    # What the convex solver finds is no claim on depths.
    assert turned(sound, errors([1e-9, 1.0, 1.0], [1.0, 1.0, 1e-9])) == [0, 1]


def test_claims_against_the_convex_solution_fail_on_other_data():
    def claims(few, many, loss=1e-6, gap=1e-4):
        """(error, norm, effective rank) of the convex solution, depth 2, depth 3."""
        found = {
            (count, depth): np.asarray([near(value, 4, 2) for value in values])
            for count, three in ((20, few), (50, many))
            for depth, values in zip((0, 2, 3), three, strict=True)
        }
        found[20, 2][0] *= [2.0, 1.0]  # larger at the larger scale
        return arora_convex._convex_claims(
            found, (20, 50), (2, 3), np.asarray([loss]), np.asarray([gap]), 1e-6
        )

    few = [(0.2, 9.0, 8.0), (0.2, 10.0, 7.0), (0.01, 10.0, 5.0)]
    many = [(1e-5, 10.0, 5.0)] * 3
    sound = claims(few, many)
    assert set(verdicts(sound)) == {Verdict.holds}
    assert turned(sound, claims([*few[:2], (0.5, 9.0, 9.0)], many)) == [0, 1, 3, 4]
    other = claims(few, [many[0], (0.1, 11.0, 5.0), many[2]])
    assert turned(sound, other) == [5, 6]
    assert turned(sound, claims(few, many, loss=1e-5, gap=0.1)) == [7, 8]


def test_claims_on_singular_values_fail_on_other_data():
    def claims(small, tail, off):
        """Two records of ten singular values; `small` is s_2 at the first, `tail` s_3 at the second."""
        values = {}
        for depth, s, t in zip((2, 3), small, tail, strict=True):
            values[depth] = near(1.0, 4, 2, 10)
            values[depth][:, 0, 1] *= s
            values[depth][:, 1, 2] *= t
        return arora_training._dynamics_claims(
            values, {2: near(off, 4), 3: near(off, 4)}, (2, 3), 2
        )

    sound = claims((0.1, 0.01), (0.1, 0.01), 1e-3)
    assert set(verdicts(sound)) == {Verdict.holds}
    assert turned(sound, claims((0.1, 0.01), (0.1, 0.01), 0.3)) == [0]
    assert turned(sound, claims((0.01, 0.1), (0.1, 0.01), 1e-3)) == [1]
    assert turned(sound, claims((0.1, 0.01), (0.01, 0.1), 1e-3)) == [2]


def test_claims_on_depth_fail_on_other_data():
    def claims(ensemble, nuclear, decay, *flat):
        """Recovered in all of this number of 20 oversamplings, one more in every other trial."""
        names = (
            "least nuclear norm",
            "weight decay, depth 3",
            *map(depth_success._flat, (2, 3, 6)),
        )
        recovered = {name: np.zeros((8, 20), bool) for name in names}
        for name, number in zip(names, (nuclear, decay, *flat), strict=True):
            recovered[name][:, :number] = True
        for name in names[:2]:
            recovered[name][::2, 19] = name == names[1]
        return depth_success._claims(ensemble, recovered, (2, 3, 6))

    sound = claims("entries", 5, 19, 10, 12, 15)
    assert set(verdicts(sound)) == {Verdict.holds}
    assert turned(sound, claims("entries", 5, 19, 10, 10, 10)) == [0]
    assert turned(sound, claims("entries", 5, 19, 10, 15, 13)) == [1]
    assert turned(sound, claims("entries", 11, 19, 10, 12, 15)) == [2]
    assert turned(sound, claims("entries", 5, 9, 10, 12, 15)) == [3]
    sound = claims("gaussian", 10, 19, 10, 10, 10)
    assert set(verdicts(sound)) == {Verdict.holds}
    assert turned(sound, claims("gaussian", 10, 19, 10, 10, 13)) == [0]
    assert turned(sound, claims("gaussian", 10, 19, 10, 10, 7)) == [1]
    assert turned(sound, claims("gaussian", 10, 8, 10, 10, 10)) == [2]


def test_claims_on_recovery_maps_fail_on_other_data():
    models = ("gaussian", "quadratic", "entries")

    def claims(flat=0.5, nuclear=0.5, last=1.0, growth=0.0, first=0.0):
        """Shares recovered: of all loads between, at the last, at the first; less for larger sides."""
        found = {}
        for model in models:
            for name, share in ((ding_recovery.FLAT, flat), (ding_recovery.NUCLEAR, nuclear)):
                errors = np.ones((20, 2, 42))
                errors[:, :, 1 : 1 + round(40 * share)] = 1e-9
                errors[:, 1, 1 : 1 + round(40 * growth)] = 1.0
                errors[: round(20 * last), :, -1] = 1e-9
                errors[: round(20 * first), :, 0] = 1e-9
                errors[::2, :, 20] = 1.0  # so that there is an interval
                found[model, name] = errors
        return ding_recovery._map_claims(found, models, tuple(map(float, range(1, 43))))

    sound = claims()
    assert set(verdicts(sound)) == {Verdict.holds}
    assert turned(sound, claims(last=0.2)) == [0, 1, 2]
    assert turned(sound, claims(flat=0.3)) == [3, 4, 5]
    assert turned(sound, claims(flat=0.7)) == [3, 4]  # more is allowed for completion
    assert turned(sound, claims(growth=0.3)) == [6]
    assert turned(sound, claims(first=0.1)) == [7]


def test_claims_on_regularity_fail_on_other_data():
    models = ("gaussian", "entries")

    def claims(norm=1.001, bound=2.0, convex=1.0, nuclear=1.2, few=1.1, many=1.0):
        found = {}
        for model in models:
            values = {"norm": norm, "bound": bound, "convex trace": convex}
            for name, value in values.items():
                found[model, name] = value + 1e-4 * near(1.0, 9, 2)
            found[model, "nuclear trace"] = near(nuclear, 9, 2)
            found[model, "truth trace"] = np.tile([few, many], (9, 1))
        return ding_regularity._regularity_claims(found, models, (20, 40))

    sound = claims()
    assert set(verdicts(sound)) == {Verdict.holds}
    assert turned(sound, claims(norm=1.1)) == [0, 1]
    assert turned(sound, claims(bound=0.9)) == [2]
    assert turned(sound, claims(convex=0.99)) == [3]
    assert turned(sound, claims(nuclear=1.001)) == [4]
    assert turned(sound, claims(few=1.0)) == [5]
    assert turned(sound, claims(many=1.1)) == [6]


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["gaussian", "entries", "rank-one", "quadratic"])
def test_zero_measurements_change_nothing(ensemble):
    A, truth = draw_problem(jax.random.key(0), ensemble, (6, 6), 1, 22)
    same = recoveries.same_shape(A, 30)
    assert same.count == 30
    W = jax.random.normal(jax.random.key(1), A.shape)
    ratios = same.apply(W)[:22] / A.apply(W)
    assert np.allclose(ratios, ratios[0])
    assert np.allclose(same.apply(W)[22:], 0)
    assert np.allclose(
        same.second_moment(W @ W.T), ratios[0] ** 2 * 22 / 30 * A.second_moment(W @ W.T)
    )
    assert np.isclose(float(jnp.linalg.norm(truth)), 1)


@pytest.mark.slow
def test_a_method_finds_the_same_with_zero_measurements():
    A, truth = draw_problem(jax.random.key(0), "entries", (6, 6), 1, 16)
    methods = {"flat": recoveries.network_method(Flatness(), 2)}
    found = recoveries.recoveries(A, truth, 30, methods)["flat"]
    direct = recover(A, A.apply(truth), 2, Flatness(), width=6).matrix
    assert found.error > 0.01  # no recovery, which all solvers would share
    assert np.allclose(found.matrix, direct, atol=1e-5)
