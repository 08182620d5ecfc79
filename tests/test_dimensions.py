"""Dimensions of a space: from a value to its place in [0, 1] and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc_jax import InputError
from dnc_jax.search import Choice, Integer, Real
from dnc_jax.search import dimensions as dims

DIMENSIONS = (
    Real(0.0, 0.5),
    Real(1e-5, 1e-1, log=True),
    Real(1e-6, 1e-3, log=True, zero_below=1e-5),
    Real(0.3, 0.3),
    Integer(0, 3),
    Integer(20, 400, log=True),
    Integer(16, 512, log=True, step=16),
    Integer(7, 7),
    Choice((32, 128, 512)),
    Choice(("relu",)),
)


@pytest.mark.parametrize("one", DIMENSIONS, ids=str)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_a_value_is_decoded_from_the_place_it_is_encoded_to(one, places):
    values = one.decode(np.array(places))
    again = [one.encode(value) for value in values]
    assert all(0 <= place <= 1 for place in again)
    assert one.decode(np.array(again)) == values


@pytest.mark.parametrize("one", DIMENSIONS, ids=str)
def test_the_ends_of_the_interval_are_the_ends_of_the_range(one):
    first, last = one.decode(np.array([0.0, 1.0]))
    if isinstance(one, Choice):
        assert (first, last) == (one.values[0], one.values[-1])
    else:
        assert last == one.high
        assert first == (0 if getattr(one, "zero_below", 0) else one.low)


def test_every_whole_number_gets_its_share_also_at_the_ends():
    places = (np.arange(4000) + 0.5) / 4000
    counts = np.bincount(Integer(0, 3).decode(places))
    np.testing.assert_allclose(counts, 1000, atol=1)
    values = np.array(Integer(1, 100, log=True).decode(places))
    share = np.log(1.5 / 0.5) / np.log(100.5 / 0.5)
    assert np.mean(values == 1) == pytest.approx(share, abs=1e-3)


def untyped(values):
    """A choice as nobody checks its annotations for a user."""
    one = object.__new__(Choice)
    vars(one).update(values=values, when=None)
    one.__post_init__()
    return one


def test_a_choice_takes_numpys_values_as_pythons():
    one = untyped(np.logspace(-3, -1, 3))
    assert one == Choice((1e-3, 1e-2, 1e-1))
    assert one.ordered
    assert untyped([[8], [16]]).values == ((8,), (16,))


@pytest.mark.parametrize(
    ("values", "ordered"),
    [((1, 2, 4), True), ((1.0, 0.5), True), ((1, 3, 2), False), (("a", "b"), False)],
)
def test_choices_between_numbers_that_ascend_or_descend_are_ordered(values, ordered):
    assert Choice(values).ordered is ordered


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Real(2.0, 1.0), "lower 2.0 > upper 1.0"),
        (lambda: Real(0.0, 1.0, log=True), "needs low > 0"),
        (lambda: Real(0.0, float("inf")), "finite ends"),
        (lambda: Integer(20, 400, step=16), "multiples of the step 16"),
        (lambda: Choice(()), "at least one value"),
        (lambda: Choice((1, 1)), "different values"),
        (lambda: Choice(({}, {})), "hashable values"),
        (lambda: untyped("relu"), "a tuple such as .8, 16., got 'relu'"),
        (lambda: dims.from_json({"a": {"type": "set"}}), "a: type must be .*'set'"),
        (lambda: dims.from_json({"a": {"type": "choice"}}), "a: .*missing .*'values'"),
    ],
)
def test_an_impossible_dimension_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_negative_values_stay_negative():
    places, one = [0, 0.25, 0.5, 1], Real(-5.0, 5.0)
    assert one.decode(np.array(places)) == [-5, -2.5, 0, 5]
    assert [one.encode(value) for value in (-5, -2.5, 0, 5)] == places
