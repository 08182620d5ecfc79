"""The score: performance plus weighted complexity."""

import dataclasses
import math

import pytest

from dnc_jax import InputError
from dnc_jax.footprint import Complexity
from dnc_jax.search import Objective
from dnc_jax.training import goals
from dnc_jax.training.timing import EpochCost

# Objective


def test_the_score_is_the_logarithm_of_error_plus_weighted_complexity():
    objective = Objective(w_c=0.5, parameters=1.0, flops=2.0)
    score = objective.score(
        (0.9, 0.8), (0.7, 0.9), Complexity(10, 30), Complexity(100, 120), 1e-3
    )
    assert score == pytest.approx(math.log10(0.1 + 0.5 * (10 / 100 + 2 * 30 / 120)))


def test_measured_terms_are_relative_to_fixed_seconds_and_joules():
    one = Complexity(1, 1)
    objective = Objective(w_c=0.1, parameters=0.0, seconds=2.0, joules=1.0)
    score = objective.score((0.5,), (0.9,), one, one, 1e-3, EpochCost(5.0, 300.0))
    assert score == pytest.approx(math.log10(0.1 + 0.1 * (2 * 5 / 10 + 300 / 1000)))
    with pytest.raises(ValueError, match="not measured"):
        objective.score((0.5,), (0.9,), one, one, 1e-3, EpochCost(5.0))


def test_the_score_may_use_the_loss():
    score = Objective("loss").score(
        (0.9, 0.8, 0.85), (0.0, 0.0, 0.0), Complexity(1, 2), Complexity(1, 2), 0.05
    )
    assert score == pytest.approx(math.log10(0.8))
    rounded = Objective("loss").score(
        (0.9, -1e-7), (0.0, 0.0), Complexity(1, 2), Complexity(1, 2), 0.05
    )
    assert rounded == -9
    with pytest.raises(InputError, match="a validation loss of -3 has no logarithm"):
        Objective("loss").score(
            (0.9, -3.0), (0.0, 0.0), Complexity(1, 2), Complexity(1, 2), 0.05
        )


def test_a_perfect_network_scores_half_an_error_and_a_diverged_one_infinity():
    one = Complexity(1, 1)
    assert Objective().score((0.0,), (1.0,), one, one, 0.01) == pytest.approx(-2)
    assert Objective().score((), (), one, one, 0.01) == math.inf


@pytest.mark.parametrize(
    "fields",
    [
        {"w_c": -0.1},
        {"w_c": math.nan},
        {"flops": -1.0},
        {"performance": "auc"},
    ],
)
def test_an_impossible_objective_is_refused_by_name(fields):
    with pytest.raises(InputError, match=f"^{next(iter(fields))} must"):
        Objective(**fields)


class Latency(Objective):
    def score(self, *arguments):
        return 0.0


def test_a_weight_of_nothing_is_refused():
    assert Latency(w_c=0.1, parameters=0.0).w_c == 0.1
    with pytest.raises(InputError, match=r"w_c = 0\.1 weighs nothing"):
        Objective(w_c=0.1, parameters=0.0)


def test_complexity_counts_beside_the_least_error_that_can_be_seen():
    one, largest = Complexity(10, 1), Complexity(100, 1)
    perfect = Objective(w_c=0.5).score((0.0,), (1.0,), one, largest, 0.01)
    assert perfect == pytest.approx(math.log10(0.01 + 0.5 * 10 / 100))
    # Losses are told from 0 much further down than errors are.
    losses = [
        Objective("loss").score((loss,), (1.0,), one, largest, 0.1)
        for loss in (1e-3, 1e-5, 0.0)
    ]
    assert losses == pytest.approx([-3, -5, -9])


def test_squared_errors_count_tenfold_and_weights_may_not_be_infinite():
    one = Complexity(1, 1)
    assert Objective("mse").score((0.04,), (0.0,), one, one, 0.1) == pytest.approx(
        math.log10(0.4)
    )
    with pytest.raises(InputError, match=r"^w_c must be a finite number"):
        Objective(w_c=math.inf)


def test_terms_without_a_weight_need_no_measurement():
    one = Complexity(1, 1)
    objective = Objective(w_c=0.0, joules=1.0)
    assert objective.score((0.5,), (0.9,), one, one, 1e-3) == pytest.approx(-1)


def test_only_what_weighs_something_is_measured():
    assert Objective(w_c=0.1).measured == frozenset()
    assert Objective(w_c=0.0, seconds=1.0).measured == frozenset()
    assert Objective(w_c=0.1, joules=1.0).measured == {"joules"}


ROBUST = dataclasses.replace(goals.REGRESSION, loss=goals.huber)


@pytest.mark.parametrize("goal", [goals.CLASSIFICATION, ROBUST])
def test_mse_is_for_regression_by_the_squared_error_alone(goal):
    Objective("mse").check(goals.REGRESSION)
    for performance in ("error", "loss"):
        Objective(performance).check(goal)
    with pytest.raises(InputError, match="'mse' is for regression by the squared"):
        Objective("mse").check(goal)
