"""Training many different networks at once, in few compiled programs.

The networks of a group are lanes of one program: padded to common widths, fed the
same batch, each with its own weights, learning rate, weight decay, dropout and
activation. A lane computes the same function as the network by itself
(`trainer.train_epoch`), to rounding:

- weights into and out of padded nodes start at zero and stay there, because every
  activation is 0 at a padded node and so every gradient is;
- dropout's bits depend on a node's place only (`networks.dropout`);
- initial weights are drawn for the true network, then padded.

The first junction of all lanes is one wide matrix product on the shared batch.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from dnc_jax.networks import MLP, mlp
from dnc_jax.networks.dropout import dropout, fold_in
from dnc_jax.training import plan, trainer
from dnc_jax.training.data import Dataset, Split, normalise
from dnc_jax.training.hyperparameters import Hyperparameters, rate_factor
from dnc_jax.typing import Array, Key, Params


class Snapshot(NamedTuple):
    """A network between two rungs, on the host, unpadded."""

    params: Params
    mean: Params  # Adam's first moment
    variance: Params  # Adam's second moment
    step: int


class Job(NamedTuple):
    """One network to train from epoch `start` to epoch `stop` of `total`."""

    architecture: MLP
    hyperparameters: Hyperparameters
    key: Key
    start: int
    stop: int
    total: int
    snapshot: Snapshot | None = None  # None: from scratch, and start is 0


class Outcome(NamedTuple):
    """What became of a job; the curves have one entry an epoch."""

    train_loss: tuple[float, ...]
    val_loss: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    seconds: float  # this network's share of its group's training time
    diverged: bool
    snapshot: Snapshot | None  # None if diverged


class Lanes(NamedTuple):
    """What differs between the lanes of a group, besides their weights."""

    learning_rate: Array  # [G] float32
    weight_decay: Array  # [G] float32
    dropout: Array  # [G] float32
    seed: Array  # [G] uint32
    rectified: Array  # [G] bool: relu; else amplitude * tanh(slope * x) + offset
    amplitude: Array  # [G] float32
    slope: Array  # [G] float32
    offset: tuple[Array, ...]  # L times [G, H] float32, 0 at padded nodes


class Seconds(NamedTuple):
    """Worker-seconds by what they went into."""

    compiling: float = 0.0
    training: float = 0.0


class Programs:
    """The compiled programs of one search, by shape, and the data they run on.

    Thread-safe. Rows are copied to the device once, as they are stored.
    """

    def __init__(self, data: Dataset, order_key: Key) -> None:
        self._train, self._validation = jax.device_put((data.train, data.validation))
        self._statistics = (data.mean, data.scale)
        self.rows = len(data.train.y)
        self.inputs, self.outputs = data.inputs, data.classes
        self._order_key = order_key
        self._orders: dict[int, jax.Array] = {}
        self._compiled: dict[plan.Shape, Any] = {}
        self._locks: dict[plan.Shape, threading.Lock] = {}
        self._lock = threading.Lock()
        self.seconds = Seconds()
        # XLA keeps about one core busy with networks of this size, so on a CPU as
        # many programs as cores run at a time; an accelerator runs one after another.
        cpu = jax.default_backend() == "cpu"
        self.workers = len(os.sched_getaffinity(0)) if cpu else 1

    @property
    def shapes(self) -> list[plan.Shape]:
        """Shapes already compiled."""
        return sorted(self._compiled)

    def account(self, compiling: float = 0.0, training: float = 0.0) -> None:
        """Adds worker-seconds to the books."""
        with self._lock:
            self.seconds = Seconds(
                self.seconds.compiling + compiling, self.seconds.training + training
            )

    def order(self, epoch: int) -> jax.Array:
        """The rows in the order of `epoch`, the same for every network."""
        with self._lock:
            if epoch not in self._orders:
                self._orders[epoch] = trainer.epoch_order(
                    self._order_key, epoch, self.rows
                )
            return self._orders[epoch]

    def forget_orders(self) -> None:
        """Frees the orders of epochs that no rung under way needs."""
        with self._lock:
            self._orders.clear()

    def get(self, shape: plan.Shape) -> Callable[..., Any]:
        """The program of `shape`, compiled now if this is its first use."""
        with self._lock:
            lock = self._locks.setdefault(shape, threading.Lock())
        with lock:
            if shape not in self._compiled:
                start = time.perf_counter()
                params = _zeros(shape, self.inputs, self.outputs)
                arguments = jax.eval_shape(
                    lambda: (
                        params,
                        trainer.ADAM.init(params),
                        np.int32(0),
                        _lanes([], shape),
                        np.float32(1),
                    )
                )
                epoch = partial(_epoch, batch_size=shape.batch_size)
                program = jax.jit(epoch, donate_argnums=(0, 1)).lower(
                    *arguments,
                    self.order(0),
                    self._train,
                    self._validation,
                    *self._statistics,
                )
                compiled = program.compile()
                self.account(compiling=time.perf_counter() - start)
                self._compiled[shape] = compiled
        compiled = self._compiled[shape]
        return lambda *arguments, epoch: compiled(
            *arguments,
            self.order(epoch),
            self._train,
            self._validation,
            *self._statistics,
        )


def train(
    jobs: Sequence[Job],
    programs: Programs,
    *,
    on_epoch: Callable[[int], None] = lambda lanes: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Outcome | None]:
    """Trains all jobs, several programs at a time, and returns in their order.

    Jobs must share `start`, `stop` and `total` (they are a rung). The outcome does
    not depend on the number of workers or on timing.

    Args:
      jobs: what to train.
      programs: compiled programs and data; gains the shapes that this rung needs.
      on_epoch: called from a worker thread with the number of networks that have
        just finished an epoch.
      should_stop: asked before each epoch; once true, unfinished jobs are dropped.

    Returns:
      An outcome for each job, None for those that were dropped.
    """
    if not jobs:
        return []
    work = plan.Workload(
        programs.inputs,
        programs.outputs,
        programs.rows,
        jobs[0].stop - jobs[0].start,
    )
    networks = [(job.architecture, job.hyperparameters.batch_size) for job in jobs]
    groups = plan.make(networks, work, programs.shapes)
    outcomes: list[Outcome | None] = [None] * len(jobs)

    def run(group: plan.Group) -> None:
        members = [jobs[i] for i in group.members]
        results = _train_group(members, group.shape, programs, on_epoch, should_stop)
        for index, outcome in zip(group.members, results, strict=True):
            outcomes[index] = outcome

    with ThreadPoolExecutor(programs.workers) as pool:
        for future in [pool.submit(run, group) for group in groups]:
            future.result()
    programs.forget_orders()
    return outcomes


def _train_group(
    jobs: Sequence[Job],
    shape: plan.Shape,
    programs: Programs,
    on_epoch: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> Sequence[Outcome | None]:
    dropped = [None] * len(jobs)
    if should_stop():
        return dropped
    program = programs.get(shape)
    start = time.perf_counter()
    keys = [jax.random.split(job.key) for job in jobs]
    snapshots = [
        job.snapshot or _fresh(key[0], job.architecture)
        for job, key in zip(jobs, keys, strict=True)
    ]
    seeds = [trainer.seed_of(key[1]) for key in keys]
    lanes = _lanes(list(zip(jobs, seeds, strict=True)), shape)
    zeros = _zeros(shape, programs.inputs, programs.outputs)
    params, first, second = (
        _pack([getattr(s, field) for s in snapshots], zeros)
        for field in ("params", "mean", "variance")
    )
    step = np.int32(snapshots[0].step)
    adam: Any = optax.ScaleByAdamState(count=step, mu=first, nu=second)
    curves = []
    for epoch in range(jobs[0].start, jobs[0].stop):
        if should_stop():
            return dropped
        factor = np.float32(rate_factor(epoch, jobs[0].total))
        params, adam, step, *metrics = program(
            params, adam, step, lanes, factor, epoch=epoch
        )
        curves.append(np.stack([np.asarray(metric) for metric in metrics]))
        on_epoch(len(jobs))
    final = jax.device_get((params, adam))
    seconds = time.perf_counter() - start
    programs.account(training=seconds)
    history = np.stack(curves)  # [epochs, (train loss, val loss, val accuracy), G]
    return [
        _outcome(job, lane, history[:, :, lane], final, int(step), seconds / len(jobs))
        for lane, job in enumerate(jobs)
    ]


def _outcome(
    job: Job, lane: int, history: np.ndarray, final: Any, step: int, seconds: float
) -> Outcome:
    finite = np.isfinite(history[:, :2]).all(axis=1)
    diverged = not finite.all()
    # Epochs after the first bad one say nothing about the network.
    kept = history[: int(np.argmin(finite)) if diverged else None]
    params, adam = final
    snapshot = Snapshot(
        *(_unpack(tree, job.architecture, lane) for tree in (params, adam.mu, adam.nu)),
        step,
    )
    curves = [tuple(map(float, curve)) for curve in kept.T]
    return Outcome(*curves, seconds, diverged, None if diverged else snapshot)


def _fresh(key: Key, architecture: MLP) -> Snapshot:
    normals = np.asarray(mlp.draw(key, architecture))
    params = mlp.from_draw(normals, architecture)
    zeros = jax.tree.map(np.zeros_like, params)
    return Snapshot(params, zeros, zeros, 0)


# Lane layout: the first weight is [D, G, H] so that all lanes are one matrix product;
# later weights [G, I, O]; biases [G, 1, O].


def _zeros(shape: plan.Shape, inputs: int, outputs: int) -> list[dict[str, np.ndarray]]:
    sizes = (*shape.hidden, outputs)
    weights = [(inputs, shape.lanes, sizes[0])] + [
        (shape.lanes, a, b) for a, b in pairwise(sizes)
    ]
    return [
        {
            "weight": np.zeros(weight, np.float32),
            "bias": np.zeros((shape.lanes, 1, size), np.float32),
        }
        for weight, size in zip(weights, sizes, strict=True)
    ]


def _lane(packed: np.ndarray, layer: int, lane: int) -> np.ndarray:
    """The view of one lane of a weight: [I, O]."""
    return packed[:, lane] if layer == 0 else packed[lane]


def _pack(trees: Sequence[Params], zeros: list[dict[str, np.ndarray]]) -> Any:
    packed = jax.tree.map(np.copy, zeros)
    for lane, tree in enumerate(trees):
        for layer, (junction, target) in enumerate(zip(tree, packed, strict=True)):
            n_in, n_out = junction["weight"].shape
            _lane(target["weight"], layer, lane)[:n_in, :n_out] = junction["weight"]
            target["bias"][lane, 0, :n_out] = junction["bias"]
    return packed


def _unpack(packed: Any, architecture: MLP, lane: int) -> Params:
    return tuple(
        {
            "weight": _lane(junction["weight"], layer, lane)[:n_in, :n_out].copy(),
            "bias": junction["bias"][lane, 0, :n_out].copy(),
        }
        for layer, (junction, (n_in, n_out)) in enumerate(
            zip(packed, architecture.junctions, strict=True)
        )
    )


_SMOOTH = {"tanh": (1.0, 1.0, 0.0), "sigmoid": (0.5, 0.5, 0.5)}


def _lanes(jobs: Sequence[tuple[Job, np.uint32]], shape: plan.Shape) -> Lanes:
    """The jobs' settings by lane; lanes without a job learn nothing from zeros."""
    lanes = Lanes(
        learning_rate=np.zeros(shape.lanes, np.float32),
        weight_decay=np.zeros(shape.lanes, np.float32),
        dropout=np.zeros(shape.lanes, np.float32),
        seed=np.zeros(shape.lanes, np.uint32),
        rectified=np.ones(shape.lanes, bool),
        amplitude=np.zeros(shape.lanes, np.float32),
        slope=np.zeros(shape.lanes, np.float32),
        offset=tuple(np.zeros((shape.lanes, h), np.float32) for h in shape.hidden),
    )
    for lane, (job, seed) in enumerate(jobs):
        lanes.learning_rate[lane] = job.hyperparameters.learning_rate
        lanes.weight_decay[lane] = job.hyperparameters.weight_decay
        lanes.dropout[lane] = job.architecture.dropout
        lanes.seed[lane] = seed
        if job.architecture.activation in _SMOOTH:
            amplitude, slope, offset = _SMOOTH[job.architecture.activation]
            lanes.rectified[lane] = False
            lanes.amplitude[lane], lanes.slope[lane] = amplitude, slope
            for column, width in zip(
                lanes.offset, job.architecture.hidden, strict=True
            ):
                column[lane, :width] = offset
    return lanes


def _forward(params: Any, lanes: Lanes, x: jax.Array, seed: Array | None) -> jax.Array:
    """Logits of every lane for one shared batch: [B, D] to [G, B, C]."""
    first = jnp.asarray(params[0]["weight"])
    inputs, lane_count, width = first.shape
    # Written out, because XLA turns the einsum around and copies the weight each step.
    hidden = x @ first.reshape(inputs, lane_count * width)
    hidden = hidden.reshape(-1, lane_count, width).transpose(1, 0, 2)
    hidden = hidden + params[0]["bias"]
    for layer, junction in enumerate(params[1:]):
        rectified, amplitude, slope = (
            jnp.expand_dims(jnp.asarray(value), (1, 2))
            for value in (lanes.rectified, lanes.amplitude, lanes.slope)
        )
        offset = jnp.expand_dims(lanes.offset[layer], 1)
        smooth = amplitude * jnp.tanh(slope * hidden) + offset
        hidden = jnp.where(rectified, jax.nn.relu(hidden), smooth)
        if seed is not None:
            hidden = dropout(hidden, lanes.dropout, fold_in(seed, layer))
        hidden = (
            jnp.einsum("gbi,gio->gbo", hidden, junction["weight"]) + junction["bias"]
        )
    return hidden


def _epoch(
    params: Any,
    adam: Any,
    step: Array,
    lanes: Lanes,
    rate_factor: Array,
    order: Array,
    train: Split,
    validation: Split,
    mean: Array,
    scale: Array,
    *,
    batch_size: int,
) -> Any:
    """One epoch of every lane, then its validation.

    Returns `(params, adam, step, train_loss [G], val_loss [G], val_accuracy [G])`.
    """
    rate = _per_lane(lanes.learning_rate * rate_factor, params)
    decay = _per_lane(jnp.asarray(lanes.weight_decay), params)

    def loss(params: Any, x: jax.Array, y: Array, seed: Array) -> Any:
        losses = trainer.cross_entropy(_forward(params, lanes, x, seed), y)
        losses = losses.mean(axis=1)
        # Lanes share no weight, so the gradient of the sum is each one's own.
        return losses.sum(), losses

    def train_step(carry: Any, rows: jax.Array) -> Any:
        params, adam, step = carry
        x = normalise(train.x[rows], mean, scale)
        seed = fold_in(lanes.seed, step)
        gradient, losses = jax.grad(loss, has_aux=True)(params, x, train.y[rows], seed)
        gradient = jax.tree.map(lambda g, p, d: g + d * p, gradient, params, decay)
        update, adam = trainer.ADAM.update(gradient, adam)
        params = jax.tree.map(lambda p, u, r: p - r * u, params, update, rate)
        return (params, adam, step + 1), losses

    steps = order.shape[0] // batch_size
    batches = order[: steps * batch_size].reshape(steps, batch_size)
    (params, adam, step), losses = lax.scan(train_step, (params, adam, step), batches)

    count = len(validation.y)

    def validate(totals: Any, rows: jax.Array) -> Any:
        real = jnp.expand_dims(rows < count, 0)
        rows = jnp.minimum(rows, count - 1)
        x, y = normalise(validation.x[rows], mean, scale), validation.y[rows]
        logits = _forward(params, lanes, x, None)
        loss = jnp.where(real, trainer.cross_entropy(logits, y), 0)
        hits = real & (logits.argmax(-1) == jnp.expand_dims(y, 0))
        return (totals[0] + loss.sum(1), totals[1] + hits.sum(1)), None

    zeros = jnp.zeros(len(lanes.seed)), jnp.zeros(len(lanes.seed), jnp.int32)
    (val_loss, hits), _ = lax.scan(validate, zeros, trainer.evaluation_rows(count))
    return params, adam, step, losses.mean(0), val_loss / count, hits / count


def _per_lane(values: jax.Array, params: Any) -> Any:
    """Per-lane values [G] in a tree like `params`, each broadcastable to its leaf."""
    return [
        {
            "weight": jnp.expand_dims(values, (0, 2) if layer == 0 else (1, 2)),
            "bias": jnp.expand_dims(values, (1, 2)),
        }
        for layer in range(len(params))
    ]
