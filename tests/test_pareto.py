import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc_jax import InputError
from dnc_jax.search.pareto import efficient, hypervolume

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25)


def array(points):
    return np.array(points, float).reshape(-1, 2)


@given(POINTS)
def test_the_front_is_what_no_other_point_beats(points):
    expected = [
        not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)
        for x, y in points
    ]
    assert efficient(array(points)).tolist() == expected


@given(POINTS, st.integers(1, 10), st.integers(1, 10))
def test_the_hypervolume_is_the_number_of_cells_that_are_beaten(points, width, height):
    """On a grid of whole numbers, a cell is beaten if its lower corner is."""
    cells = sum(
        any(a <= x and b <= y for a, b in points)
        for x in range(width)
        for y in range(height)
    )
    assert hypervolume(array(points), (float(width), float(height))) == cells


def test_points_of_three_objectives_have_a_front_but_no_area():
    points = np.array([[1.0, 1.0, 3.0], [1.0, 1.0, 2.0], [0.0, 5.0, 5.0]])
    assert efficient(points).tolist() == [False, True, True]
    with pytest.raises(InputError, match="two objectives, got shape"):
        hypervolume(points, (1.0, 1.0))
