"""Every strategy through one suite; then each by itself."""

import inspect
import math
import sys

import jax
import numpy as np
import pytest

from dnc_jax import InputError
from dnc_jax.footprint import complexity
from dnc_jax.search import (
    Choice,
    Constraints,
    CustomSpace,
    Integer,
    MLPSpace,
    Real,
)
from dnc_jax.search.strategies import (
    STRATEGIES,
    bayes,
    evolution,
    greedy,
    halving,
    history,
    make,
    model,
    random,
)
from dnc_jax.search.strategies.halving import bracket_sizes, rung_sizes
from tests.played import SPACE, played, score

# Few of each, so that every branch is reached soon.
QUICK = {"initial": 4, "steps": 3, "explored": 20, "population": 6}

# The package has a function of the same name.
EVOLUTION = sys.modules["dnc_jax.search.strategies.evolution"]

every_strategy = pytest.mark.parametrize("name", STRATEGIES)


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    """The runtime type checks make every candidate looked at dear."""
    monkeypatch.setattr(model, "_DRAWN", 64)


def quick(name, space=SPACE, **fields):
    given = {"candidates": 14, "batch": 4, "rungs": (1, 3), "brackets": 2, **QUICK}
    return make(space, name, **{**given, **fields})


# Every strategy


@every_strategy
def test_the_key_and_what_was_told_are_all_that_a_state_depends_on(name):
    calls, _ = played(quick(name), jax.random.key(2))
    strategy = quick(name)
    assert strategy.ask(strategy.init(jax.random.key(1))) != calls[0]
    for length in range(len(calls)):
        state = strategy.init(jax.random.key(2))
        for asked in calls[:length]:
            state = strategy.tell(state, [score(e.candidate) for e in asked])
        assert strategy.ask(state) == calls[length]


@every_strategy
def test_no_candidate_is_asked_for_twice_at_the_same_length(name):
    calls, _ = played(quick(name), jax.random.key(3))
    asked = [evaluation for call in calls for evaluation in call]
    assert len({(e.candidate, e.stop) for e in asked}) == len(asked)
    numbers = list(dict.fromkeys(e.candidate_id for e in asked))
    assert numbers == list(range(len(numbers)))
    assert len({(e.candidate_id, e.candidate) for e in asked}) == len(numbers)


@every_strategy
def test_the_epochs_announced_are_those_asked_for_or_more(name):
    def converges(candidate):
        return float(complexity(candidate.architecture).parameters)

    strategy = quick(name)
    calls, _ = played(strategy, jax.random.key(4), converges)
    epochs = sum(e.stop - e.start for call in calls for e in call)
    if name == "greedy":  # whose grids leave out what has been trained
        assert epochs <= strategy.candidate_epochs
    else:
        assert epochs == strategy.candidate_epochs
    assert max(e.stop for call in calls for e in call) == strategy.epochs == 3


@every_strategy
def test_a_search_in_which_everything_diverges_comes_to_its_end(name):
    calls, _ = played(quick(name), jax.random.key(5), lambda candidate: math.inf)
    assert calls
    assert all(e.rung == 0 for call in calls for e in call)


@every_strategy
def test_one_score_for_each_candidate_is_wanted(name):
    strategy = quick(name)
    state = strategy.init(jax.random.key(6))
    with pytest.raises(ValueError, match=r"scores were asked for, got 1"):
        strategy.tell(state, [1.0])


@every_strategy
@pytest.mark.parametrize("limit", [150, 30])
def test_nothing_beyond_the_constraints_is_asked_for(name, limit):
    space = Constraints(max_parameters=limit).limited(SPACE)
    calls, _ = played(quick(name, space), jax.random.key(7))
    sizes = [complexity(e.candidate.architecture).parameters for c in calls for e in c]
    assert max(sizes) <= limit
    assert len(calls) > 1


@every_strategy
def test_a_space_with_few_candidates_is_exhausted_and_no_more(name):
    space = MLPSpace(
        6,
        4,
        depth=(0, 1),
        width=(4, 5),
        activations=("relu",),
        dropout=(0.0, 0.0),
        learning_rate=(1e-2, 1e-2),
        weight_decay=(1e-6, 1e-6),
        batch_sizes=(32,),
    )
    calls, _ = played(quick(name, space), jax.random.key(8))
    assert len({e.candidate for call in calls for e in call}) == 3


@pytest.mark.parametrize("name", ["halving", "bayes", "evolution", "random"])
def test_every_candidate_of_a_small_space_is_found_and_none_twice(name):
    space = CustomSpace({"size": Integer(1, 12)}, lambda size: size)
    strategy = quick(name, space, candidates=12, batch=3, population=3)
    if name == "halving":
        strategy = halving(space, candidates=4, rungs=(1, 3), brackets=3)
    calls, _ = played(strategy, jax.random.key(1), lambda size: abs(size - 7.0))
    found = [e.candidate for call in calls for e in call if not e.rung]
    assert sorted(found) == list(range(1, 13))


@pytest.mark.parametrize("seed", range(4))
def test_what_a_search_is_to_begin_with_is_not_proposed_before_its_turn(seed):
    space = CustomSpace({"size": Integer(1, 8)}, lambda size: size)
    first = [{"size": size} for size in (8, 3, 5, 4, 1, 6)]
    strategy = random(space, candidates=8, batch=8, first=first)
    (asked,), _ = played(strategy, jax.random.key(seed), float)
    assert [e.candidate for e in asked][:6] == [8, 3, 5, 4, 1, 6]
    assert {e.candidate for e in asked} == set(range(1, 9))


@every_strategy
def test_every_strategy_that_needs_no_stages_takes_a_space_of_ones_own(name):
    space = CustomSpace(
        {
            "kind": Choice(("a", "b", "c")),
            "size": Integer(1, 100, log=True),
            "share": Real(0.0, 1.0, when=("kind", ("b", "c"))),
        },
        lambda **values: tuple(values.items()),
    )

    def truth(candidate):
        values = dict(candidate)
        return abs(math.log(values["size"] / 20)) + values.get("share", 0.5)

    if name == "greedy":
        with pytest.raises(InputError, match="got CustomSpace; bayes searches any"):
            quick(name, space)
        return
    calls, _ = played(quick(name, space), jax.random.key(9), truth)
    assert len(calls) > 1


@pytest.mark.parametrize("learning", [bayes, evolution, greedy])
def test_strategies_that_learn_find_better_candidates_than_random_search(learning):
    def best(strategy, seed):
        calls, _ = played(strategy, jax.random.key(seed))
        return min(score(e.candidate) for call in calls for e in call)

    # Bayes needs fewer, each of which takes it a fit.
    fields = {greedy: {"explored": 30}, bayes: {"candidates": 16}}
    few = fields.get(learning, {"candidates": 40})
    found = [best(learning(SPACE, **few), seed) for seed in range(3)]
    drawn = [best(random(SPACE, candidates=40), seed) for seed in range(3)]
    assert np.mean(found) < np.mean(drawn)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strategy": "annealing"}, "strategy must be one of halving, greedy"),
        ({"strategy": "random", "batches": 3}, "batches: no strategy has"),
        (
            {"strategy": "random", "batch": 0},
            "batch must be a whole number",
        ),
        ({"strategy": "greedy", "initial": 0}, "initial must be a whole number >= 1"),
        (
            {"strategy": "evolution", "tournament": 0},
            "tournament must be a whole number",
        ),
        ({"strategy": "greedy", "steps": -1}, "steps must be a whole number >= 0"),
        ({"strategy": "greedy", "rungs": ()}, r"rungs must be a tuple .* got \(\)"),
        ({"strategy": "random", "rungs": (0,)}, "rungs must end with epochs >= 1"),
    ],
)
def test_an_impossible_strategy_is_refused_by_name(fields, message):
    with pytest.raises(InputError, match=message):
        make(SPACE, **fields)


# Halving


@pytest.mark.parametrize(
    ("candidates", "reduction", "sizes"),
    [
        (64, 3, (64, 21, 7, 2)),
        (81, 3, (81, 27, 9, 3)),
        (16, 4, (16, 4, 1, 1)),
        (1, 2, (1, 1, 1, 1)),
    ],
)
def test_rungs_keep_one_in_so_many_and_at_least_one(candidates, reduction, sizes):
    assert rung_sizes(candidates, 4, reduction) == sizes


def test_the_best_are_promoted_with_their_own_numbers_until_one_rung_is_left():
    strategy = halving(SPACE, candidates=9, rungs=(1, 3, 9), reduction=3)
    state = strategy.init(jax.random.key(0))
    assert strategy.candidate_epochs == 9 * 1 + 3 * 2 + 1 * 6
    first = strategy.ask(state)
    assert [e.candidate_id for e in first] == list(range(9))
    scores = [5.0, 1.0, math.inf, 7.0, 2.0, 9.0, 0.0, 8.0, 3.0]
    state = strategy.tell(state, scores)
    second = strategy.ask(state)
    assert [(e.candidate_id, e.start, e.stop) for e in second] == [
        (1, 1, 3),
        (4, 1, 3),
        (6, 1, 3),
    ]
    assert second[0].candidate == first[1].candidate
    state = strategy.tell(state, [math.inf, 4.0, 5.0])
    assert [e.candidate_id for e in strategy.ask(state)] == [4]
    assert strategy.ask(strategy.tell(state, [1.0])) == []


def test_the_last_rung_is_asked_for_with_the_first_of_the_next_bracket():
    strategy = halving(SPACE, candidates=4, rungs=(1, 3), reduction=2, brackets=3)
    state = strategy.init(jax.random.key(0))
    asked = []
    while evaluations := strategy.ask(state):
        asked.append([(e.candidate_id, e.rung) for e in evaluations])
        state = strategy.tell(state, [float(e.candidate_id) for e in evaluations])
    assert asked == [
        [(0, 0), (1, 0), (2, 0), (3, 0)],
        [(0, 1), (1, 1), (4, 0), (5, 0), (6, 0), (7, 0)],
        [(4, 1), (5, 1), (8, 0), (9, 0), (10, 0), (11, 0)],
        [(8, 1), (9, 1)],
    ]
    with pytest.raises(ValueError, match="4 scores were asked for, got 3"):
        strategy.tell(strategy.init(jax.random.key(0)), [1.0, 2.0, 3.0])


def test_random_search_is_one_rung_bracket_after_bracket():
    strategy = halving(SPACE, candidates=2, rungs=(3,), brackets=3)
    state = strategy.init(jax.random.key(0))
    for bracket in range(3):
        assert [e.candidate_id for e in strategy.ask(state)] == [
            2 * bracket,
            2 * bracket + 1,
        ]
        state = strategy.tell(state, [1.0, 2.0])
    assert strategy.ask(state) == []


def test_a_bracket_in_which_all_diverged_gives_way_to_the_next():
    strategy = halving(SPACE, candidates=2, rungs=(1, 2), brackets=2)
    state = strategy.init(jax.random.key(0))
    first = strategy.ask(state)
    second = strategy.ask(strategy.tell(state, [math.inf, math.inf]))
    assert [e.candidate_id for e in second] == [2, 3]
    assert {e.rung for e in second} == {0}
    assert [e.candidate for e in second] != [e.candidate for e in first]


@pytest.mark.parametrize(
    "fields",
    [
        {"candidates": 0},
        {"brackets": 0},
        {"reduction": 1},
        {"rungs": ()},
        {"rungs": (3, 3)},
        {"rungs": (0, 3)},
    ],
)
def test_an_impossible_schedule_is_refused_by_name(fields):
    with pytest.raises(InputError, match=f"{next(iter(fields))} .*must be"):
        halving(SPACE, **fields)


def test_hyperbands_brackets_cost_about_the_same_and_skip_one_rung_more_each():
    assert [bracket_sizes(81, 5, 3, skipped) for skipped in range(5)] == [
        (81, 27, 9, 3, 1),
        (0, 34, 11, 3, 1),
        (0, 0, 15, 5, 1),
        (0, 0, 0, 8, 2),
        (0, 0, 0, 0, 5),
    ]
    strategy = halving(SPACE, candidates=9, rungs=(1, 3, 9), brackets=4, hyperband=True)
    calls, _ = played(strategy, jax.random.key(0), lambda candidate: 1.0)
    assert [[(e.rung, e.start, e.stop) for e in call] for call in calls] == [
        [(0, 0, 1)] * 9,
        [(1, 1, 3)] * 3,
        [(2, 3, 9)] * 1 + [(1, 0, 3)] * 5,
        [(2, 3, 9)] * 1 + [(2, 0, 9)] * 3,
        [(0, 0, 1)] * 9,
        [(1, 1, 3)] * 3,
        [(2, 3, 9)] * 1,
    ]
    # Of the nine in the first rung, three train for 2 epochs more and one for 6.
    expected = [call[0].expected_epochs for call in calls[:3]]
    assert expected == [(9 * 1 + 3 * 2 + 1 * 6) / 9, (3 * 2 + 1 * 6) / 3, 6.0]
    assert calls[2][1].expected_epochs == (5 * 3 + 1 * 6) / 5, "a bracket that skips"


def test_later_brackets_come_from_what_earlier_ones_reached():
    def rates(modelled):
        strategy = halving(
            SPACE, candidates=24, rungs=(1, 3), brackets=2, modelled=modelled
        )
        calls, _ = played(strategy, jax.random.key(0))
        new = [e for call in calls for e in call if e.rung == 0]
        return [
            abs(math.log10(e.candidate.hyperparameters.learning_rate) + 2) for e in new
        ]

    proposed, drawn = rates(True), rates(False)
    assert proposed[:24] == drawn[:24]
    assert np.median(proposed[24:]) < 0.5 * np.median(drawn[24:])


@pytest.fixture
def proposals(monkeypatch):
    """What the model is asked, which proposes nothing."""
    asked = []

    def proposed(space, points, scores, known, count, rng, spent=None):
        asked.append((list(scores), count, spent if spent is None else list(spent)))
        return []

    monkeypatch.setattr(model, "proposed", proposed)
    return asked


def test_two_thirds_of_a_later_bracket_are_proposed_from_scores_and_epochs(proposals):
    strategy = halving(SPACE, candidates=6, rungs=(1, 3), reduction=3, brackets=3)
    scores = [math.inf, 1.0, 2.0, 3.0, 4.0, 5.0]
    state = strategy.init(jax.random.key(0))
    state = strategy.tell(state, scores)
    assert len(strategy.ask(state)) == 2 + 6
    assert proposals == [(scores, 4, [0.5] * 6)]  # log 2 / log 4
    strategy.tell(state, [1.0] * 8)
    assert proposals[1] == ([*scores, *[1.0] * 8], 4, [0.5] * 6 + [1.0] * 2 + [0.5] * 6)


def test_bayes_asks_its_model_after_8_scores_of_which_one_is_finite(proposals):
    strategy = bayes(SPACE, candidates=10, batch=1)
    state = strategy.init(jax.random.key(0))
    for number in range(8):
        assert not proposals
        state = strategy.tell(state, [1.0 if number == 3 else math.inf])
    told = [math.inf] * 3 + [1.0] + [math.inf] * 4
    assert proposals == [(told, 1, None)]
    assert len(strategy.ask(state)) == 1


# Evolution

GENES = CustomSpace(
    {f"gene_{i}": Choice(tuple("abcdefghij")) for i in range(20)},
    lambda **values: tuple(values.values()),
)


def test_a_short_search_breeds_from_its_half_on():
    strategy = evolution(GENES, candidates=10, batch=1, epochs=1)
    calls, _ = played(strategy, jax.random.key(0), lambda genes: 1.0)
    born = [e.candidate for call in calls for e in call]
    for number in range(1, 10):
        alike = max(
            sum(a == b for a, b in zip(born[number], older, strict=True))
            for older in born[:number]
        )
        assert (alike > 6) == (number >= 5)


def test_children_have_one_parent_or_two_and_one_mutation_or_a_few():
    parents = np.repeat([[0.25], [0.75]], 20, axis=1)
    rng = np.random.default_rng(0)
    children = EVOLUTION._children(GENES, parents, np.zeros(2), 1, 400, rng)
    one, other = ((children == parent).sum(axis=1) for parent in parents)
    mutations = 20 - one - other
    assert mutations.min() == 1
    assert 1.7 < mutations.mean() < 2.2
    # Half have two parents, half of which are the same one.
    assert 0.2 < np.mean(np.minimum(one, other) > 0) < 0.3


def test_a_mutated_number_stays_near_and_within_and_a_choice_goes_anywhere():
    space = CustomSpace(
        {"number": Real(0.0, 1.0), "choice": Choice(tuple("abcdefghij"))},
        lambda number, choice: (number, choice),
    )
    rng = np.random.default_rng(0)
    for end in (0.0, 1.0):
        moved = EVOLUTION.mutations(space, np.full((500, 2), end), rng)
        away = np.abs(moved - end)
        assert (away > 0).all()
        assert (away < 1).all()
        assert away[:, 0].mean() < 0.2
        assert 0.4 < away[:, 1].mean() < 0.6


def test_only_the_youngest_are_parents():
    """Though the oldest score best, children are like those before them."""
    strategy = evolution(
        GENES, candidates=50, batch=1, population=5, tournament=5, epochs=1
    )
    state, born = strategy.init(jax.random.key(0)), []
    while evaluations := strategy.ask(state):
        born += [e.candidate for e in evaluations]
        state = strategy.tell(state, [float(len(born))])

    def shared(one, other):
        return sum(a == b for a, b in zip(one, other, strict=True))

    for number in range(25, 50):
        alike = [shared(born[number], older) for older in born[:number]]
        assert max(alike[-10:]) == max(alike)
        assert max(alike) >= 10


@pytest.mark.parametrize("name", ["bayes", "evolution", "random"])
@pytest.mark.parametrize(("candidates", "batch"), [(1, 8), (1, 1), (3, 1)])
def test_the_smallest_searches_come_to_their_end(name, candidates, batch):
    fields = {"candidates": candidates, "batch": batch, "epochs": 2}
    strategy = STRATEGIES[name](SPACE, **fields)
    calls, _ = played(strategy, jax.random.key(0))
    assert [len(call) for call in calls] == [min(batch, candidates)] * len(calls)
    assert sum(map(len, calls)) == candidates


KNOWN = [
    {"depth": 1, "width_1": 40, "activation": "tanh", "learning_rate": 0.01},
    {"depth": 0, "batch_size": 512},
    {"batch_size": 512, "depth": np.int64(0)},  # the same again
]


@pytest.mark.parametrize("name", ["halving", "bayes", "evolution", "random"])
def test_a_search_begins_with_what_is_known(name):
    space = MLPSpace(6, 4)
    length = {"rungs": (1, 3)} if name == "halving" else {"epochs": 3, "batch": 1}
    strategy = STRATEGIES[name](space, candidates=6, first=KNOWN, **length)
    calls, _ = played(strategy, jax.random.key(0))
    asked = {e.candidate_id: e.candidate for call in calls for e in call}
    assert len(set(asked.values())) == len(asked) == 6
    one, other = asked[0], asked[1]
    assert str(one.architecture) == "6-40-4 tanh dropout 0.25"
    assert one.hyperparameters.learning_rate == pytest.approx(0.01)
    assert str(other.architecture) == "6-4"
    assert other.hyperparameters.batch_size == 512
    alone = STRATEGIES[name](space, **{**length, "candidates": 2, "first": KNOWN})
    calls, _ = played(alone, jax.random.key(0))
    assert {e.candidate for call in calls for e in call} == {one, other}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"widht_1": 40},
            r"first\[1\]: the space has no dimension 'widht_1', only",
        ),
        ({"width_1": 4000}, r"first\[1\]: width_1 = 4000 is not in Integer\(low=20"),
        ({"activation": "step"}, r"first\[1\]: activation = 'step' is not in Choice"),
        ({"depth": 1, "width_1": 400}, r"first\[1\] is .* the space does not allow"),
        ({"depth": 1, "width_1": 30}, "first has 2 candidates, .* begins with 1; give"),
        (
            {"depth": 1, "width_1": 30, "width_3": 30},
            r"first\[1\]: width_3 means nothing where depth is 1; it needs one of 3",
        ),
    ],
)
def test_what_a_search_cannot_begin_with_is_refused(values, message):
    space = Constraints(max_parameters=2000).limited(MLPSpace(6, 4))
    for strategy in (random, halving):
        with pytest.raises(InputError, match=message):
            strategy(space, candidates=1, first=[{"depth": 0}, values])


def test_one_candidate_is_no_list_of_candidates():
    begun_with = inspect.unwrap(history.begun_with)
    with pytest.raises(InputError, match=r"first is a list .*first=\[\{'depth': 0\}\]"):
        begun_with(SPACE, {"depth": 0}, 1)


def test_bayes_begins_with_one_sobol_sequence_however_small_the_batches():
    def first(batch):
        strategy = STRATEGIES["bayes"](SPACE, candidates=8, batch=batch, epochs=1)
        calls, _ = played(strategy, jax.random.key(3))
        return [e.candidate for call in calls for e in call]

    assert first(1)[:8] == first(2)[:8] == first(8)
