"""Searches that are interrupted, wherever, end as if they had not been."""

import dataclasses
import itertools

import pytest

from dnc_jax.search import MLPSpace, Objective, Store
from dnc_jax.search.run import Callback, search
from dnc_jax.search.strategies import halving
from dnc_jax.training import under_way

SPACE = MLPSpace(6, 4, width=(4, 24), depth=(0, 1), batch_sizes=(32,))


class Kill(Callback):
    """Ends the run at a given epoch, counted over all networks that train together."""

    def __init__(self, at):
        self.at, self.epochs = at, itertools.count(1)

    def on_epoch(self, accuracies):
        if next(self.epochs) == self.at:
            raise KeyboardInterrupt


def run(small, **arguments):
    strategy = halving(SPACE, candidates=6, rungs=(2, 4), reduction=3, brackets=2)
    return search(SPACE, small, Objective(), strategy, seed=5, **arguments)


def timeless(trials):
    return [dataclasses.replace(trial, seconds=0.0) for trial in trials]


@pytest.fixture(scope="module")
def whole(small):
    return run(small)


@pytest.mark.parametrize("kills", [(1, 2, 3, 4), (5, 2, 7)])
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
