"""Searches that are interrupted, wherever, end as if they had not been."""

import dataclasses
import itertools
import multiprocessing
import os
import sqlite3
import time

import jax
import numpy as np
import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None

from dnc_jax import InputError
from dnc_jax.footprint import Meter
from dnc_jax.footprint.counters import Found
from dnc_jax.networks import MLP
from dnc_jax.search import Constraints, MLPSpace, Objective, Store
from dnc_jax.search.results import Callback
from dnc_jax.search.run import search
from dnc_jax.search.strategies import halving
from dnc_jax.search.trials import read
from dnc_jax.search.winner import retrain
from dnc_jax.training import costs, timing, trainer, under_way
from tests.clock import Clock

SPACE = MLPSpace(6, 4, width=(4, 16), depth=(0, 1), batch_sizes=(32,))


class Kill(Callback):
    """Ends the run at a given epoch, counted over all networks that train together."""

    def __init__(self, at):
        self.at, self.epochs = at, itertools.count(1)

    def on_epoch(self, accuracies):
        if next(self.epochs) == self.at:
            raise KeyboardInterrupt


def run(small, **arguments):
    strategy = halving(
        SPACE, candidates=6, rungs=(2, 4), reduction=3, brackets=2, modelled=False
    )
    return search(SPACE, small, Objective(), strategy, seed=5, **arguments)


def timeless(trials):
    return [dataclasses.replace(trial, seconds=0.0) for trial in trials]


@pytest.fixture(scope="module")
def whole(small):
    return run(small)


@pytest.mark.parametrize("kills", [(1, 2), (5, 2, 7)])
def test_a_search_killed_within_units_ends_with_the_same_bits(
    small, whole, tmp_path, monkeypatch, kills
):
    monkeypatch.setattr(under_way, "SAVE_SECONDS", -1.0)
    for at in kills:
        with (
            Store(tmp_path / "t.sqlite", {}) as store,
            pytest.raises(KeyboardInterrupt),
        ):
            run(small, store=store, folder=tmp_path, callback=Kill(at))
    with Store(tmp_path / "t.sqlite", {}) as store:
        before = store.trials()
        result = run(small, store=store, folder=tmp_path)
    assert timeless(result.trials) == timeless(whole.trials)
    assert all(trial in result.trials for trial in before), "none is lost"
    assert 0 < result.candidate_epochs < whole.candidate_epochs
    assert 0 < result.flops < whole.flops


def test_a_search_goes_on_with_the_constants_that_it_began_with(small, tmp_path):
    # With these each network has a program of its own, in its own width.
    cost = costs.CostModel(compile_seconds=1e-9)
    whole = run(small, cost_model=cost)
    with Store(tmp_path / "t.sqlite", {}) as store, pytest.raises(KeyboardInterrupt):
        run(small, store=store, folder=tmp_path, callback=Kill(3), cost_model=cost)
    with Store(tmp_path / "t.sqlite", {}) as store:
        result = run(small, store=store, folder=tmp_path)
    assert timeless(result.trials) == timeless(whole.trials)
    assert result.programs.keys() <= whole.programs.keys()


def test_a_search_whose_unit_files_are_damaged_trains_those_units_again(
    small, whole, tmp_path
):
    with Store(tmp_path / "t.sqlite", {}) as store, pytest.raises(KeyboardInterrupt):
        run(small, store=store, folder=tmp_path, callback=Kill(6))
    files = sorted((tmp_path / "under_way").glob("rung-1-*"))
    files[0].write_bytes(files[0].read_bytes()[:-100])
    with Store(tmp_path / "t.sqlite", {}) as store:
        result = run(small, store=store, folder=tmp_path)
    for one, two in zip(result.trials, whole.trials, strict=True):
        assert one.candidate == two.candidate
        assert one.val_loss == pytest.approx(two.val_loss, rel=1e-5)


class Full(Callback):
    """From a given epoch on no file can be written, as on a full disk."""

    def __init__(self, at):
        self.at, self.epochs = at, itertools.count(1)

    def on_epoch(self, accuracies):
        if next(self.epochs) == self.at:
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))


@pytest.mark.skipif(resource is None, reason="the system cannot limit files")
@pytest.mark.parametrize("save_seconds", [-1.0, 60.0], ids=["within", "after"])
def test_a_full_disk_ends_a_search_and_what_was_stored_is_kept(
    small, whole, tmp_path, monkeypatch, save_seconds
):
    monkeypatch.setattr(under_way, "SAVE_SECONDS", save_seconds)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with (
            Store(tmp_path / "t.sqlite", {}) as store,
            pytest.raises((InputError, OSError)) as raised,
        ):
            run(small, store=store, folder=tmp_path, callback=Full(6))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "large" in str(raised.value) or "the same command goes on" in str(
        raised.value
    )
    assert not list(tmp_path.rglob("*.partial"))
    with Store(tmp_path / "t.sqlite", {}) as store:
        before = store.trials()
        result = run(small, store=store, folder=tmp_path)
    assert before, "a rung was stored before the disk was full"
    assert all(trial in result.trials for trial in before)
    assert timeless(result.trials) == timeless(whole.trials)


class Stop(Callback):
    def __init__(self, at):
        self.at = at

    def on_retrain_epoch(self, epoch, epochs, val_accuracy):
        self.at -= 1
        if self.at == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [2, 5])
def test_the_training_of_a_winner_goes_on_after_an_interruption(
    small, whole, tmp_path, monkeypatch, at
):
    monkeypatch.setattr(under_way, "SAVE_SECONDS", -1.0)

    def train(callback, folder):
        arguments = {"seed": 5, "epochs": 4, "refit": True, "folder": folder}
        return retrain(whole, SPACE, small, Objective(), callback=callback, **arguments)

    with pytest.raises(KeyboardInterrupt):
        train(Stop(at), tmp_path)
    counter = Stop(100)
    again, once = train(counter, tmp_path), train(None, None)
    assert counter.at == 100 - (8 - at), "no epoch that was kept is trained again"
    assert again.history.val_loss == once.history.val_loss
    assert again.history.train_loss == once.history.train_loss
    assert again.test_accuracy == once.test_accuracy
    jax.tree.map(
        np.testing.assert_array_equal, again.network.params, once.network.params
    )


def test_a_file_of_another_networks_training_counts_as_missing(small, whole, tmp_path):
    path = tmp_path / "course"
    under_way.write(path, (({"weight": np.zeros(3)},), ()))
    key = jax.random.key(0)
    one = whole.trials[0].candidate
    runs = [
        trainer.train(
            key,
            one.architecture,
            one.hyperparameters,
            small,
            order_key=key,
            epochs=1,
            checkpoint=checkpoint,
        )
        for checkpoint in (path, None)
    ]
    assert runs[0][1].val_loss == runs[1][1].val_loss


def test_a_second_run_on_one_store_is_refused_until_the_first_ends(tmp_path):
    path = tmp_path / "t.sqlite"
    with Store(path, {}):
        with pytest.raises(InputError, match=f"another run is using {tmp_path}"):
            Store(path, {})
        assert read(path) == ({}, [])
    Store(path, {}).close()


def test_a_lock_dies_with_its_owner(tmp_path):
    path = tmp_path / "t.sqlite"
    owner = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(path, os.getpid())
    )
    owner.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.05)
    with pytest.raises(InputError, match="another run"):
        Store(path, {})
    owner.kill()
    owner.join()
    Store(path, {}).close()


def _hold(path, parent):
    with Store(path, {}):
        (path.parent / "held").touch()
        while os.getppid() == parent:
            time.sleep(0.1)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_torn_store_is_refused_and_left_as_it_is(small, whole, tmp_path, keep):
    path = tmp_path / "t.sqlite"
    with Store(path, {}) as store:
        store.add(whole.trials)
    torn = path.read_bytes()[: int(keep * path.stat().st_size)]
    path.write_bytes(torn)
    with pytest.raises(InputError, match=r"t.sqlite is not a writable trial store"):
        Store(path, {})
    assert path.read_bytes() == torn


def test_a_damaged_row_is_a_clear_error(whole, tmp_path):
    path = tmp_path / "t.sqlite"
    with Store(path, {}) as store:
        store.add(whole.trials)
        with sqlite3.connect(path) as db:
            db.execute("UPDATE trials SET candidate = '{' WHERE candidate_id = 1")
        db.close()
        with pytest.raises(InputError, match=r"t.sqlite is damaged .*move it away"):
            store.trials()


def test_a_fork_scores_old_trials_anew_and_trains_only_what_is_new(
    small, whole, tmp_path
):
    strategy = halving(
        SPACE, candidates=6, rungs=(2, 4), reduction=3, brackets=2, modelled=False
    )
    small_ones = Objective(w_c=1.0)
    arguments = (SPACE, small, small_ones, strategy)
    anew = search(*arguments, seed=5)
    with Store(tmp_path / "t.sqlite", {}) as store:
        fork = search(*arguments, seed=5, prior=whole.trials, store=store)
        assert sorted(store.trials(), key=_place) == sorted(fork.trials, key=_place)
    assert [t.candidate for t in fork.trials] == [t.candidate for t in anew.trials]
    for one, other in zip(fork.trials, anew.trials, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-4)
    repeated = {(t.candidate, t.epochs) for t in whole.trials}
    new = [t for t in fork.trials if (t.candidate, t.epochs) not in repeated]
    assert fork.candidate_epochs == sum(t.epochs for t in new)
    assert len(new) < len(fork.trials)


def _place(trial):
    return trial.candidate_id, trial.rung


def test_trials_of_another_schedule_are_not_taken_over(small, whole):
    strategy = halving(SPACE, candidates=6, rungs=(2, 5), reduction=3)
    fork = search(SPACE, small, Objective(), strategy, seed=5, prior=whole.trials)
    assert fork.candidate_epochs == 6 * 2 + 2 * 3


def test_a_store_of_other_candidates_is_refused(small, whole, tmp_path):
    with Store(tmp_path / "t.sqlite", {}) as store:
        first = whole.trials[0]
        other = dataclasses.replace(first.candidate, architecture=MLP(6, (99,), 4))
        store.add([dataclasses.replace(first, candidate=other)])
        with pytest.raises(InputError, match=r"store's candidate 0 is 6-99-4 .* asks"):
            run(small, store=store)


def test_a_store_of_other_rows_is_refused(small, tmp_path):
    with Store(tmp_path / "t.sqlite", {}) as store:
        run(small, store=store)
    train = small.train
    edited = small._replace(train=train._replace(x=2 * train.x))
    with (
        Store(tmp_path / "t.sqlite", {}) as store,
        pytest.raises(InputError, match="the rows of clouds, or their goal, are not"),
    ):
        run(edited, store=store)


def test_a_fork_measures_what_the_search_before_did_not(small, whole, monkeypatch):
    asked = []

    def cost(key, architecture, hyperparameters, data, read_joules):
        asked.append(read_joules)
        return timing.EpochCost(2.0, read_joules and 5.0)

    monkeypatch.setattr(timing, "epoch_cost", cost)
    seconds_only = [
        dataclasses.replace(t, epoch_cost=timing.EpochCost(1.0)) for t in whole.trials
    ]
    strategy = halving(
        SPACE, candidates=6, rungs=(2, 4), reduction=3, brackets=2, modelled=False
    )
    objective = Objective(w_c=0.0)
    limits = Constraints(max_joules_per_epoch=4.0)
    result = search(
        SPACE,
        small,
        objective,
        strategy,
        seed=5,
        prior=seconds_only,
        constraints=limits,
        meter=Meter(Found((Clock(),), None)),
    )
    assert asked
    assert {t.epoch_cost.joules for t in result.trials} == {5.0}
    assert {t.status for t in result.trials} == {"infeasible"}


def test_a_store_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file cannot be written \("):
        Store(tmp_path / "file" / "t.sqlite", {})


def test_what_another_training_left_in_the_folder_is_not_this_ones(
    small, whole, tmp_path
):
    def winner(seed=5, epochs=2, **kept):
        return retrain(whole, SPACE, small, seed=seed, epochs=epochs, **kept)

    first = winner(folder=tmp_path)
    again = winner(folder=tmp_path)
    assert again.history == first.history
    assert (first.flops > 0, again.flops) == (True, 0), "nothing was trained again"
    for other in ({"epochs": 4}, {"seed": 6}):
        kept, fresh = winner(**other, folder=tmp_path), winner(**other)
        assert kept.history.val_loss == fresh.history.val_loss
        assert kept.flops == fresh.flops


def test_another_search_in_the_folder_is_not_gone_on_with(small, tmp_path):
    strategy = halving(SPACE, candidates=2, rungs=(2,), brackets=1)
    folder = tmp_path / "new" / "folder"
    one, same, other, fresh = (
        search(SPACE, small, Objective(), strategy, seed=seed, folder=where)
        for seed, where in ((1, folder), (1, folder), (2, folder), (2, None))
    )
    assert (one.candidate_epochs, same.candidate_epochs) == (4, 0)
    assert (one.forecast is None, same.forecast is None) == (False, True)
    assert timeless(same.trials) == timeless(one.trials)
    assert other.candidate_epochs == 4
    assert timeless(other.trials) == timeless(fresh.trials)
