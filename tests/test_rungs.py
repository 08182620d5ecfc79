"""What a rung refuses to train."""

import dataclasses

import jax
import pytest

from dnc_jax import InputError
from dnc_jax.footprint import Complexity
from dnc_jax.networks import MLP
from dnc_jax.search import Constraints, MLPSpace, Objective, Store
from dnc_jax.search.constraints import NO_CONSTRAINTS
from dnc_jax.search.problem import Problem
from dnc_jax.search.run import search
from dnc_jax.search.rungs import _refuse_impossible
from dnc_jax.search.strategies import Evaluation, bayes, random
from dnc_jax.search.trials import Trial


def test_a_strategy_of_ones_own_that_asks_for_the_impossible_is_refused(small):
    space = Constraints(max_parameters=900).limited(MLPSpace(6, 4, depth=(0, 1)))
    candidate, other = space.sample(jax.random.key(0), 2)
    large = dataclasses.replace(candidate, architecture=MLP(6, (100,), 4))
    problem = Problem(
        space, small, Objective(), random(space, epochs=4), NO_CONSTRAINTS, 0
    )
    alien = dataclasses.replace(candidate, architecture=MLP(6, (5,), 3))
    fine = Evaluation(0, candidate, 0, 0, 2)
    again = Evaluation(7, candidate, 1, 2, 4)  # candidate 7 has come to epoch 2
    before = {7: Trial(7, candidate, 0, 2, (), (), Complexity(1, 2), 0.0, 0.0, "done")}
    asked = [fine, fine._replace(candidate_id=1), again]
    _refuse_impossible(asked, before, {5}, problem)
    for asked, message in (
        ([fine, fine], "2 evaluations of 1 candidates"),
        ([fine._replace(start=2)], r"epochs 2 to 2; .* start < stop"),
        ([fine._replace(stop=1.5)], "stop must be a whole number >= 0, got 1.5"),
        ([fine._replace(candidate_id=-1)], "candidate_id must be a whole number >= 0"),
        ([fine._replace(candidate=alien)], "6 inputs and 3 outputs, the data has 6 "),
        ([fine._replace(rung=1, start=1)], "candidate 0 in rung 1 from epoch 1"),
        ([fine._replace(candidate_id=5)], "candidate 5 in rung 0 from epoch 0"),
        ([again._replace(start=0)], "candidate 7 in rung 1 from epoch 0"),
        ([again._replace(start=3)], "candidate 7 in rung 1 from epoch 3"),
        ([again._replace(rung=0)], "candidate 7 in rung 0 from epoch 2"),
        ([again._replace(stop=5)], "epochs 2 to 5; .* <= epochs of the strategy, 4"),
        ([again._replace(candidate=other)], "candidate 7 as .*, which was .* in the"),
        ([fine._replace(candidate=large)], "6-100-4 relu, which the space does not"),
    ):
        with pytest.raises(InputError, match=message):
            _refuse_impossible(asked, before, {5}, problem)


def test_a_store_of_another_objective_or_other_constraints_is_refused(small, tmp_path):
    space = MLPSpace(6, 4, depth=(0, 1), width=(4, 8))

    def found(objective, constraints=NO_CONSTRAINTS):
        strategy = random(space, candidates=2, epochs=1)
        with Store(tmp_path / "trials.sqlite", {}) as store:
            return search(
                space, small, objective, strategy, seed=0, store=store,
                constraints=constraints,
            )  # fmt: skip

    first = found(Objective(w_c=0.1))
    assert found(Objective(w_c=0.1)).trials == first.trials
    for other in (Objective(w_c=1.0), Objective(w_c=0.1, seconds=1.0)):
        with pytest.raises(InputError, match="objective or constraints are others"):
            found(other)
    with pytest.raises(InputError, match="objective or constraints are others"):
        found(Objective(w_c=0.1), Constraints(max_seconds_per_epoch=10.0))


def test_what_a_search_has_stored_goes_before_what_another_one_found(small, tmp_path):
    space = MLPSpace(6, 4, depth=(0, 1), width=(4, 8))
    strategy = bayes(space, candidates=6, batch=3, epochs=1)

    def found(prior=()):
        with Store(tmp_path / "trials.sqlite", {}) as store:
            return search(
                space, small, None, strategy, seed=0, store=store, prior=prior
            )

    first = found()
    others = [
        dataclasses.replace(trial, val_accuracy=(number / 9,))
        for number, trial in enumerate(first.trials)
    ]
    assert found(prior=others).trials == first.trials
    assert found().trials == first.trials
