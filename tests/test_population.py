import dataclasses

import jax
import numpy as np
import pytest

from dnc_jax import InputError
from dnc_jax.networks import MLP, Sparsity
from dnc_jax.training import Hyperparameters, plan, population, trainer
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
    init_key, dropout_key = jax.random.split(job.key)
    state = trainer.init(init_key, job.architecture)
    losses = []
    for epoch in range(epochs):
        state, _ = trainer.train_epoch(
            state,
            job.architecture,
            job.hyperparameters.batch_size,
            np.float32(job.hyperparameters.learning_rate)
            * np.float32(population.rate_factor(epoch, job.total)),
            np.float32(job.hyperparameters.weight_decay),
            trainer.seed_of(dropout_key),
            trainer.epoch_order(ORDER, epoch, len(data.train.y)),
            data.train,
            data.mean,
            data.scale,
        )
        evaluation = trainer.evaluate(
            state.params, job.architecture, data.validation, data.mean, data.scale
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


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_padding_stays_exactly_zero_through_training(small, activation):
    programs = population.Programs(small, ORDER)
    shape = plan.Shape(2, (16, 32), 32)
    seen = {}
    program = programs.get(shape)

    def spy(*arguments, epoch):
        seen["result"] = jax.device_get(program(*arguments, epoch=epoch))
        return seen["result"]

    programs.get = lambda shape: spy
    population._train_group(
        [job(0, (9, 21), activation, 0.2)],
        shape,
        programs,
        lambda n: None,
        lambda: False,
    )
    weights, adam = seen["result"][:2]
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


def test_a_sparse_network_is_refused_not_trained_as_a_dense_one(small):
    sparse = MLP(6, (8,), 4, sparsity=(Sparsity(0.5), None))
    with pytest.raises(InputError, match=r"6-8-4 relu density 0\.5/1 is sparse"):
        population.train(
            [job(0, (8,))._replace(architecture=sparse)],
            population.Programs(small, ORDER),
        )


def test_no_jobs_are_no_work(small):
    assert population.train([], population.Programs(small, ORDER)) == []
