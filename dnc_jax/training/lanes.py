"""The compiled program of a group: many networks of one padded shape, side by side.

A lane computes the same function as its network by itself (`trainer.train_epoch`),
to rounding:

- weights into and out of padded nodes start at zero and stay there, because every
  activation is 0 at a padded node and so every gradient is;
- dropout's bits depend on a node's place only (`networks.dropout`);
- initial weights are drawn for the true network, then padded.

Three choices make it fast on a CPU. The first junction of all lanes is one wide
matrix product on the batch they share. All biases are one array, because each array
costs three kernels of Adam, to compile and to call. And rates that differ by lane are
arrays, so that no value of a hyperparameter needs a program of its own.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnc_jax.networks import MLP
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.networks.dropout import dropout, fold_in
from dnc_jax.training import feed, trainer
from dnc_jax.training.augmentation import prepare
from dnc_jax.training.data import Split, View
from dnc_jax.training.jobs import Job, Snapshot
from dnc_jax.training.shapes import Padded
from dnc_jax.typing import Array, Params, Scalar


class Weights(NamedTuple):
    """Parameters, or a moment of them, of all lanes of a group."""

    first: Array  # [D, G, H]: one matrix [D, G * H] for all lanes
    later: tuple[Array, ...]  # L times [G, I, O]
    bias: Array  # [G, sum of O]: all layers one after another


class State(NamedTuple):
    """All that a group carries from step to step."""

    weights: Weights
    adam: Any  # of optax, its moments like `weights`
    step: Any  # [] int32, steps taken


class Settings(NamedTuple):
    """What differs between the lanes of a group, besides their weights."""

    learning_rate: Array  # [G] float32
    weight_decay: Array  # [G] float32
    dropout: Array  # [G] float32
    seed: Array  # [G] uint32
    rectified: Array  # [G] bool; this and what follows as in `LaneForm`
    amplitude: Array  # [G] float32
    slope: Array  # [G] float32
    offset: tuple[Array, ...]  # L times [G, H] float32, 0 at padded nodes


def zeros(shape: Padded, inputs: int, outputs: int) -> Weights:
    """Weights of a group, all zero, in NumPy."""
    sizes = (*shape.hidden, outputs)
    return Weights(
        np.zeros((inputs, shape.lanes, sizes[0]), np.float32),
        tuple(np.zeros((shape.lanes, a, b), np.float32) for a, b in pairwise(sizes)),
        np.zeros((shape.lanes, sum(sizes)), np.float32),
    )


def settings(jobs: Sequence[Job], shape: Padded) -> Settings:
    """Settings of the jobs, lane by lane.

    Lanes without a network have zero weights and rates, and learn nothing.

    Raises:
      TypeError: a network is no MLP, or its activation has no form for lanes.
    """
    result = Settings(
        learning_rate=np.zeros(shape.lanes, np.float32),
        weight_decay=np.zeros(shape.lanes, np.float32),
        dropout=np.zeros(shape.lanes, np.float32),
        seed=np.zeros(shape.lanes, np.uint32),
        rectified=np.ones(shape.lanes, bool),
        amplitude=np.zeros(shape.lanes, np.float32),
        slope=np.zeros(shape.lanes, np.float32),
        offset=tuple(np.zeros((shape.lanes, h), np.float32) for h in shape.hidden),
    )
    for lane, job in enumerate(jobs):
        architecture, hyperparameters = _mlp_of(job), job.hyperparameters
        result.learning_rate[lane] = hyperparameters.learning_rate
        result.weight_decay[lane] = hyperparameters.weight_decay
        result.dropout[lane] = architecture.dropout
        result.seed[lane] = trainer.seed_of(trainer.keys_of(job.key)[1])
        form = ACTIVATIONS[architecture.activation].lane_form
        if form is None:
            raise TypeError(f"{architecture.activation} has no form for lanes")
        result.rectified[lane] = form.rectified
        result.amplitude[lane], result.slope[lane] = form.amplitude, form.slope
        for column, width in zip(result.offset, architecture.hidden, strict=True):
            column[lane, :width] = form.offset
    return result


def pack(snapshots: Sequence[Snapshot], shape: Padded) -> State:
    """States of single networks, padded, as lanes of a group; in NumPy."""
    weights, mu, nu = (
        _pad([getattr(one, name) for one in snapshots], shape)
        for name in ("params", "mu", "nu")
    )
    step = np.int32(snapshots[0].step)
    adam: Any = optax.ScaleByAdamState(count=step, mu=mu, nu=nu)
    return State(weights, adam, step)


def _pad(trees: Sequence[Params], shape: Padded) -> Weights:
    inputs, outputs = len(trees[0][0]["weight"]), len(trees[0][-1]["bias"])
    packed = zeros(shape, inputs, outputs)
    starts = _starts(packed)
    for lane, tree in enumerate(trees):
        for layer, junction in enumerate(tree):
            n_in, n_out = junction["weight"].shape
            _weight(packed, layer, lane)[:n_in, :n_out] = junction["weight"]
            start = starts[layer]
            packed.bias[lane, start : start + n_out] = junction["bias"]
    return packed


def unpack(state: State, shape: Padded, architecture: MLP, lane: int) -> Snapshot:
    """The network of one lane of a state in NumPy, without its padding."""
    del shape
    return Snapshot(
        *(
            _cut(tree, architecture, lane)
            for tree in (state.weights, state.adam.mu, state.adam.nu)
        ),
        step=int(state.step),
    )


def _cut(packed: Weights, architecture: MLP, lane: int) -> Params:
    return tuple(
        {
            "weight": _weight(packed, layer, lane)[:n_in, :n_out].copy(),
            "bias": packed.bias[lane, start : start + n_out].copy(),
        }
        for layer, ((n_in, n_out), start) in enumerate(
            zip(architecture.junctions, _starts(packed), strict=True)
        )
    )


def _mlp_of(job: Job) -> MLP:
    if not isinstance(job.architecture, MLP):
        raise TypeError(f"lanes are of MLPs, not of {job.architecture}")
    return job.architecture


def _weight(packed: Weights, layer: int, lane: int) -> Any:
    """The view of one lane of a weight: [I, O]."""
    return packed.later[layer - 1][lane] if layer else packed.first[:, lane]


def _starts(weights: Weights) -> list[int]:
    """Where each layer's biases begin."""
    sizes = [weight.shape[-1] for weight in (weights.first, *weights.later)]
    return [0, *accumulate(sizes[:-1])]


def forward(
    weights: Weights, settings: Settings, x: jax.Array, seed: Array | None
) -> jax.Array:
    """Logits of every lane for one shared batch: [B, D] to [G, B, C].

    Args:
      weights, settings: of the group.
      x: normalised.
      seed: [G] uint32 of this step's dropout; None in evaluation.
    """
    first = jnp.asarray(weights.first)
    inputs, lanes, width = first.shape
    # Written out: XLA turns the einsum around and copies the weight in each step.
    hidden = x @ first.reshape(inputs, lanes * width)
    hidden = hidden.reshape(-1, lanes, width).transpose(1, 0, 2)
    rectified, amplitude, slope = (
        jnp.expand_dims(jnp.asarray(value), (1, 2))
        for value in (settings.rectified, settings.amplitude, settings.slope)
    )
    bias = jnp.expand_dims(jnp.asarray(weights.bias), 1)
    starts = _starts(weights)
    hidden = hidden + bias[:, :, :width]
    for layer, weight in enumerate(weights.later):
        offset = jnp.expand_dims(settings.offset[layer], 1)
        smooth = amplitude * jnp.tanh(slope * hidden) + offset
        hidden = jnp.where(rectified, jax.nn.relu(hidden), smooth)
        if seed is not None:
            hidden = dropout(hidden, settings.dropout, fold_in(seed, layer))
        start = starts[layer + 1]
        hidden = jnp.einsum("gbi,gio->gbo", hidden, weight)
        hidden = hidden + bias[:, :, start : start + weight.shape[-1]]
    return hidden


def train(
    state: State,
    settings: Settings,
    rate_factor: Scalar,
    order: Array,
    rows: Split,
    view: View,
    *,
    shape: Padded,
) -> State:
    """An epoch of every lane, or a part of one.

    Args:
      state: as the epoch before left it.
      settings: of the lanes.
      rate_factor: [] float32, multiplies every learning rate.
      order, rows: of a `feed.Segment`.
      view: of the rows.
      shape: static.
    """
    rate = _per_lane(
        jnp.asarray(settings.learning_rate) * jnp.asarray(rate_factor), state.weights
    )
    decay = _per_lane(settings.weight_decay, state.weights)

    def loss(weights: Weights, x: jax.Array, y: Array, seed: Array) -> jax.Array:
        outputs = forward(weights, settings, x, seed)
        # Lanes share no weight, so the gradient of the sum is each one's own.
        return view.loss(outputs, y).mean(axis=1).sum()

    def step(state: State, x: jax.Array, y: jax.Array) -> tuple[State, jax.Array]:
        weights, adam, step = state
        x = prepare(x, view, step)
        seed = fold_in(settings.seed, step)
        gradient = jax.grad(loss)(weights, x, y, seed)
        gradient = jax.tree.map(lambda g, w, d: g + d * w, gradient, weights, decay)
        update, adam = trainer.adam_update(gradient, adam)
        weights = jax.tree.map(lambda w, u, r: w - r * u, weights, update, rate)
        return State(weights, adam, step + 1), jnp.float32(0)

    return feed.each_batch(step, state, order, rows, shape.batch_size)[0]


def evaluate(
    state: State,
    settings: Settings,
    rows: Split,
    count: Scalar,
    view: View,
    *,
    shape: Padded,
) -> trainer.Sums:
    """Of every lane over the first `count` rows, [G, ...] each."""

    def outputs(x: jax.Array) -> jax.Array:
        return forward(state.weights, settings, x, None)

    return trainer.sums_of(outputs, rows, count, view)


def _per_lane(values: Array, weights: Weights) -> Weights:
    """Per-lane values [G] in a tree like `weights`, each broadcastable to its leaf."""
    later = jnp.expand_dims(values, (1, 2))
    return Weights(
        jnp.expand_dims(values, (0, 2)),
        (later,) * len(weights.later),
        jnp.expand_dims(values, 1),
    )
