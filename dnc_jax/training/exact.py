"""The compiled program of networks of one structure, none of them padded.

One lane is `trainer.epoch_steps`, the path that a network takes by itself, in the
sizes and with the patterns that it has. More lanes are the same under `vmap`, with
one batch for all: for accelerators, which a single network does not fill.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnc_jax.networks import Architecture, network
from dnc_jax.training import trainer
from dnc_jax.training.data import Split, View
from dnc_jax.training.jobs import Job, Snapshot
from dnc_jax.training.shapes import Exact
from dnc_jax.training.trainer import Settings, Trained, TrainState
from dnc_jax.typing import Array, Scalar


def pack(snapshots: Sequence[Snapshot], shape: Exact) -> TrainState:
    """States of single networks as one, in NumPy; free lanes repeat the first."""
    return _stack([_state(snapshot) for snapshot in snapshots], shape)


def settings(jobs: Sequence[Job], shape: Exact) -> Settings:
    """Settings of the jobs; a leading axis for lanes > 1."""
    return _stack([_settings(job) for job in jobs], shape)


def unpack(
    state: TrainState, shape: Exact, architecture: Architecture, lane: int
) -> Snapshot:
    """The network of one lane of a state in NumPy; the lane is the architecture's."""
    del architecture
    adam: Any = state.adam
    trees = (state.params, adam.mu, adam.nu, state.step, state.statistics)
    if shape.lanes > 1:
        trees = jax.tree.map(lambda leaf: np.array(leaf[lane]), trees)
    params, mu, nu, step, statistics = trees
    return Snapshot(params, mu, nu, int(step), statistics)


def train(
    state: TrainState,
    settings: Settings,
    factor: Scalar,
    order: Array,
    rows: Split,
    view: View,
    *,
    shape: Exact,
) -> TrainState:
    """An epoch of every lane, or a part of one.

    The arguments are those of `trainer.epoch_steps`;
    `factor`, [] float32, multiplies every learning rate.
    """

    def one(state: TrainState, settings: Settings) -> TrainState:
        rate = jnp.asarray(settings.learning_rate) * jnp.asarray(factor)
        return trainer.epoch_steps(
            state,
            shape.network,
            shape.batch_size,
            settings._replace(learning_rate=rate),
            order,
            rows,
            view,
            shape.form,
        )[0]

    many = jax.vmap(one) if shape.lanes > 1 else one
    return many(state, settings)


def evaluate(
    state: TrainState,
    settings: Settings,
    rows: Split,
    count: Scalar,
    view: View,
    *,
    shape: Exact,
) -> trainer.Sums:
    """Of every lane over the first `count` rows, [G, ...] each.

    Convolutions take the device's own form: patches of so many rows at a time would
    take the most memory of all.
    """

    def one(state: TrainState, settings: Settings) -> trainer.Sums:
        trained = Trained(state.params, state.statistics, settings.patterns)
        return trainer.sums(trained, shape.network, rows, count, view)

    if shape.lanes > 1:
        return jax.vmap(one)(state, settings)
    return jax.tree.map(lambda sum_: jnp.expand_dims(sum_, 0), one(state, settings))


def _state(snapshot: Snapshot) -> TrainState:
    step = np.int32(snapshot.step)
    adam = optax.ScaleByAdamState(step, snapshot.mu, snapshot.nu)
    return TrainState(snapshot.params, adam, step, snapshot.statistics)


def _settings(job: Job) -> Settings:
    _, dropout, patterns = trainer.keys_of(job.key)
    return Settings(
        np.float32(job.hyperparameters.learning_rate),
        np.float32(job.hyperparameters.weight_decay),
        trainer.seed_of(dropout),
        network.patterns(patterns, job.architecture),
        network.rates(job.architecture),
    )


def _stack(trees: Sequence[Any], shape: Exact) -> Any:
    if shape.lanes == 1:
        return trees[0]
    filled = [*trees, *[trees[0]] * (shape.lanes - len(trees))]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *filled)
