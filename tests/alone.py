"""A job of a population, and its network trained by itself: the reference."""

import jax
import numpy as np

from dnc_jax.networks import MLP, network
from dnc_jax.training import Hyperparameters, population, trainer
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
    seed = trainer.seed_of(dropout_key)
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
                seed,
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
