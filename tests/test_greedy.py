"""The paper's search in three stages."""

import dataclasses
import sys

import jax
import numpy as np
import pytest

from dnc_jax import InputError
from dnc_jax.footprint import complexity
from dnc_jax.networks import CNN, MLP, presets
from dnc_jax.search import Candidate, Choice, CNNSpace, Constraints, MLPSpace
from dnc_jax.search import gaussian_process as gp
from dnc_jax.search.similarity import FARTHEST
from dnc_jax.search.stages import stages
from dnc_jax.search.strategies import greedy
from dnc_jax.training import Hyperparameters
from tests.played import SPACE, played

STEPS = {"steps": 6, "explored": 30}
# The package has a function of the same name.
MODULE = sys.modules["dnc_jax.search.strategies.greedy"]


def test_greedy_goes_through_the_papers_stages():
    strategy = greedy(SPACE, batch=1, steps=5, explored=20)
    calls, state = played(strategy, jax.random.key(0))
    first = [e.candidate for e in calls[0]]
    assert len(first) == 15
    for candidate in first + [e.candidate for (e,) in calls[1:6]]:
        network, training = candidate.architecture, candidate.hyperparameters
        assert (network.activation, training.learning_rate) == ("relu", 1e-3)
        assert network.dropout == (0.2 if network.hidden else 0.0)
        assert training.weight_decay == 0
        assert training.batch_size == 64  # nearest to 256
    *_, last = calls
    assert state.best.score == min(one.score for one in state.told)
    assert last[0].candidate.architecture == state.best.candidate.architecture


def test_greedy_keeps_what_is_strictly_better_only():
    def flat(candidate):
        return 1.0

    calls, state = played(greedy(SPACE, **STEPS), jax.random.key(0), flat)
    assert state.best.candidate == calls[0][0].candidate


def test_the_winner_of_stage_2_stays_a_contender_in_stage_3():
    def truth(candidate):
        rate = candidate.hyperparameters.learning_rate
        return 0.0 if rate == 1e-3 and candidate.architecture.dropout == 0.1 else 1.0

    def build(depth):
        return MLPSpace(6, 4, depth=(depth, depth), width=(4, 24), batch_sizes=(32,))

    _, state = played(greedy(build(1), **STEPS), jax.random.key(0), truth)
    assert state.best.score == 0
    assert state.best.candidate.architecture.dropout == 0.1
    assert state.here[0] == state.best
    assert state.best.candidate.hyperparameters.learning_rate == 1e-3


def test_the_default_weight_decay_grows_with_the_parameters():
    space = MLPSpace(784, 10)
    preset = stages(space).preset
    values = preset({"depth": 2, "width_1": 400, "width_2": 400})
    assert values["weight_decay"] == pytest.approx(478_410e-9)
    assert preset({"depth": 0})["weight_decay"] == 0
    images = CNNSpace((32, 32, 3), 10)
    wide = {"depth": 4, "channels_1": 64, **{f"widening_{i}": 1.0 for i in (2, 3, 4)}}
    values = stages(images).preset(wide)
    count = complexity(images.build(values).architecture).parameters
    assert values["weight_decay"] == pytest.approx(count * 1e-11)
    narrow = wide | {f"widening_{i}": 0.0 for i in (2, 3, 4)}
    assert stages(images).preset(narrow)["weight_decay"] == 0


def test_greedy_presets_cnns_as_the_paper_does_and_tries_its_grids():
    space = CNNSpace((8, 8, 1), 10, depth=(4, 5))

    def truth(candidate):
        network = candidate.architecture
        assert isinstance(network, CNN)
        worse = [network.activation != "tanh", not all(network.batch_norm)]
        strides = network.downsampling.count("pool")
        return sum(worse) + strides + abs(max(network.dropout) - 0.15)

    calls, state = played(greedy(space, **STEPS), jax.random.key(1), truth)
    for evaluation in calls[0]:
        network = evaluation.candidate.architecture
        preset = presets.preset((8, 8, 1), network.channels, 10)
        assert network == preset
    best = state.best.candidate.architecture
    assert best.activation == "tanh"
    assert "pool" not in best.downsampling
    assert max(best.dropout) == 0.15


@dataclasses.dataclass(frozen=True)
class Wider(CNNSpace):
    """With a hyperparameter that the authors do not have: channels so many times."""

    def describe(self):
        return {**super().describe(), "times": Choice((1, 2))}

    def build(self, values):
        built = super().build(values)
        channels = tuple(n * values["times"] for n in built.architecture.channels)
        network = dataclasses.replace(built.architecture, channels=channels)
        return dataclasses.replace(built, architecture=network)


def test_greedy_varies_a_dimension_that_the_authors_do_not_have():
    space = Wider((8, 8, 1), 10, depth=(4, 5))

    def truth(candidate):
        return -candidate.architecture.channels[0]

    calls, state = played(greedy(space, **STEPS), jax.random.key(1), truth)
    assert all(e.candidate.architecture.channels[0] <= 64 for e in calls[0])
    assert state.best.candidate.architecture.channels[0] > 64


def test_greedy_takes_densities_into_its_first_stage_and_fits_its_kernel_if_asked():
    space = MLPSpace(64, 10, densities=(1.0, 0.2), depth=(1, 2), width=(20, 60))

    def sparse(candidate):
        return candidate.architecture.density

    strategy = greedy(space, fit_kernel=True, **STEPS)
    calls, state = played(strategy, jax.random.key(0), sparse)
    assert len({e.candidate.architecture.density for e in calls[0]}) > 3
    assert state.best.candidate.architecture.density < 0.25


def test_presets_that_the_constraints_forbid_are_a_clear_error():
    space = CNNSpace((8, 8, 1), 3, depth=(1, 1), first_channels=(4, 4))
    sizes = [
        complexity(CNN((8, 8, 1), (4,), 3, batch_norm=norm)).parameters
        for norm in ((), (True,))
    ]
    limited = Constraints(max_parameters=sizes[1] - 1).limited(space)
    assert sizes[0] < sizes[1]
    with pytest.raises(InputError, match="first stage, which presets all but"):
        greedy(limited, epochs=1, **STEPS).init(jax.random.key(0))


def test_greedy_asks_for_no_more_than_it_says():
    space = MLPSpace(6, 4, width=(4, 24), depth=(2, 2))
    strategy = greedy(space, **STEPS)
    calls, _ = played(strategy, jax.random.key(0))
    asked = sum(len(call) for call in calls)
    assert asked * strategy.epochs <= strategy.candidate_epochs


def test_no_candidate_of_a_batch_is_chosen_twice():
    pool = [Candidate(MLP(6, (n,), 4), Hyperparameters()) for n in (4, 8, 16, 24)]
    alike = stages(SPACE).alike
    chosen = MODULE.promising(pool[:2], np.array([0.0, 1.0]), pool, 4, alike)
    assert sorted(chosen) == [0, 1, 2, 3]


def test_a_candidate_already_chosen_counts_as_what_is_expected_of_it(monkeypatch):
    pool = [Candidate(MLP(6, (n,), 4), Hyperparameters()) for n in (4, 8, 16, 24)]
    alike, scores = stages(SPACE).alike, np.array([0.0, 1.0])
    posterior, told = gp.posterior, []

    def noted(covariance, observed, noise):
        told.append(observed.tolist())
        return posterior(covariance, observed, noise)

    monkeypatch.setattr(gp, "posterior", noted)
    first, _ = MODULE.promising(pool[:2], scores, pool, 2, alike)
    known = posterior(alike(pool[:2], pool[:2], FARTHEST), scores, 1e-4)
    half = gp.half(known, alike(pool[:2], pool, FARTHEST))
    mean, _ = gp.moments(known, half, 1.0)
    assert told == [[0.0, 1.0], [0.0, 1.0, pytest.approx(mean[first])]]


@pytest.mark.parametrize(("vain", "found"), [(9, [(4,)]), (10, [])])
def test_a_space_counts_as_exhausted_after_ten_draws_in_vain(vain, found):
    space = CNNSpace((8, 8, 1), 3, depth=(1, 1), first_channels=(4, 5))
    wide = complexity(CNN((8, 8, 1), (5,), 3)).parameters  # more when normalised
    limited = Constraints(max_parameters=wide).limited(space)
    given = MODULE._Arguments(limited, stages(limited), 1, 1, 0, 1, False)
    widths = iter([5] * vain + [4])

    def draw(count):
        return limited.encode([{"channels_1": next(widths)}])

    state = MODULE.State(jax.random.key(0), 0, (), (), None, ())
    fresh = MODULE._fresh(given, state, draw, 1)
    assert [one.architecture.channels for _, one in fresh] == found


def test_greedys_scale_is_the_papers_unless_it_is_to_be_fitted():
    pool = [Candidate(MLP(6, (n,), 4), Hyperparameters()) for n in (4, 8, 16, 24)]
    scales = []

    def alike(known, others, scale):
        scales.append(scale)
        return stages(SPACE).alike(known, others, scale)

    MODULE.promising(pool[:2], np.array([0.0, 1.0]), pool, 1, alike)
    assert set(scales) == {FARTHEST}
    MODULE.promising(pool[:2], np.array([0.0, 1.0]), pool, 1, alike, True)
    assert set(scales) != {FARTHEST}


def test_each_bayesian_stage_has_its_kernel_all_its_steps_and_whole_scores(monkeypatch):
    asked = []

    def promising(known, observed, pool, count, alike, fit_kernel):
        asked.append((alike, list(observed)))
        return list(range(count))

    def truth(candidate):
        nodes = sum(candidate.architecture.hidden)
        return np.inf if nodes > 40 else nodes / 10

    plan = stages(SPACE)
    monkeypatch.setattr(MODULE, "stages", lambda space: plan)
    monkeypatch.setattr(MODULE, "promising", promising)
    _, state = played(greedy(SPACE, batch=1, **STEPS), jax.random.key(0), truth)
    scores = [one.score for one in state.told]
    assert np.inf in scores[:15]
    worst = max(one for one in scores[:15] if one < np.inf)
    assert asked[0][1] == [min(one, worst) for one in scores[:15]]
    kernels = [alike for alike, _ in asked]
    assert kernels == [plan.alike] * 6 + [plan.alike_training] * 6
