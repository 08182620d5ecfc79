"""How evenly a pattern spreads what it reads."""

import jax
import numpy as np
import pytest

from dnc_jax import sparse

KEY = jax.random.key(0)


def test_scatter_is_1_for_an_even_pattern_and_low_for_a_clustered_one():
    # Output q reads inputs q and q + 4 of 8: each half once.
    even = sparse.from_edges(np.arange(8), np.tile(np.arange(4), 2), 8, 4)
    assert sparse.scatter([even], windows=2).forward == (1.0,)
    # Both edges of an output start in one half: one window of two is empty.
    clustered = sparse.from_edges(np.arange(8), np.repeat(np.arange(4), 2), 8, 4)
    assert sparse.scatter([clustered], windows=2).forward == (0.5,)
    assert sparse.scatter([clustered]).worst == 0.5


def test_scatter_sees_that_two_junctions_do_not_mix():
    halves = np.kron(np.eye(2), np.ones((4, 4)))
    split = sparse.from_dense(halves)
    mixed = sparse.structured(KEY, 8, 8, density=0.5)
    assert sparse.scatter([split, split]).end_to_end[0] < 0.6
    assert sparse.scatter([mixed, mixed]).end_to_end[0] > 0.85
    with pytest.raises(ValueError, match=r"8 outputs .* 4 inputs"):
        sparse.scatter([split, sparse.structured(KEY, 4, 4, density=0.5)])


def test_a_network_without_a_path_scores_0_and_warns_of_nothing():
    first = sparse.from_edges(np.array([0]), np.array([0]), 2, 2)
    second = sparse.from_edges(np.array([1]), np.array([0]), 2, 2)
    scores = sparse.scatter([first, second])
    assert scores.end_to_end == (0.0, 0.0)
    assert scores.worst == 0
    with pytest.raises(ValueError, match="windows must be >= 1 or None, got 0"):
        sparse.scatter([first], windows=0)
