import dataclasses
import inspect
import json
import math
import sqlite3

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc_jax import InputError
from dnc_jax.footprint import Complexity, Meter
from dnc_jax.footprint.counters import Found
from dnc_jax.networks import MLP
from dnc_jax.search import (
    Candidate,
    Constraints,
    CustomSpace,
    Integer,
    MLPSpace,
    Objective,
    Store,
    Trial,
)
from dnc_jax.search.budget import Budget
from dnc_jax.search.problem import Problem
from dnc_jax.search.results import Callback, Callbacks, SearchResult
from dnc_jax.search.run import search
from dnc_jax.search.scoring import Scorer
from dnc_jax.search.strategies import halving
from dnc_jax.search.trials import front, ranking, read
from dnc_jax.search.winner import retrain
from dnc_jax.training import Hyperparameters, timing
from dnc_jax.training.checkpoints import save
from dnc_jax.training.timing import EpochCost
from tests.clock import Clock

SPACE = MLPSpace(6, 4, width=(4, 24), depth=(0, 2), batch_sizes=(32, 64))


def trial(number, rung=0, accuracy=0.5, parameters=100, score=None, status="done"):
    error = math.log10(1 - accuracy) if score is None else score
    return Trial(
        candidate_id=number,
        candidate=Candidate(MLP(3, (4,), 2), Hyperparameters()),
        rung=rung,
        epochs=1,
        val_loss=(0.5,),
        val_accuracy=(accuracy,),
        complexity=Complexity(parameters, 2 * parameters),
        score=error,
        seconds=0.25,
        status=status,
    )


class Fitting(Objective):
    """The error alone; of networks of over 60 parameters none is good."""

    def score(self, val_loss, val_accuracy, cost, *rest):
        error = super().score(val_loss, val_accuracy, cost, *rest)
        return error + 9 * (cost.parameters > 60)


def test_an_objective_of_ones_own_ranks_and_chooses(small):
    strategy = halving(SPACE, candidates=6, rungs=(1, 2), reduction=2)
    result = search(SPACE, small, Fitting(), strategy, seed=5)
    sizes = [trial.complexity.parameters for trial in ranking(result.trials)]
    assert min(sizes) <= 60 < max(sizes)
    assert sizes[0] <= 60
    winner = retrain(result, SPACE, small, Fitting(), seed=5, epochs=1)
    assert winner.trial.complexity.parameters <= 60


# Trials


def test_a_candidate_is_ranked_by_its_best_trial_and_diverged_ones_are_not():
    trials = [
        trial(0, 0, score=-1.0),
        trial(0, 1, score=-2.0),
        trial(1, 0, score=-1.5),
        trial(2, 0, score=-9.0, status="diverged"),
    ]
    assert [(t.candidate_id, t.rung) for t in ranking(trials)] == [(0, 1), (1, 0)]


def test_equal_scores_go_to_the_smaller_network():
    trials = [trial(0, score=-1.0, parameters=9), trial(1, score=-1.0, parameters=5)]
    assert [t.candidate_id for t in ranking(trials)] == [1, 0]


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), max_size=30))
def test_the_front_is_what_no_other_network_beats(points):
    trials = [
        trial(i, accuracy=accuracy / 21, parameters=parameters)
        for i, (parameters, accuracy) in enumerate(points)
    ]
    kept = {(t.complexity.parameters, t.best_val_accuracy) for t in front(trials)}
    expected = {
        (p, a / 21)
        for p, a in points
        if not any((q <= p and b > a) or (q < p and b >= a) for q, b in points)
    }
    assert kept == expected


def test_trials_survive_the_store_and_infinite_scores_too(tmp_path):
    path = tmp_path / "trials.sqlite"
    trials = [trial(0), trial(0, 1), trial(1, score=math.inf, status="diverged")]
    with Store(path, {"a": {"b": (1, 2)}}) as store:
        store.add(trials)
    with Store(path, {"a": {"b": (1, 2)}}) as store:
        assert store.trials() == trials
    rows = sqlite3.connect(path).execute("SELECT candidate, score FROM trials")
    assert json.loads(rows.fetchone()[0])["architecture"]["hidden"] == [4]


def test_a_store_of_another_config_is_refused_with_the_difference(tmp_path):
    path = tmp_path / "trials.sqlite"
    Store(path, {"seed": 0, "data": {"name": "digits"}}).close()
    with pytest.raises(InputError, match=r"data.name was digits, is mnist"):
        Store(path, {"seed": 0, "data": {"name": "mnist"}})


def test_a_file_that_is_no_store_is_refused(tmp_path):
    path = tmp_path / "trials.sqlite"
    path.write_bytes(b"something else entirely, long enough to have a header" * 9)
    with pytest.raises(InputError, match="not a writable trial store"):
        Store(path, {})


# The loop


class Counter(Callback):
    def __init__(self):
        self.trained, self.resumed, self.flops = [], [], []

    def on_rung_end(self, trials, resumed, flops):
        self.flops.append(flops)
        (self.resumed if resumed else self.trained).append(len(trials))


def run(small, space=SPACE, **arguments):
    strategy = halving(space, candidates=8, rungs=(1, 2, 4), reduction=2, brackets=2)
    return search(space, small, Objective(), strategy, **({"seed": 5} | arguments))


@pytest.fixture(scope="module")
def whole(small):
    return run(small)


def test_no_key_is_used_twice(small):
    space = MLPSpace(6, 4, width=(8, 8), depth=(1, 1), batch_sizes=(32,))
    sparse = dataclasses.replace(space, densities=(0.25, 0.5))
    jax.config.update("jax_debug_key_reuse", True)  # in the threads that train too
    try:
        for one in (space, sparse):
            search(
                one, small, strategy=halving(one, candidates=1, rungs=(1, 2)), seed=5
            )
    finally:
        jax.config.update("jax_debug_key_reuse", False)


def test_brackets_of_hyperband_begin_with_longer_rungs(small):
    strategy = halving(
        SPACE, candidates=4, rungs=(1, 2, 4), reduction=2, brackets=3, hyperband=True
    )
    result = search(SPACE, small, Objective(), strategy, seed=5)
    assert result.complete
    firsts = {}
    for trial in result.trials:
        firsts.setdefault(trial.candidate_id, (trial.rung, trial.epochs))
    assert set(firsts.values()) == {(0, 1), (1, 2), (2, 4)}
    assert result.candidate_epochs == strategy.candidate_epochs


def same(trials, others):
    def strip(items):
        return [{**t.__dict__, "seconds": 0} for t in items]

    return strip(trials) == strip(others)


def test_a_store_of_other_epochs_is_refused(small, tmp_path):
    for rungs, refused in (((1,), False), ((3,), True)):
        strategy = halving(SPACE, candidates=2, rungs=rungs)
        with Store(tmp_path / "t.sqlite", {}) as store:
            if not refused:
                search(SPACE, small, strategy=strategy, seed=5, store=store)
                continue
            with pytest.raises(InputError, match=r"for 1 of 1 epochs, .* for 3 of 3"):
                search(SPACE, small, strategy=strategy, seed=5, store=store)


def test_another_seed_draws_other_candidates(small, whole):
    other = run(small, seed=6, budget=Budget(candidate_epochs=8))
    assert other.trials[0].candidate != whole.trials[0].candidate


def test_curves_grow_with_the_rungs(whole):
    last = whole.trials[-1].candidate_id
    winner = [t for t in whole.trials if t.candidate_id == last]
    assert [len(t.val_loss) for t in winner] == [1, 2, 4]
    assert winner[2].val_loss[:2] == winner[1].val_loss


# Compiling as users do takes long: of one batch size there are half as many programs.
ONE_SIZE = dataclasses.replace(SPACE, batch_sizes=(32,))


def test_a_search_trains_what_it_said_and_killed_after_any_rung_repeats_bit_for_bit(
    small, tmp_path, as_users_compile
):
    whole = run(small, ONE_SIZE)
    assert [t.rung for t in whole.trials] == 2 * ([0] * 8 + [1] * 4 + [2] * 2)
    assert whole.candidate_epochs == 2 * (8 * 1 + 4 * 1 + 2 * 2)
    assert whole.complete
    for rungs in (1, 2):
        folder = tmp_path / str(rungs)
        folder.mkdir()

        class Kill(Callback):
            def on_rung_start(self, evaluations, rungs=rungs):
                if evaluations[0].rung == rungs:
                    raise KeyboardInterrupt

        with (
            Store(folder / "t.sqlite", {}) as store,
            pytest.raises(KeyboardInterrupt),
        ):
            run(small, ONE_SIZE, store=store, folder=folder, callback=Kill())
        counter = Counter()
        with Store(folder / "t.sqlite", {}) as store:
            again = run(small, ONE_SIZE, store=store, folder=folder, callback=counter)
        assert counter.resumed == [8, 4][:rungs]
        assert counter.flops[: rungs + 1] == sorted(counter.flops[: rungs + 1])
        assert counter.flops[rungs - 1] == 0, "all from the store"
        assert counter.flops[-1] == again.flops > 0
        assert same(again.trials, whole.trials)


def test_a_search_whose_rung_files_are_gone_starts_that_rung_from_scratch(
    small, tmp_path, whole
):
    class Kill(Callback):
        def on_rung_start(self, evaluations):
            if evaluations[0].rung == 1:
                raise KeyboardInterrupt

    with Store(tmp_path / "t.sqlite", {}) as store, pytest.raises(KeyboardInterrupt):
        run(small, store=store, folder=tmp_path, callback=Kill())
    torn = list((tmp_path / "under_way").glob("rung-1-*"))
    assert torn
    for path in torn:
        path.write_bytes(b"torn")
    with Store(tmp_path / "t.sqlite", {}) as store:
        again = run(small, store=store, folder=tmp_path)
    for one, two in zip(again.trials, whole.trials, strict=True):
        assert len(one.val_loss) == len(two.val_loss)
        np.testing.assert_allclose(one.val_loss, two.val_loss, rtol=1e-5)


def test_a_diverged_candidate_is_recorded_and_the_search_goes_on(small, tmp_path):
    space = MLPSpace(6, 4, depth=(1, 1), width=(8, 8), learning_rate=(1e-3, 1e38))
    strategy = halving(space, candidates=12, rungs=(1, 2), reduction=3)
    with Store(tmp_path / "t.sqlite", {}) as store:
        result = search(space, small, Objective(), strategy, seed=0, store=store)
        assert store.trials()
    states = {t.status for t in result.trials}
    assert states == {"done", "diverged"}
    assert all(t.status == "done" for t in ranking(result.trials))


def test_each_of_several_callbacks_is_told_everything(small):
    members = inspect.getmembers(Callback, inspect.isfunction)
    names = [name for name, _ in members if name.startswith("on_")]

    def recorder():
        told = []
        methods = {name: lambda *_, name=name: told.append(name) for name in names}
        return type("Recorder", (Callback,), methods)(), told

    (one, told), (other, told_too) = recorder(), recorder()
    both = Callbacks(one, other)
    strategy = halving(SPACE, candidates=2, rungs=(1,))
    result = search(SPACE, small, None, strategy, seed=0, callback=both)
    retrain(result, SPACE, small, seed=0, epochs=1, callback=both)
    assert set(told) == set(names)
    assert sorted(told) == sorted(told_too)


def test_a_budget_ends_the_search_with_what_there_is(small):
    with pytest.raises(InputError, match=r"budget.seconds = 1e-09 ends before"):
        run(small, budget=Budget(seconds=1e-9))


def test_seconds_of_a_candidate_are_measured_once_and_kept(small, tmp_path):
    objective = Objective(w_c=1.0, parameters=0.0, seconds=1.0)
    strategy = halving(SPACE, candidates=3, rungs=(1, 2), reduction=3)
    with Store(tmp_path / "t.sqlite", {}) as store:
        trials = search(SPACE, small, objective, strategy, seed=5, store=store).trials
    promoted = trials[-1]
    first = trials[promoted.candidate_id]
    assert first.epoch_cost == promoted.epoch_cost
    assert first.epoch_cost.seconds > 0
    error = max(1 - promoted.best_val_accuracy, small.resolution)
    assert 10**promoted.score == pytest.approx(error + promoted.epoch_cost.seconds / 10)
    with Store(tmp_path / "t.sqlite", {}) as store:
        again = search(SPACE, small, objective, strategy, seed=5, store=store)
    assert again.trials == trials


def test_joules_are_asked_of_whoever_counts_them(small):
    strategy = halving(SPACE, candidates=2, rungs=(1,))
    objective = Objective(w_c=1.0, parameters=0.0, joules=1.0)
    with pytest.raises(InputError, match="need an energy counter"):
        search(SPACE, small, objective, strategy, seed=5)
    with Meter(Found((Clock(),), None)) as meter:
        result = search(SPACE, small, objective, strategy, seed=5, meter=meter)
    assert all(trial.epoch_cost.joules > 0 for trial in result.trials)
    assert result.table()["epoch_joules"] == [
        trial.epoch_cost.joules for trial in result.trials
    ]


@pytest.fixture
def scored(small, monkeypatch):
    """A scorer by seconds and joules, two evaluations, and what was measured."""
    measured = []

    def cost(key, architecture, *rest):
        measured.append(architecture)
        return EpochCost(1.0, 2.0)

    monkeypatch.setattr(timing, "epoch_cost", cost)
    limits = Constraints(max_seconds_per_epoch=3.0, max_joules_per_epoch=3.0)
    strategy = halving(SPACE, candidates=2, rungs=(1, 2), reduction=2)
    problem = Problem(SPACE, small, Objective(), strategy, limits, 0)
    evaluations = strategy.ask(strategy.init(jax.random.key(0)))
    with Meter(Found((Clock(),), None)) as meter:
        yield Scorer(problem, meter), evaluations, measured


def test_a_candidate_is_measured_once_for_all_that_is_asked(scored):
    scorer, evaluations, measured = scored
    networks = [one.candidate.architecture for one in evaluations]
    for _ in range(2):
        assert scorer.measure(evaluations)
        assert measured == networks
    scorer.remember([trial(0)])  # of which nothing was measured
    assert scorer.measure(evaluations)
    assert measured == networks
    scorer.remember([dataclasses.replace(trial(0), epoch_cost=EpochCost(1.0))])
    assert scorer.measure(evaluations)
    assert measured == [*networks, networks[0]]


def test_a_trial_keeps_its_status_when_another_search_scores_it(scored):
    scorer, (one, _), _ = scored
    for seconds, diverged, status in (
        (3.0, False, "done"),
        (3.1, False, "infeasible"),
        (3.0, True, "diverged"),
        (3.1, True, "diverged"),
    ):
        cost = EpochCost(seconds, 1.0)
        scorer.remember([dataclasses.replace(trial(0), epoch_cost=cost)])
        made = scorer.trial(one, (0.5,), (0.5,), 1.0, diverged)
        assert made.status == status
        assert scorer.again(one, made) == made
        assert scorer.agrees(one, made)
        if not diverged:
            other = {"done": "infeasible", "infeasible": "done"}[status]
            assert not scorer.agrees(one, dataclasses.replace(made, status=other))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_jax_would_take_for_another_is_refused(small, seed):
    with pytest.raises(InputError, match=f"seed must .*, got {seed}"):
        run(small, seed=seed)


def test_what_takes_longer_than_allowed_does_not_win(small):
    strategy = halving(SPACE, candidates=2, rungs=(1,))
    limit = Constraints(max_seconds_per_epoch=1e-9)
    result = search(SPACE, small, Objective(), strategy, seed=5, constraints=limit)
    assert {trial.status for trial in result.trials} == {"infeasible"}
    with pytest.raises(InputError, match=r"could be ranked.* constraints\.max_seconds"):
        retrain(result, SPACE, small, Objective(), seed=5, epochs=1)
    with pytest.raises(InputError, match=r"could be ranked.* constraints\.max_seconds"):
        _ = result.best


def test_a_ranked_candidate_that_diverges_at_full_length_is_not_called_infeasible(
    small,
):
    wild = Candidate(MLP(6, (16,), 4), Hyperparameters(1e30, 0.0, 32))
    trials = [
        dataclasses.replace(trial(0), candidate=wild),
        trial(1, status="infeasible"),
    ]
    rest = [None] * (len(SearchResult._fields) - 1)
    result = SearchResult(trials, *rest)
    with pytest.raises(InputError, match="ranked diverged in its 2 epochs at full"):
        retrain(result, SPACE, small, seed=5, epochs=2)


def test_the_winner_is_trained_again_at_full_length_and_tested(small, whole):
    winner = retrain(whole, SPACE, small, Objective(), seed=5, epochs=6)
    assert winner.trial == ranking(whole.trials)[0]
    assert len(winner.history.val_loss) == 6
    logits = winner.network(small.test.x)
    accuracy = np.mean(np.asarray(logits).argmax(-1) == small.test.y)
    assert winner.test_accuracy == pytest.approx(accuracy)
    # In a notebook, where each is shown when a cell ends with it.
    size = f"{winner.trial.complexity.parameters:,} parameters"
    assert (
        repr(winner.network)
        == f"<Network {winner.trial.candidate.architecture}, {size}>"
    )
    assert f"<Winner {winner.trial.candidate}: test_accuracy {accuracy:.4f}" in repr(
        winner
    )
    assert (
        f"28 trials, {whole.search_seconds:.1f} s; best {winner.trial.candidate}, "
        in repr(whole)
    )
    assert "; none could be ranked>" in repr(whole._replace(trials=[]))
    assert repr(small) == f"<Dataset clouds: {small}>"
    with pytest.raises(InputError, match=r"epochs must be a whole number >= 1, got 0"):
        retrain(whole, SPACE, small, Objective(), seed=5, epochs=0)
    other = small._replace(outputs=3)
    with pytest.raises(InputError, match="has 6 inputs and 4 outputs, the data has 6 "):
        retrain(whole, SPACE, other, Objective(), seed=5, epochs=6)


def test_folder_and_store_may_be_named_by_text(small, tmp_path):
    store = str(tmp_path / "trials.sqlite")
    with Store(store, {}) as opened:
        result = run(small, store=opened, folder=str(tmp_path))
        retrain(result, SPACE, small, seed=5, epochs=1, folder=str(tmp_path))
    assert (tmp_path / "under_way").is_dir()
    assert len(read(store)[1]) == len(result.trials)


def test_a_refit_reports_the_training_before_and_returns_another_network(small, whole):
    arguments = (whole, SPACE, small, Objective())
    plain = retrain(*arguments, seed=5, epochs=3)
    refit = retrain(*arguments, seed=5, epochs=3, refit=True)
    assert refit.history.val_loss == plain.history.val_loss
    assert refit.score == plain.score
    one, other = (w.network.params[0]["weight"] for w in (plain, refit))
    assert one.shape == other.shape
    assert not np.array_equal(one, other)


class Unsure(Objective):
    """An objective that knows nothing."""

    def score(self, *args, **kwargs):
        return math.nan


class Certain(Objective):
    def score(self, *arguments):
        return -math.inf


class Silent(Objective):
    def score(self, *arguments):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"space": MLPSpace(7, 4)}, "has 7 inputs and 4 outputs, the data has 6 "),
        ({"space": MLPSpace(6, 3)}, "has 6 inputs and 3 outputs, the data has 6 "),
        (
            {"constraints": Constraints(max_parameters=90)},
            r"pass constraints\.limited\(space\)",
        ),
        ({"objective": Unsure()}, r"Unsure\.score gave nan for candidate \d; a score"),
        ({"objective": Certain()}, r"Certain\.score gave -inf for candidate \d; a"),
        ({"objective": Silent()}, r"Silent\.score gave None for candidate \d; a score"),
    ],
)
def test_what_does_not_fit_together_is_refused(small, arguments, message):
    space = arguments.pop("space", SPACE)
    strategy = halving(SPACE, candidates=2, rungs=(1,), brackets=1)
    with pytest.raises(InputError, match=message):
        search(space, small, strategy=strategy, seed=0, **arguments)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("objective", halving(SPACE), "type Objective, such as .*, got Strategy"),
        ("strategy", "random", r"type Strategy, such as halving\(space\), got str"),
        ("data", None, "type Dataset, such as from_arrays.*, got NoneType"),
        ("space", 1, r"type Space, such as make_space\(data\), got int"),
        ("data", (1, 2), "type Dataset, such as from_arrays.*, got tuple"),
        ("callback", print, "type Callback, such as .*, got builtin_function"),
        ("budget", 60, r"type Budget, such as Budget\(seconds=60\), got int"),
    ],
)
def test_an_argument_of_another_kind_is_named_with_an_example(
    small, name, value, message
):
    arguments = {"space": SPACE, "data": small, "seed": 0} | {name: value}
    unchecked = inspect.unwrap(search)  # not held against its annotations
    with pytest.raises(InputError, match=f"{name} must be of the {message}"):
        unchecked(**arguments)


def test_what_another_function_takes_is_named_with_an_example(small, whole):
    unchecked = inspect.unwrap(retrain)
    with pytest.raises(InputError, match="result must be of the type SearchResult"):
        unchecked(SPACE, whole, small, seed=0, epochs=1)
    with pytest.raises(
        InputError, match=r"trained must .* winner\.network, got Search"
    ):
        inspect.unwrap(save)("nowhere", whole)


def test_a_space_that_builds_no_candidates_is_refused(small):
    space = CustomSpace({"width": Integer(2, 4)}, lambda width: MLP(6, (width,), 4))
    with pytest.raises(InputError, match=r"builds a MLP, .* Candidate\(architecture"):
        search(space, small, seed=0)


def test_a_score_may_be_an_array_of_jax(small):
    class OnDevice(Objective):
        def score(self, *arguments):
            return jnp.float32(super().score(*arguments))

    strategy = halving(SPACE, candidates=2, rungs=(1,), brackets=1)
    result = search(SPACE, small, OnDevice(), strategy, seed=0)
    assert all(type(trial.score) is float for trial in result.trials)


@pytest.mark.parametrize("rungs", [3, (1.5, 3), ("1",)])
def test_rungs_are_whole_epochs(rungs):
    with pytest.raises(InputError, match=r"a tuple of whole epochs like \(3, 9\), got"):
        inspect.unwrap(halving)(SPACE, rungs=rungs)


def test_of_equal_candidates_the_earlier_one_is_better():
    trials = [trial(1), trial(0)]
    assert [t.candidate_id for t in ranking(trials)] == [0, 1]
    assert [t.candidate_id for t in front(trials)] == [0]


def test_a_store_keeps_the_first_fact_and_the_last_trial(tmp_path):
    path = tmp_path / "trials.sqlite"
    with Store(path, {"seed": 0, "budget": {"seconds": 1}}, ("budget",)) as store:
        assert not store.changed
        assert [store.first("metric", one) for one in ("f1", "R²")] == ["f1", "f1"]
        store.add([trial(0, accuracy=0.5)])
        store.add([trial(0, accuracy=0.75)])
        assert store.trials() == [trial(0, accuracy=0.75)]
    with Store(path, {"seed": 0, "budget": {"seconds": 2}}, ("budget",)) as store:
        assert store.changed
    assert read(path)[0]["budget"] == {"seconds": 2}


def test_a_store_that_is_not_there_is_not_made_by_reading_it(tmp_path):
    with pytest.raises(InputError, match="no trial store"):
        read(tmp_path / "trials.sqlite")
    assert not list(tmp_path.iterdir())
