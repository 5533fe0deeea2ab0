"""Ids are numbered as a dict numbers them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatrank.data import Ids

KINDS = [
    st.lists(st.integers(-3, 3)).map(lambda ids: np.array(ids, np.int64)),
    st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.5, np.inf])).map(lambda ids: np.array(ids, float)),
    st.lists(st.text("aé\x00", max_size=2)).map(lambda ids: np.fromiter(ids, object, len(ids))),
    st.lists(st.sampled_from(["a", "bc", "def"])).map(lambda ids: np.array(ids, str)),
    st.lists(st.booleans()).map(lambda ids: np.array(ids, bool)),
    st.lists(st.integers(0, 3)).map(lambda ids: np.array(ids, "datetime64[us]")),
    st.lists(st.sampled_from([1, "1", (1,), 2.5])).map(
        lambda ids: np.fromiter(ids, object, len(ids))
    ),
]
BATCHES = st.sampled_from(KINDS).flatmap(lambda kind: st.lists(kind, min_size=1, max_size=3))


@pytest.mark.slow
@given(BATCHES)
def test_batches_are_numbered_in_the_order_in_which_ids_first_came(batches):
    ids, expected = Ids(np.empty(0)), dict[object, int]()
    for batch in batches:
        ids, numbers = ids.extended(batch)
        assert numbers.tolist() == [
            expected.setdefault(one, len(expected)) for one in batch.tolist()
        ]
        assert ids.values.tolist() == list(expected)
        if len(batch):
            assert ids.values.dtype.kind == batch.dtype.kind
        np.testing.assert_array_equal(ids.find(batch), numbers)
        # Without what `extended` has remembered.
        np.testing.assert_array_equal(Ids(ids.values).find(batch), numbers)


def test_what_is_not_there_is_minus_one():
    ids = Ids(np.array([7, 3]))
    assert ids.find(np.array([3, 8, 7])).tolist() == [1, -1, 0]
    assert ids.find(np.array([3.0, 3.5])).tolist() == [1, -1]
    assert ids.find(np.array(["3"])).tolist() == [-1]
    assert ids.find(np.array([3], "datetime64[us]")).tolist() == [-1]


def test_times_are_the_same_in_every_unit():
    days = Ids(np.array(["2024-01-01", "2024-01-02"], "datetime64[D]"))
    given = np.array(["2024-01-02", "2024-01-01T12:00", "2024-01-01"], "datetime64[ns]")
    assert days.find(given).tolist() == [1, -1, 0]
    with pytest.raises(ValueError, match="cannot all be held as"):
        days.extended(given)


def test_large_integers_are_not_rounded():
    ids = Ids(np.array([2**53, 2**53 + 1]))
    assert ids.find(np.array([2**53 + 1, 2**53 + 2])).tolist() == [1, -1]
    assert ids.find(np.array([2**53 + 1], np.uint64)).tolist() == [1]
