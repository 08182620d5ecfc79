"""Many networks at once: lanes, rungs, what is saved, and what they cost."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax.errors import ProcessError
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.training import (
    engines,
    lanes,
    plan,
    population,
    processes,
    shapes,
    under_way,
)
from dnc_jax.training import programs as programs_of
from tests.alone import ORDER, alone, assert_same, job


def test_a_lane_is_its_network_alone_to_rounding_after_ten_adam_steps(small):
    jobs = [
        job(0, (9, 5), "relu", 0.2),
        job(1, (20, 3), "tanh"),
        job(2, (3, 17), "sigmoid", 0.4),
        job(3, (), learning_rate=1e-2),
        job(4, (30,), "sigmoid", 0.1, batch_size=64),
        job(5, (12, 7, 19), "tanh", 0.3, weight_decay=0.0),
    ]
    programs = population.Programs(small, ORDER)
    assert programs.cost.workers == programs.workers, "plans for the cores there are"
    outcomes = population.train(jobs, programs)
    assert max(shape.lanes for shape in programs.shapes) > 1, "nothing was padded"
    for one, outcome in zip(jobs, outcomes, strict=True):
        state, losses = alone(one, small, 2)
        np.testing.assert_allclose(outcome.val_loss, losses, atol=1e-5)
        assert_same(outcome.snapshot.params, state.params, 1e-5)
        assert_same(outcome.snapshot.mu, state.adam.mu, 1e-5)
        assert outcome.snapshot.step == state.step


def test_a_group_that_exceeds_the_devices_memory_is_halved(small, monkeypatch):
    jobs = [job(i, (9,)) for i in range(4)]
    programs = population.Programs(small, ORDER)
    whole = population.train(jobs, programs)
    assert max(shape.lanes for shape in programs.shapes) > 1
    get, asked = programs.get, []

    def crowded(shape, packed):
        asked.append(shape.lanes)
        if shape.lanes > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return get(shape, packed)

    monkeypatch.setattr(programs, "get", crowded)
    with monkeypatch.context() as several:
        several.setattr(jax, "process_count", lambda: 2)
        several.setattr(processes, "any_of", lambda flags: flags)
        with pytest.raises(ProcessError, match="this process ran out of memory"):
            population.train(jobs, programs)
    outcomes = population.train(jobs, programs)
    assert max(asked) > 1
    for one, other in zip(whole, outcomes, strict=True):
        np.testing.assert_allclose(one.val_loss, other.val_loss, atol=1e-5)


def test_all_seconds_are_accounted_for(small, monkeypatch):
    programs = population.Programs(small, ORDER)
    jobs = [job(i, (5 + i, 8)) for i in range(4)]
    get, train_seconds, get_seconds = programs.get, [], []

    def timed(shape, packed):
        begin = time.perf_counter()
        program, *arguments = get(shape, packed)
        get_seconds.append(time.perf_counter() - begin)

        def train(*arguments):
            begin = time.perf_counter()
            time.sleep(0.2)  # beside which the rest of an epoch is little
            state = jax.block_until_ready(program.train(*arguments))
            train_seconds.append(time.perf_counter() - begin)
            return state

        return program._replace(train=train), *arguments

    monkeypatch.setattr(programs, "get", timed)
    begin = time.perf_counter()
    population.train(jobs, programs)
    wall = time.perf_counter() - begin
    seconds, workers = programs.seconds, programs.workers
    assert sum(seconds) == pytest.approx(wall, rel=0.02)
    assert min(seconds) > 0
    assert seconds.training * workers == pytest.approx(sum(train_seconds), rel=0.1)
    assert 0 < seconds.compiling * workers <= sum(get_seconds)


def test_one_validation_serves_all_batch_sizes(small, monkeypatch):
    function, asked = programs_of._function, []

    def spied(name, shape, *rest):
        asked.append((name, shape.batch_size))
        return function(name, shape, *rest)

    monkeypatch.setattr(programs_of, "_function", spied)
    programs = population.Programs(small, ORDER)
    population.train(
        [job(0, (9,), batch_size=16), job(1, (9,), batch_size=32)], programs
    )
    assert sorted(asked) == [("evaluate", 0), ("train", 16), ("train", 32)]
    assert {shape.batch_size for shape in programs.shapes} == {16, 32}


def test_an_activation_without_a_form_for_lanes_trains_as_it_is(small):
    formless = [name for name, one in ACTIVATIONS.items() if one.lane_form is None]
    jobs = [job(i, (9, 5), name, 0.2) for i, name in enumerate([*formless, "tanh"])]
    programs = population.Programs(small, ORDER)
    outcomes = population.train(jobs, programs)
    kinds = sorted(type(shape).__name__ for shape in programs.shapes)
    assert kinds == [*["Exact"] * len(formless), "Padded"]
    for one, outcome in zip(jobs, outcomes, strict=True):
        state, losses = alone(one, small, 2)
        assert outcome.snapshot.step == state.step == 10
        np.testing.assert_allclose(outcome.val_loss, losses, atol=1e-5)
        assert_same(outcome.snapshot.params, state.params, 1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_padding_stays_exactly_zero_through_training(small, activation):
    programs = population.Programs(small, ORDER)
    shape = shapes.Padded(2, (16, 32), 32)
    one = job(0, (9, 21), activation, 0.2)
    state = lanes.pack([engines.fresh(one)], shape)
    settings = lanes.settings([one], shape)
    program, state, settings = programs.get(shape, [(state, settings)])
    for epoch in range(2):
        state = program.train(state, settings, np.float32(1), epoch)
    weights, adam, _ = jax.device_get(state)
    for tree in (weights, adam.mu, adam.nu):
        assert np.any(tree.first[:, 0, :9])
        assert not np.any(tree.first[:, 0, 9:])
        assert np.any(tree.later[0][0, :9, :21])
        assert not np.any(tree.later[0][0, 9:])
        assert not np.any(tree.later[0][0, :, 21:])
        assert not np.any(tree.later[1][0, 21:])
        assert not np.any(tree.bias[0, 9:16])
        assert not np.any(tree.first[:, 1])


def test_training_in_two_rungs_is_training_in_one(small):
    whole = population.train(
        [job(0, (9, 5), stop=4)], population.Programs(small, ORDER)
    )
    programs = population.Programs(small, ORDER)
    first = population.train([job(0, (9, 5), stop=2)], programs)[0]
    second = population.train(
        [job(0, (9, 5), start=2, stop=4)._replace(snapshot=first.snapshot)], programs
    )[0]
    assert whole[0].val_loss == first.val_loss + second.val_loss


def test_jobs_of_two_rungs_train_together_as_they_do_apart(small):
    early = population.train([job(0, (8,), stop=1)], population.Programs(small, ORDER))
    later = job(0, (8,), start=1, stop=4)._replace(snapshot=early[0].snapshot)
    jobs = [job(1, (8,), stop=1), later, job(2, (9, 5), stop=1)]
    together = population.train(jobs, population.Programs(small, ORDER))
    for one, outcome in zip(jobs, together, strict=True):
        (apart,) = population.train([one], population.Programs(small, ORDER))
        assert len(outcome.val_loss) == one.stop - one.start
        np.testing.assert_allclose(outcome.val_loss, apart.val_loss, rtol=1e-5)
        assert_same(outcome.snapshot.params, apart.snapshot.params, 1e-5)


def test_the_same_jobs_give_the_same_bits(small):
    jobs = [job(i, (5 + i, 8), dropout=0.1) for i in range(5)]
    runs = [population.train(jobs, population.Programs(small, ORDER)) for _ in range(2)]
    for one, two in zip(*runs, strict=True):
        assert one.val_loss == two.val_loss
        assert_same(one.snapshot.params, two.snapshot.params, 0)


def test_a_lane_that_diverges_is_reported_and_spoils_no_other(small):
    good = job(0, (9, 5))
    bad = dataclasses.replace(good.hyperparameters, learning_rate=1e30)
    programs = population.Programs(small, ORDER)
    outcomes = population.train([good, good._replace(hyperparameters=bad)], programs)
    assert len(programs.shapes) == 1, "the two were to share a program"
    assert outcomes[1].diverged
    assert outcomes[1].snapshot is None
    assert len(outcomes[1].val_loss) < 2
    assert not outcomes[0].diverged
    np.testing.assert_allclose(
        outcomes[0].val_loss, alone(good, small, 2)[1], atol=1e-5
    )


def test_jobs_that_were_stopped_have_no_outcome(small):
    calls = []

    def stop():
        calls.append(1)
        return len(calls) > 2

    outcomes = population.train(
        [job(0, (9,), stop=4)], population.Programs(small, ORDER), should_stop=stop
    )
    assert outcomes == [None]


def test_progress_counts_every_candidate_epoch(small):
    counted = []
    jobs = [job(i, (9,)) for i in range(3)]
    population.train(jobs, population.Programs(small, ORDER), on_epoch=counted.append)
    assert sum(map(len, counted)) == 3 * 2


def test_no_jobs_are_no_work(small):
    assert population.train([], population.Programs(small, ORDER)) == []


def test_whatever_was_trained_when_a_run_is_stopped_is_saved(small, monkeypatch):
    monkeypatch.setattr(under_way, "SAVE_SECONDS", 1e9)
    jobs = [job(i, (9 + i,), batch_size=16 * (i + 1), stop=4) for i in range(4)]
    programs = population.Programs(small, ORDER)
    programs.workers = 2
    trained, saved = [], []
    outcomes = population.train(
        jobs,
        programs,
        on_epoch=lambda accuracies: trained.append(len(accuracies)),
        should_stop=lambda: len(trained) >= 3,
        save=lambda members, progress: saved.extend(progress),
    )
    assert None in outcomes
    assert sum(len(one.val_loss) for one in saved) == sum(trained) > 0


def test_one_process_by_itself_asks_nobody(small, monkeypatch):
    def nobody(tree):
        raise AssertionError("there is no other process")

    monkeypatch.setattr(processes, "from_first", nobody)
    programs = population.Programs(small, ORDER)
    assert programs.workload(1).memory_bytes > 0


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_lane_form_of_an_activation_is_the_activation(name):
    x = jnp.linspace(-4, 4, 81)
    form = ACTIVATIONS[name].lane_form
    if form is None:
        with pytest.raises(TypeError, match=f"{name} has no form"):
            lanes.settings([job(0, (3,), name)], shapes.Padded(1, (16,), 32))
        return
    smooth = form.amplitude * np.tanh(form.slope * x) + form.offset
    np.testing.assert_allclose(
        np.maximum(x, 0) if form.rectified else smooth, ACTIVATIONS[name](x), atol=1e-6
    )


@pytest.mark.parametrize("count", [8, 9])
def test_the_last_few_of_a_group_that_exceeds_the_memory_are_halved_too(
    small, monkeypatch, count
):
    group = plan.Group(shapes.Padded(8, (32,), 32), tuple(range(count)))
    monkeypatch.setattr(population, "plan_groups", lambda jobs, programs: [group])
    programs = population.Programs(small, ORDER)
    get = programs.get

    def scarce(shape, packed):
        if shape.lanes > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return get(shape, packed)

    monkeypatch.setattr(programs, "get", scarce)
    outcomes = population.train([job(i, (8,), stop=1) for i in range(count)], programs)
    assert all(outcomes)


def test_what_no_network_gains_by_is_noted_once(small):
    programs = population.Programs(small, ORDER)
    asked = iter([False, False, True])
    population.train(
        [job(0, (9, 5), stop=4)], programs, should_stop=lambda: next(asked)
    )
    (cut,) = programs.take_unused()
    assert cut.training_flops > 0
    assert programs.take_unused() == []
    population.train([job(0, (9, 5), stop=1)], programs)
    assert programs.take_unused() == [], "one device, and it had a network"
