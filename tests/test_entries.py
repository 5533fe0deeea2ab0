"""Entries of a table: what they accept, what they refuse, and that they are scaled once."""

import numpy as np
import pytest
import scipy.sparse

from flatrank.entries import Entries


def some(**changes):
    given = {"rows": [0, 1, 1], "columns": [2, 0, 1], "values": [1.0, 2.0, 6.0], "shape": (2, 3)}
    return Entries(**(given | changes))


def test_values_are_scaled_to_mean_zero_and_variance_one():
    entries = some()
    np.testing.assert_allclose(entries.unit.mean(), 0, atol=1e-7)
    np.testing.assert_allclose(entries.unit.std(), 1, rtol=1e-6)
    np.testing.assert_allclose(entries.mean + entries.spread * entries.unit, entries.values)
    assert some(values=[2, 2, 2]).spread == 1
    assert some(values=[2, 2, 2]).constant


def test_an_array_and_a_sparse_matrix_give_the_same_entries():
    X = np.array([[np.nan, 0.0, 3.0], [1.0, np.nan, np.nan]])
    stored = scipy.sparse.coo_array(([3.0, 1.0, 0.0], ([0, 1, 0], [2, 0, 1])), shape=(2, 3))
    for entries in (Entries.from_array(X), Entries.from_array(stored)):
        assert entries.rows.tolist() == [0, 0, 1]
        assert entries.columns.tolist() == [1, 2, 0]
        assert entries.values.tolist() == [0.0, 3.0, 1.0]
        np.testing.assert_array_equal(entries.filled(np.full((2, 3), np.nan)), X)


def test_new_values_replace_old_ones():
    updated = some().updated(Entries([1, 2], [0, 2], [9.0, 4.0], (3, 3)))
    assert updated.shape == (3, 3)
    filled = updated.filled(np.zeros((3, 3)))
    np.testing.assert_array_equal(filled, [[0, 0, 1], [9, 6, 0], [0, 0, 4]])


@pytest.mark.parametrize("fraction", [1e-9, 0.4, 1.0])
def test_at_least_one_entry_is_held_out_and_not_all(fraction):
    held = some().held_out(fraction, np.random.default_rng(0))
    assert 1 <= held.sum() <= 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"values": [1.0, np.nan, 2.0]}, "`values` has 1 NaN or infinite"),
        ({"values": [1.0, 2.0]}, "give one value for each entry"),
        ({"values": [1e200, 2.0, 3.0]}, "divide them by a constant"),
        ({"values": ["a", "b", "c"]}, "`values` has data type <U1; flatrank works on real numbers"),
        ({"rows": [0, 1, 2]}, "`rows` has index 2, outside 0..1"),
        ({"rows": [0.0, 1.0, 1.0]}, "indices are integers"),
        ({"columns": [2, 0, 0]}, "more than once"),
        ({"shape": 3}, "`shape` must be a pair"),
    ],
)
def test_bad_entries_are_refused_in_a_sentence(changes, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        some(**changes)
