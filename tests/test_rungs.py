"""What a rung refuses to train."""

import dataclasses

import jax
import pytest

from dnc_jax import InputError
from dnc_jax.networks import MLP
from dnc_jax.search import MLPSpace
from dnc_jax.search.rungs import _refuse_impossible
from dnc_jax.search.strategies import Evaluation


def test_a_strategy_of_ones_own_that_asks_for_the_impossible_is_refused(small):
    space = MLPSpace(6, 4, depth=(0, 1))
    candidate = space.sample(jax.random.key(0), 1)[0]
    alien = dataclasses.replace(candidate, architecture=MLP(6, (5,), 3))
    fine = Evaluation(0, candidate, 0, 0, 2)
    _refuse_impossible([fine, fine._replace(candidate_id=1)], small)
    for asked, message in (
        ([fine, fine], "2 evaluations of 1 candidates"),
        ([fine._replace(start=2)], r"epochs 2 to 2; .* start < stop"),
        ([fine._replace(candidate=alien)], "6 inputs and 3 outputs, the data 6 and 4"),
    ):
        with pytest.raises(InputError, match=message):
            _refuse_impossible(asked, small)
