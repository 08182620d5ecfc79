"""Dividing one energy among networks that were trained together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc_jax import InputError
from dnc_jax.footprint.attribution import MICROJOULES, Lane, apportion, attribute

weights = st.lists(st.integers(0, 10**15), min_size=1, max_size=40).filter(any)
lanes = st.lists(
    st.builds(Lane, st.none() | st.integers(0, 9), st.integers(0, 10**16)), max_size=40
)


def microjoules(shares):
    parts = [*shares.joules.values(), shares.overhead_joules]
    return sum(round(part * MICROJOULES) for part in parts)


@given(st.integers(0, 10**18), weights)
def test_parts_are_whole_in_proportion_and_sum_exactly(total, weights):
    parts = apportion(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        # In whole numbers: within one of the exact share.
        assert abs(part * sum(weights) - total * weight) < sum(weights)


@given(
    st.floats(0, 1e9),
    lanes,
    st.floats(0, 1e9),
    st.floats(0, 1),
    st.integers(0, 10**16),
)
def test_shares_sum_to_the_energy_to_the_microjoule(
    joules, lanes, idle, compiling, evaluation
):
    shares = attribute(
        joules,
        lanes,
        idle_joules=idle,
        compiling=compiling,
        overhead_flops=evaluation,
    )
    assert microjoules(shares) == round(joules * MICROJOULES)
    assert all(part >= 0 for part in shares.joules.values())
    assert shares.overhead_joules >= 0
    assert set(shares.joules) == {lane.owner for lane in lanes} - {None}


def test_a_lane_gets_its_part_of_idling_and_its_flops_of_the_rest():
    shares = attribute(
        100.0, [Lane("a", 300), Lane("b", 100), Lane(None, 100)], idle_joules=30.0
    )
    assert shares.joules == {"a": 10 + 70 * 3 / 5, "b": 10 + 70 / 5}
    assert shares.overhead_joules == 10 + 70 / 5, "the dead lane's"


def test_lanes_of_one_padded_shape_cost_the_same():
    shares = attribute(9.0, [Lane("sparse", 10**9), Lane("dense", 10**9)])
    assert shares.joules["sparse"] == shares.joules["dense"] == 4.5


def test_compiling_and_evaluation_are_overhead():
    shares = attribute(100.0, [Lane("a", 300)], compiling=0.25, overhead_flops=100)
    # A quarter for compiling; of the rest a quarter for evaluation.
    assert shares.joules == {"a": pytest.approx(56.25)}
    assert shares.overhead_joules == pytest.approx(43.75)
    assert attribute(5.0, [Lane("a", 1)], compiling=1.0).overhead_joules == 5
    assert attribute(5.0, []).overhead_joules == 5


def test_evaluation_takes_no_part_of_idling():
    lanes = [Lane("a", 300)]
    shares = attribute(100.0, lanes, idle_joules=20.0, overhead_flops=100)
    assert shares.joules == {"a": 20 + 80 * 3 / 4}
    assert shares.overhead_joules == 80 / 4


def test_two_lanes_of_one_owner_are_added():
    shares = attribute(6.0, [Lane("a", 1), Lane("b", 1), Lane("a", 1)])
    assert shares.joules == {"a": 4, "b": 2}


def test_idling_below_nothing_is_nothing():
    lanes = [Lane("a", 3), Lane("b", 1)]
    assert attribute(4.0, lanes, idle_joules=-1.0) == attribute(4.0, lanes)


def test_the_first_eight_of_impossible_weights_are_told():
    with pytest.raises(InputError, match=r"proportion to \[0, 0, 0, 0, 0, 0, 0, 0\];"):
        apportion(1, [0] * 9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: attribute(-1.0, []),
        lambda: attribute(1.0, [], compiling=1.5),
        lambda: attribute(1.0, [], compiling=-0.5),
        lambda: apportion(-1, [1]),
        lambda: apportion(1, [1, -1]),
        lambda: apportion(1, [0, 0]),
        lambda: apportion(1, []),
    ],
)
def test_what_cannot_be_divided_is_refused(call):
    with pytest.raises(InputError, match="cannot divide"):
        call()
