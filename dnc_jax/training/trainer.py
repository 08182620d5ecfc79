"""Training one network by itself: the plain path, and the population's reference."""

import pathlib
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnc_jax.errors import InputError
from dnc_jax.networks import MLP, Architecture, network
from dnc_jax.networks.convolution import Form
from dnc_jax.networks.dropout import fold_in
from dnc_jax.networks.patterns import Patterns
from dnc_jax.training import compilation, feed, goals
from dnc_jax.training.augmentation import prepare
from dnc_jax.training.course import Course, Epoch, Kept, Rank, by_accuracy, identity
from dnc_jax.training.data import Dataset, Split, View, check_sizes, normalise
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


class Sums(NamedTuple):
    """Over rows of a split."""

    loss: Array  # [] float32
    evidence: Array  # [] or [K], int32 or float32, see `goals.Goal`


class Metrics(NamedTuple):
    """Of a network on a split."""

    loss: Array  # [] float32, mean over the rows: cross-entropy in nats, or the goal's
    accuracy: Array  # [] float64, see `goals.Goal`


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

    `key` stands for the network and is not consumed: whoever asks again, as after a
    rung, gets the same ones.
    """
    weights, dropout, patterns = jax.random.split(jax.random.clone(key), 3)
    return weights, dropout, patterns


def adam_update(gradient: Any, adam: Any) -> tuple[Any, Any]:
    """Adam's step for a gradient, not yet times a learning rate, and its next state."""
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in int32
        return ADAM.update(gradient, adam)


def seed_of(key: Key) -> np.uint32:
    """The dropout seed that belongs to `key`: [] uint32. Consumes `key`."""
    return np.uint32(jax.random.bits(key, dtype=jnp.uint32))


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
        return view.loss(outputs, y).mean(), statistics

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
        update, adam = adam_update(gradient, state.adam)
        params = jax.tree.map(
            lambda p, u: p - settings.learning_rate * u, state.params, update
        )
        return TrainState(params, adam, state.step + 1, statistics), value

    return feed.each_batch(step, state, order, rows, batch_size)


# Without the level that a population's programs are compiled at: one program gains a
# tenth of a second by it, and the bits are the same (jax 0.10.2, an MLP and a CNN).
train_epoch: Any = jax.jit(epoch_steps, static_argnums=(1, 2), donate_argnums=0)


def sums(
    trained: Trained, architecture: Architecture, rows: Split, count: Scalar, view: View
) -> Sums:
    """Of a network over the first `count` rows."""

    def outputs(x: jax.Array) -> jax.Array:
        return network.apply(
            trained.params, architecture, x, trained.patterns, trained.statistics
        )

    return sums_of(outputs, rows, count, view)


def sums_of(
    outputs: Callable[[jax.Array], jax.Array],
    rows: Split,
    count: Scalar,
    view: View,
) -> Sums:
    """Sums over the first `count` rows, 1,000 at a time.

    Args:
      outputs: of one network or many for normalised rows, [B, D] to [..., B, C].
      rows: of a split, or a part of it.
      count: [] int32, of them; those beyond are padding.
      view: of the rows.

    Returns:
      [...] each, and [..., K] of evidence that is K numbers a row.
    """

    def total(of_rows: jax.Array, real: jax.Array) -> jax.Array:
        real = jnp.expand_dims(real, tuple(range(of_rows.ndim - 1)))
        whole = jnp.issubdtype(of_rows.dtype, jnp.integer) or of_rows.dtype == bool
        wide = jnp.promote_types(of_rows.dtype, jnp.int32 if whole else jnp.float32)
        return jnp.where(real, of_rows, 0).sum(-1, dtype=wide)

    def chunk(numbers: jax.Array) -> Sums:
        real = numbers < jnp.asarray(count)
        numbers = jnp.minimum(numbers, len(rows.y) - 1)
        x, y = normalise(rows.x[numbers], view.mean, view.scale), rows.y[numbers]
        found = outputs(x)
        return Sums(
            total(view.loss(found, y), real),
            total(view.goal.evidence(found, y), real),
        )

    chunks = jnp.asarray(evaluation_rows(len(rows.y)))
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(chunk, chunks[0]))
    return jax.lax.scan(
        lambda sums, numbers: (jax.tree.map(jnp.add, sums, chunk(numbers)), None),
        zeros,
        chunks,
    )[0]


_sums: Any = jax.jit(sums, static_argnums=1)


@cache
def _of_cnns() -> tuple[Any, Any]:
    """`train_epoch` and `_sums` with the compiler options of convolutions."""
    jit = partial(jax.jit, compiler_options=compilation.fast_convolutions())
    return (
        jit(epoch_steps, static_argnums=(1, 2), donate_argnums=0),
        jit(sums, static_argnums=1),
    )


def forget_programs() -> None:
    """Frees what is compiled for networks that train alone, some 7 MB for each."""
    for program in (train_epoch, _sums, *_of_cnns()):
        program.clear_cache()


def evaluate(
    trained: Trained,
    architecture: Architecture,
    rows: Split | feed.Feed,
    view: View,
    limit_bytes: float | None = None,
) -> Metrics:
    """Mean loss and accuracy over a split, [] each, in NumPy.

    Args:
      trained, architecture: the network.
      rows: a split, which is streamed where it is over the limit, or a feed of one.
      view: of the rows.
      limit_bytes: of a split that may lie on the device at a time, as `feed.limit`
        says of a data set; None for half of the device's free memory.
    """
    if isinstance(rows, Split):
        if limit_bytes is None:
            limit_bytes = 0.5 * feed.free_bytes()
        rows = feed.Feed(rows, limit_bytes)
    compiled = _sums if isinstance(architecture, MLP) else _of_cnns()[1]
    parts = [
        jax.device_get(compiled(trained, architecture, part, count, view))
        for count, part in rows.once()
    ]
    return metrics_of(parts, rows, view.goal)


def metrics_of(parts: Sequence[Sums], rows: feed.Feed, goal: goals.Goal) -> Metrics:
    """What the sums over the parts of all rows come to."""
    loss, evidence = (
        np.asarray(np.sum(part, axis=0) / rows.count)
        for part in zip(*parts, strict=True)
    )
    accuracy = np.asarray(goal.accuracy(evidence, rows.reference(goal)))
    if (np.isfinite(loss) & ~(accuracy < 1 + 1e-6)).any():
        raise InputError(
            f"the goal's {goal.metric} is {accuracy.max():g}; it must be a number, at "
            "most 1, for any network whose loss is finite"
        )
    # R^2 of good predictions differs where float32 has no digits left below 1.
    return Metrics(loss.astype(np.float32), accuracy)


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
    rank: Rank = by_accuracy,
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
      rank: of an epoch's validation loss and accuracy; the best has the least.
      checkpoint: file in which the run is kept, from time to time and at its end;
        where there is one of a run with the same arguments, training goes on from it.
      on_epoch: called after each with its number (from 1) and validation accuracy.

    Returns:
      The network of the epoch with the least rank, by default the best validation
      accuracy (of equals, that with the least validation loss), and the whole history.

    Raises:
      FloatingPointError: the loss is no longer finite.
      InputError: the architecture or the goal does not suit the data, or the patterns
        are not those of the architecture.
    """
    rank = cache(rank)  # asked of every epoch after each
    check_sizes(str(architecture), architecture, data)
    goals.check(data.goal, data.outputs, data.train.y)
    init_key, dropout_key, pattern_key = keys_of(key)
    if patterns is None:
        patterns = network.patterns(pattern_key, architecture)
    rows = len(data.train.y)
    batch_size = min(hyperparameters.batch_size, rows)
    order = partial(epoch_order, order_key, rows=rows)
    training, validation = feed.of(data, feed.limit(data), order)
    settings = Settings(
        np.float32(hyperparameters.learning_rate),
        np.float32(hyperparameters.weight_decay),
        seed_of(dropout_key),
        patterns,
    )
    view = view_of(data, order_key)
    keys = [jax.random.key_data(one).tolist() for one in (key, order_key)]
    what = (keys, architecture, hyperparameters, epochs, keep_last)
    kept = Kept(checkpoint, partial(identity, data, patterns, *what))
    state = init(init_key, architecture, patterns)
    course = kept.restored(Course(state, (state.params, state.statistics)))
    for number in range(len(course.history), epochs):
        rate = hyperparameters.learning_rate * rate_factor(number, epochs)
        now = settings._replace(learning_rate=np.float32(rate))
        begin = time.perf_counter()
        state, loss = _one_epoch(
            course.state, architecture, batch_size, now, training, number, view
        )
        seconds = time.perf_counter() - begin
        trained = Trained(state.params, state.statistics, patterns)
        result = evaluate(trained, architecture, validation, data.view)
        epoch = Epoch(loss, float(result.loss), float(result.accuracy), seconds)
        if not np.isfinite((epoch.train_loss, epoch.val_loss)).all():
            of, worst = (
                ("", loss) if not np.isfinite(loss) else ("validation ", epoch.val_loss)
            )
            raise FloatingPointError(
                f"the {of}loss of {architecture} became {worst} in epoch "
                f"{number + 1}; a smaller learning rate than "
                f"{hyperparameters.learning_rate:g} may help"
            )
        course = course.after(state, epoch, rank, keep_last=keep_last)
        kept.save(course, last=number + 1 == epochs)
        on_epoch(number + 1, epoch.val_accuracy)
    history = History(*zip(*course.history, strict=True))
    return Trained(*course.best, patterns), history


def _one_epoch(
    state: TrainState,
    architecture: Architecture,
    batch_size: int,
    settings: Settings,
    training: feed.Feed,
    number: int,
    view: View,
) -> tuple[TrainState, float]:
    """The state after epoch `number`, segment by segment, and its mean loss."""
    program = train_epoch if isinstance(architecture, MLP) else _of_cnns()[0]
    total = 0.0
    for steps, order, rows in training.epoch(number, batch_size):
        state, loss = program(
            state, architecture, batch_size, settings, order, rows, view
        )
        total += steps * float(loss)
    training.forget()
    return state, total / (training.count // batch_size)
