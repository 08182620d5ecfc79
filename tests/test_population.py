import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax.networks import CNN, MLP, Sparsity, network
from dnc_jax.networks import cnn as networks_cnn
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.networks.convolution import convolution
from dnc_jax.training import (
    Hyperparameters,
    costs,
    data,
    grouping,
    lanes,
    plan,
    population,
    processes,
    shapes,
    trainer,
    under_way,
)
from dnc_jax.training.population import Job

ORDER = jax.random.key(7)


def job(number, hidden, activation="relu", dropout=0.0, start=0, stop=2, **training):
    hyperparameters = Hyperparameters(
        **{"learning_rate": 3e-3, "weight_decay": 1e-4, "batch_size": 32} | training
    )
    architecture = MLP(6, hidden, 4, activation, dropout)
    return Job(architecture, hyperparameters, jax.random.key(number), start, stop, 4)


def alone(job, data, epochs):
    """The state and validation losses of the job's network trained by itself."""
    init_key, dropout_key, pattern_key = trainer.keys_of(job.key)
    patterns = network.patterns(pattern_key, job.architecture)
    state = trainer.init(init_key, job.architecture, patterns)
    losses = []
    for epoch in range(epochs):
        state, _ = trainer.train_epoch(
            state,
            job.architecture,
            job.hyperparameters.batch_size,
            trainer.Settings(
                np.float32(job.hyperparameters.learning_rate)
                * np.float32(population.rate_factor(epoch, job.total)),
                np.float32(job.hyperparameters.weight_decay),
                trainer.seed_of(dropout_key),
                patterns,
            ),
            trainer.epoch_order(ORDER, epoch, len(data.train.y)),
            data.train,
            trainer.view_of(data, ORDER),
        )
        trained = trainer.Trained(state.params, state.statistics, patterns)
        evaluation = trainer.evaluate(
            trained, job.architecture, data.validation, data.view
        )
        losses.append(float(evaluation.loss))
    return state, losses


def assert_same(tree, other, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance),
        tuple(map(dict, tree)),
        tuple(map(dict, other)),
    )


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
    outcomes = population.train(jobs, programs)
    assert max(shape.lanes for shape in programs.shapes) > 1, "nothing was padded"
    for one, outcome in zip(jobs, outcomes, strict=True):
        state, losses = alone(one, small, 2)
        np.testing.assert_allclose(outcome.val_loss, losses, atol=1e-5)
        assert_same(outcome.snapshot.params, state.params, 1e-5)
        assert_same(outcome.snapshot.mean, state.adam.mu, 1e-5)
        assert outcome.snapshot.step == state.step


@pytest.fixture(scope="module")
def pictures():
    """160 training images of 6 x 6 x 2 with 3 classes."""
    rng = np.random.default_rng(0)

    def split(rows):
        y = rng.integers(0, 3, rows)
        x = rng.integers(0, 200, (rows, 6, 6, 2)) + 20 * y[:, None, None, None]
        return data.Split(x.astype(np.uint8), y)

    return data.from_arrays(split(200), split(60), name="pictures")


def cnn(activation="relu", *, dropout=(0.1, 0.0, 0.3), sparsity=()):
    return CNN(
        (6, 6, 2),
        (4, 4, 8),
        3,
        activation,
        ("", "pool", "stride"),
        (True, False, True),
        dropout,
        shortcuts=2,
        sparsity=sparsity,
    )


HEAD = Sparsity(0.5, family="random")
EVERY_LAYER = {
    "batch norm, dropout, shortcut, relu": cnn(),
    "tanh": CNN((6, 6, 2), (4,), 3, "tanh"),
    "sigmoid": CNN((6, 6, 2), (4,), 3, "sigmoid", batch_norm=(True,)),
    "sparse convolutions and head": cnn(
        sparsity=(None, Sparsity(0.5), Sparsity(0.5, (1, 4), "random"), HEAD)
    ),
    "sparse mlp": MLP(
        72, (16, 8), 3, "tanh", 0.2, (Sparsity(0.25, (1, 4)), Sparsity(0.5), None)
    ),
}


# What augments the images does not depend on the layers that follow.
@pytest.mark.parametrize(
    ("kinds", "augment"), [(list(EVERY_LAYER), False), (list(EVERY_LAYER)[:1], True)]
)
def test_a_network_of_any_layers_is_itself_alone_after_ten_adam_steps(
    pictures, kinds, augment
):
    jobs = [
        job(i, ())._replace(architecture=EVERY_LAYER[kind])
        for i, kind in enumerate(kinds)
    ]
    examples = pictures._replace(augment=augment)
    outcomes = population.train(jobs, population.Programs(examples, ORDER))
    for one, outcome in zip(jobs, outcomes, strict=True):
        state, losses = alone(one, examples, 2)
        assert outcome.snapshot.step == state.step == 10
        np.testing.assert_allclose(outcome.val_loss, losses, atol=1e-5)
        assert_same(outcome.snapshot.params, state.params, 1e-5)
        assert_same(outcome.snapshot.variance, state.adam.nu, 1e-5)
        assert_same(outcome.snapshot.statistics, state.statistics, 1e-5)


# The forms of an accelerator compute in bfloat16.
@pytest.mark.parametrize(
    ("form", "tolerance"), [(None, 1e-5), ("grouped", 2e-2), ("im2col", 2e-2)]
)
def test_networks_of_one_structure_run_vmapped_as_they_do_alone(
    pictures, monkeypatch, form, tolerance
):
    monkeypatch.setattr(plan, "FORMS", (form,))
    seen = []

    def spied(x, weight, stride, form):
        seen.append(form)
        return convolution(x, weight, stride, form)

    monkeypatch.setattr(networks_cnn, "convolution", spied)
    programs = population.Programs(pictures, ORDER)
    programs.workload = lambda epochs: costs.Workload(
        72, 3, 160, epochs, accelerator=True
    )
    rates = [(0.1, 0.0, 0.3), (0.2, 0.0, 0.5), (0.4, 0.0, 0.1)]
    jobs = [
        job(i, (), learning_rate=1e-3 * (i + 1))._replace(
            architecture=cnn(dropout=dropout)
        )
        for i, dropout in enumerate(rates)
    ]
    outcomes = population.train(jobs, programs)
    (shape,) = programs.shapes
    assert (shapes.engine(shape), shape.lanes, shape.form) == ("vmapped", 4, form)
    # Validation never lays out patches: it takes the device's own form.
    assert set(seen) == {form, None}
    for one, outcome in zip(jobs, outcomes, strict=True):
        state, losses = alone(one, pictures, 2)
        np.testing.assert_allclose(outcome.val_loss, losses, atol=tolerance)
        assert_same(outcome.snapshot.params, state.params, tolerance)


def test_a_sparse_cnn_goes_on_after_a_rung_with_its_patterns(pictures):
    architecture = EVERY_LAYER["sparse convolutions and head"]
    one = job(3, (), stop=4)._replace(architecture=architecture)
    (whole,) = population.train([one], population.Programs(pictures, ORDER))
    (first,) = population.train(
        [one._replace(stop=2)], population.Programs(pictures, ORDER)
    )
    (second,) = population.train(
        [one._replace(start=2, snapshot=first.snapshot)],
        population.Programs(pictures, ORDER),
    )
    assert whole.val_loss == first.val_loss + second.val_loss


def test_no_value_of_a_rate_needs_a_program_of_its_own(pictures):
    programs = population.Programs(pictures, ORDER)
    rates = [(0.1, 0.0, 0.3), (0.2, 0.0, 0.5)]
    jobs = [
        job(i, (), stop=1, learning_rate=10 ** -(i + 2), weight_decay=i * 1e-4)
        for i in range(2)
    ]
    jobs = [
        one._replace(architecture=cnn(dropout=rate))
        for one, rate in zip(jobs, rates, strict=True)
    ]
    population.train(jobs, programs)
    assert len(programs.shapes) == 1


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
    outcomes = population.train(jobs, programs)
    assert max(asked) > 1
    for one, other in zip(whole, outcomes, strict=True):
        np.testing.assert_allclose(one.val_loss, other.val_loss, atol=1e-5)


def test_a_network_whose_patches_exceed_the_memory_is_trained_without(
    pictures, monkeypatch
):
    monkeypatch.setattr(plan, "FORMS", ("im2col",))
    programs = population.Programs(pictures, ORDER)
    programs.workload = lambda epochs: costs.Workload(
        72, 3, 160, epochs, accelerator=True
    )
    get, asked = programs.get, []

    def crowded(shape, packed):
        asked.append((shape.lanes, shape.form))
        if shape.form == "im2col":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return get(shape, packed)

    monkeypatch.setattr(programs, "get", crowded)
    one = job(0, (), stop=1)._replace(architecture=CNN((6, 6, 2), (4,), 3))
    (outcome,) = population.train([one], programs)
    assert asked == [(1, "im2col"), (1, "grouped")]
    assert len(outcome.val_loss) == 1


def test_all_seconds_are_accounted_for(small):
    programs = population.Programs(small, ORDER)
    jobs = [job(i, (5 + i, 8)) for i in range(4)]
    begin = time.perf_counter()
    population.train(jobs, programs)
    wall = time.perf_counter() - begin
    assert sum(programs.seconds) == pytest.approx(wall, rel=0.02)
    assert min(programs.seconds) > 0


def test_the_plan_is_explained_without_being_carried_out(small):
    programs = population.Programs(small, ORDER)
    jobs = [job(0, (9, 5)), job(1, (9, 5)), job(2, ())]
    table = grouping.explain(jobs, programs).splitlines()
    assert table[0].split()[:4] == ["engine", "networks", "lanes", "batch"]
    assert len(table) == 3
    assert any(line.split()[:3] == ["bucketed", "2", "2"] for line in table)
    assert programs.shapes == []
    assert programs.planned == set()


def test_an_activation_without_a_form_for_lanes_trains_as_it_is(small):
    formless = [name for name, one in ACTIVATIONS.items() if one.lane_form is None]
    jobs = [job(i, (9, 5), name, 0.2) for i, name in enumerate([*formless, "tanh"])]
    programs = population.Programs(small, ORDER)
    outcomes = population.train(jobs, programs)
    engines = sorted(map(shapes.engine, programs.shapes))
    assert engines == ["bucketed", *["exact"] * len(formless)]
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
    state = lanes.pack([lanes.fresh(one)], shape, 6, 4)
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
