"""Training one network by itself: the plain path, and the population's reference."""

import hashlib
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnc_jax.networks import MLP, Architecture, network
from dnc_jax.networks.convolution import Form
from dnc_jax.networks.dropout import fold_in
from dnc_jax.networks.patterns import Patterns
from dnc_jax.training import compilation, feed, losses, under_way
from dnc_jax.training.augmentation import prepare
from dnc_jax.training.data import Dataset, Split, View, normalise
from dnc_jax.training.hyperparameters import Hyperparameters, rate_factor
from dnc_jax.typing import Array, Key, Params, Scalar, Statistics

ADAM = optax.scale_by_adam()


class TrainState(NamedTuple):
    """All that a training run carries from step to step."""

    params: Params
    adam: optax.OptState
    step: Any  # [] int32, steps taken
    statistics: Statistics = ()  # of its batch norms


class Trained(NamedTuple):
    """All that a trained network is besides its architecture."""

    params: Params
    statistics: Statistics = ()  # of its batch norms
    patterns: Patterns = ()  # of its sparse junctions


class Settings(NamedTuple):
    """What a network is trained with: arrays, so that all values share a program."""

    learning_rate: Scalar  # [] float32
    weight_decay: Scalar  # [] float32
    seed: Scalar  # [] uint32, of its dropout, for its whole life
    patterns: Patterns = ()  # as `network.patterns` draws them
    rates: Array | None = None  # of its dropout, as in `network.train_apply`


class _Course(NamedTuple):
    """A training run at the end of an epoch."""

    state: TrainState
    best: tuple[Params, Statistics]
    best_merit: tuple[float, float]
    history: tuple[tuple[float, float, float, float], ...]


_WORST = (-math.inf, -math.inf)  # R^2 has no least value


class Evaluation(NamedTuple):
    """Means over the rows of a split, or their sums."""

    loss: Array  # [] float32, cross-entropy in nats or squared error
    accuracy: Array  # [] float32, fraction of rows or of variance, see `losses.merit`


class History(NamedTuple):
    """One entry an epoch.

    `seconds` are of the training alone, without the validation; the first entry
    includes compiling.
    """

    train_loss: tuple[float, ...]
    val_loss: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    seconds: tuple[float, ...]


def init(key: Key, architecture: Architecture, patterns: Patterns = ()) -> TrainState:
    """A fresh network and optimiser state. Consumes `key`."""
    params = network.init(key, architecture, patterns)
    return TrainState(
        params,
        ADAM.init(params),
        jnp.zeros((), jnp.int32),
        network.statistics(architecture),
    )


def keys_of(key: Key) -> tuple[Key, Key, Key]:
    """Keys of a network's weights, of its dropout and of its patterns.

    Consumes `key`.
    """
    weights, dropout, patterns = jax.random.split(key, 3)
    return weights, dropout, patterns


def seed_of(key: Key) -> np.uint32:
    """The dropout seed that belongs to `key`: [] uint32. Consumes `key`."""
    return np.uint32(jax.random.bits(key))


def view_of(data: Dataset, order_key: Key) -> View:
    """How networks in training see the rows: the same crops and flips for all."""
    if not data.augment:
        return data.view
    # Far from the numbers of the epochs, which `epoch_order` folds in.
    return data.view._replace(augment=seed_of(jax.random.fold_in(order_key, 2**31)))


def epoch_order(key: Key, epoch: int, rows: int) -> jax.Array:
    """The order in which `epoch` visits the training rows: [N] int32, on device."""
    return _permutation(jax.random.fold_in(key, epoch), rows)


@partial(jax.jit, static_argnums=1)
def _permutation(key: Key, rows: int) -> jax.Array:
    return jax.random.permutation(key, rows).astype(jnp.int32)


def epoch_steps(
    state: TrainState,
    architecture: Architecture,
    batch_size: int,
    settings: Settings,
    order: Array,
    rows: Split,
    view: View,
    form: Form | None = None,
) -> tuple[TrainState, jax.Array]:
    """One pass over the rows in `order`, in steps of `batch_size`.

    Rows beyond the last full batch are left out; another order next time brings
    them back. `train_epoch` is this function, compiled.

    Args:
      state: donated by `train_epoch`.
      architecture, batch_size: static.
      settings: of this network.
      order, rows: of a `feed.Segment`: an epoch, or a part of it.
      view: of the rows, see `view_of`.
      form: static, of a CNN's convolutions; None is the device's.

    Returns:
      The new state and the mean training loss of the epoch, [] float32.
    """

    def loss(params: Params, x: Array, y: Array, state: TrainState) -> Any:
        outputs, statistics = network.train_apply(
            params,
            architecture,
            x,
            settings.patterns,
            state.statistics,
            seed=fold_in(settings.seed, state.step),
            rates=settings.rates,
            form=form,
        )
        return losses.loss(outputs, y).mean(), statistics

    def step(
        state: TrainState, x: jax.Array, y: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        x = prepare(x, view, state.step)
        (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(
            state.params, x, y, state
        )
        gradient = jax.tree.map(
            lambda g, p: g + settings.weight_decay * p, gradient, state.params
        )
        update, adam = ADAM.update(gradient, state.adam)
        params = jax.tree.map(
            lambda p, u: p - settings.learning_rate * u, state.params, update
        )
        return TrainState(params, adam, state.step + 1, statistics), value

    return feed.each_batch(step, state, order, rows, batch_size)


train_epoch = jax.jit(epoch_steps, static_argnums=(1, 2), donate_argnums=0)


@cache
def _train_epoch_of_cnn() -> Any:
    """`train_epoch` with the compiler options of convolutions."""
    return jax.jit(
        epoch_steps,
        static_argnums=(1, 2),
        donate_argnums=0,
        compiler_options=compilation.fast_convolutions(),
    )


def sums(
    trained: Trained, architecture: Architecture, rows: Split, count: Scalar, view: View
) -> Evaluation:
    """Sums of loss and accuracy over the first `count` rows, 1,000 at a time."""

    def chunk(
        totals: tuple[jax.Array, jax.Array], numbers: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        real = numbers < jnp.asarray(count)
        numbers = jnp.minimum(numbers, len(rows.y) - 1)
        x, y = normalise(rows.x[numbers], view.mean, view.scale), rows.y[numbers]
        outputs = network.apply(
            trained.params, architecture, x, trained.patterns, trained.statistics
        )
        loss = jnp.where(real, losses.loss(outputs, y), 0)
        merit = jnp.where(real, losses.merit(outputs, y), 0)
        return (
            totals[0] + loss.sum(),
            totals[1] + merit.sum(dtype=merit.dtype),
        ), None

    whole = losses.is_classification(rows.y)
    zeros = (jnp.float32(0), jnp.int32(0) if whole else jnp.float32(0))
    (loss, merit), _ = jax.lax.scan(
        chunk, zeros, jnp.asarray(evaluation_rows(len(rows.y)))
    )
    return Evaluation(loss, merit)


_sums = jax.jit(sums, static_argnums=1)


def evaluate(
    trained: Trained, architecture: Architecture, rows: Split | feed.Feed, view: View
) -> Evaluation:
    """Mean loss and accuracy over a split: [] float32 each, in NumPy.

    Rows that do not fit the device are streamed to it, see `feed.Feed`.
    """
    if isinstance(rows, Split):
        rows = feed.Feed(rows, 0.5 * feed.free_bytes())
    parts = [
        jax.device_get(_sums(trained, architecture, part, count, view))
        for count, part in rows.once()
    ]
    return mean_of(parts, rows.count)


def mean_of(sums: Sequence[Evaluation], rows: int) -> Evaluation:
    """What the sums over parts of so many rows come to."""
    return Evaluation(
        *(
            (np.sum(part, axis=0) / rows).astype(np.float32)
            for part in zip(*sums, strict=True)
        )
    )


def evaluation_rows(count: int) -> np.ndarray:
    """Row numbers in equal chunks [chunks, rows] int32; those >= count are padding."""
    chunks = -(-count // feed.EVALUATION_BATCH)
    size = -(-count // chunks)
    return np.arange(chunks * size, dtype=np.int32).reshape(chunks, size)


def train(
    key: Key,
    architecture: Architecture,
    hyperparameters: Hyperparameters,
    data: Dataset,
    *,
    order_key: Key,
    epochs: int,
    patterns: Patterns | None = None,
    keep_last: bool = False,
    checkpoint: pathlib.Path | None = None,
    on_epoch: Callable[[int, float], None] = lambda epoch, accuracy: None,
) -> tuple[Trained, History]:
    """Trains one network from scratch.

    Args:
      key: of this network: its weights, its dropout and its patterns. Consumed.
      architecture: what to train.
      hyperparameters: how; the batch is cut to the number of training rows.
      data: on the host; copied to the device once, or streamed, see `feed.Feed`.
      order_key: of the order of the rows, epoch by epoch.
      epochs: at least 1.
      patterns: of the network's sparse junctions, as `network.patterns` draws them;
        None draws them from `key`, as a population does.
      keep_last: return the last epoch's parameters instead of the best one's.
      checkpoint: file in which the run is kept, from time to time and at its end;
        where there is one of a run with the same arguments, training goes on from it.
      on_epoch: called after each with its number (from 1) and validation accuracy.

    Returns:
      The network of the epoch with the best validation accuracy (of equals, that
      with the least validation loss), and the whole history.

    Raises:
      FloatingPointError: the loss is no longer finite.
      InputError: the patterns are not those of the architecture.
    """
    init_key, dropout_key, pattern_key = keys_of(key)
    if patterns is None:
        patterns = network.patterns(pattern_key, architecture)
    network.check(architecture, patterns)
    rows = len(data.train.y)
    batch_size = min(hyperparameters.batch_size, rows)
    limit = feed.limit(data)
    training = feed.Feed(data.train, limit, partial(epoch_order, order_key, rows=rows))
    validation = feed.Feed(data.validation, limit / 4)
    settings = Settings(
        np.float32(hyperparameters.learning_rate),
        np.float32(hyperparameters.weight_decay),
        seed_of(dropout_key),
        patterns,
    )
    view = view_of(data, order_key)
    state = init(init_key, architecture, patterns)
    program = train_epoch if isinstance(architecture, MLP) else _train_epoch_of_cnn()
    course = _Course(state, (state.params, state.statistics), _WORST, ())
    identity = ""
    if checkpoint:
        keys = [jax.random.key_data(one).tolist() for one in (key, order_key)]
        what = (keys, architecture, hyperparameters, epochs, keep_last)
        identity = _identity(data, patterns, *what)
        course = _restored(checkpoint, course, identity)
    saved = time.perf_counter()
    for epoch in range(len(course.history), epochs):
        state = course.state
        rate = hyperparameters.learning_rate * rate_factor(epoch, epochs)
        begin = time.perf_counter()
        total = 0.0
        for segment in training.epoch(epoch, batch_size):
            state, loss = program(
                state,
                architecture,
                batch_size,
                settings._replace(learning_rate=np.float32(rate)),
                segment.order,
                segment.rows,
                view,
            )
            total += segment.steps * float(loss)
        training.forget()
        loss = total / (rows // batch_size)
        seconds = time.perf_counter() - begin
        now = Trained(state.params, state.statistics, patterns)
        result = evaluate(now, architecture, validation, data.view)
        row = (loss, float(result.loss), float(result.accuracy), seconds)
        if not np.isfinite(row[:2]).all():
            raise FloatingPointError(
                f"the loss of {architecture} became {loss} in epoch "
                f"{epoch + 1}; a smaller learning rate than "
                f"{hyperparameters.learning_rate:g} may help"
            )
        course = _after(course, state, row, keep_last)
        due = time.perf_counter() - saved > under_way.SAVE_SECONDS
        if checkpoint and (due or epoch + 1 == epochs):
            under_way.write(checkpoint, (identity, course))
            saved = time.perf_counter()
        on_epoch(epoch + 1, row[2])
    history = History(*zip(*course.history, strict=True))
    return Trained(*course.best, patterns), history


def _after(
    course: _Course,
    state: TrainState,
    row: tuple[float, float, float, float],
    keep_last: bool,
) -> _Course:
    """The run after one more epoch, of which `row` is the history."""
    merit, best, best_merit = (row[2], -row[1]), course.best, course.best_merit
    if merit > best_merit or keep_last:
        best_merit = merit
        # A copy: the next epoch donates the state's buffers.
        best = jax.tree.map(np.array, (state.params, state.statistics))
    return _Course(state, best, best_merit, (*course.history, row))


def _identity(data: Dataset, patterns: Patterns, *what: Any) -> str:
    """What tells this run from all others."""
    text = repr((what, data.digest(), data.augment))
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for leaf in jax.tree.leaves(patterns):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _restored(path: pathlib.Path, fresh: _Course, identity: str) -> _Course:
    """The run in the file, or the fresh one where it has other arguments."""
    stored = under_way.read(path)
    if not stored or stored[0] != identity:
        return fresh
    _, course = stored
    _, structure = jax.tree.flatten(fresh[:2])
    leaves = jax.tree.leaves(course[:2])
    return _Course(*jax.tree.unflatten(structure, leaves), *course[2:])
