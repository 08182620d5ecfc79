"""The convolutional network as pure functions, `init`, `statistics` and `apply`."""

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax import sparse
from dnc_jax.networks import channels
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.networks.architecture import CNN
from dnc_jax.networks.convolution import TAPS, Form, convolution
from dnc_jax.networks.draws import weights
from dnc_jax.networks.dropout import dropout, fold_in
from dnc_jax.networks.patterns import Patterns, check
from dnc_jax.typing import Array, Key, Params, Scalar, Statistics

EPSILON = 1e-5  # added to a variance
MOMENTUM = 0.9  # of the running statistics: what is kept of them in a step


def init(key: Key, architecture: CNN, patterns: Patterns = ()) -> Params:
    """Fresh parameters, float32. Consumes `key`.

    For each convolution a weight ([3, 3, I, O], or [3, 3, E, b_in, b_out] where it is
    sparse) as `draws.scaled` makes it, a bias of 0 and, where the layer has batch norm,
    a scale of 1 and an offset of 0, all [O]; for the head a weight [I, O] or
    [E, b_in, b_out], and a bias.

    Raises:
      InputError: the patterns are not those of the architecture.
    """
    check(architecture, patterns)
    count = len(architecture.channels)
    keys = jax.random.split(key, count + 1)
    convolutions = architecture.convolutions
    drawn = patterns or (None,) * (count + 1)
    params = []
    for layer, (n_in, n_out) in enumerate(architecture.junctions):
        pattern, head = drawn[layer], layer == count
        if pattern:
            make = sparse.init if head else sparse.conv_init
            params.append(dict(make(keys[layer], pattern)))
        else:
            shape = (n_in, n_out) if head else (*TAPS, n_in, n_out)
            weight = weights(keys[layer], shape)
            params.append({"weight": weight, "bias": np.zeros(n_out, np.float32)})
        if not head and convolutions[layer].batch_norm:
            params[layer] |= {
                "scale": np.ones(n_out, np.float32),
                "offset": np.zeros(n_out, np.float32),
            }
    return tuple(params)


def statistics(architecture: CNN) -> Statistics:
    """Running statistics before training: mean 0 and variance 1, [O] for each layer."""
    return tuple(
        {"mean": np.zeros(n, np.float32), "variance": np.ones(n, np.float32)}
        if has
        else {}
        for n, has in zip(architecture.channels, architecture.batch_norm, strict=False)
    )


def apply(
    params: Params,
    architecture: CNN,
    x: Array,
    patterns: Patterns = (),
    statistics: Statistics = (),
    *,
    dropout_seed: Scalar | None = None,
    rates: Array | None = None,
    form: Form | None = None,
) -> tuple[jax.Array, Statistics]:
    """Logits of a batch, and the statistics after it.

    Args:
      params: as `init` returns them.
      architecture: static.
      x: [B, height * width * channels] float, already normalised.
      patterns: those that `init` was given.
      statistics: running ones; they normalise in inference, and move in training.
      dropout_seed: [] uint32, another one for every step; None (the default) is
        inference.
      rates: [layers] float32, of the dropout instead of the architecture's, where that
        has any: values that are traced.
      form: static, of the dense convolutions; None is the device's.

    Returns:
      Outputs [B, C] and, in training, the new statistics.
    """
    images, moved = features(
        params,
        architecture,
        x,
        patterns,
        statistics,
        dropout_seed=dropout_seed,
        rates=rates,
        form=form,
    )
    return _head(params[-1], images.mean((1, 2)), patterns), moved


def features(
    params: Params,
    architecture: CNN,
    x: Array,
    patterns: Patterns = (),
    statistics: Statistics = (),
    *,
    dropout_seed: Scalar | None = None,
    rates: Array | None = None,
    form: Form | None = None,
) -> tuple[jax.Array, Statistics]:
    """What the last layer computes, [B, H, W, channels], before mean and head.

    Arguments and statistics are those of `apply`.

    Reference: S. Ioffe, C. Szegedy, "Batch Normalization" (2015).
    """
    activate = ACTIVATIONS[architecture.activation]
    kept: tuple[jax.Array, int] | None = None
    hidden = jnp.asarray(x).reshape(-1, *architecture.image)
    moved = list(statistics)
    for layer, one in enumerate(architecture.convolutions):
        junction, stride = params[layer], one.stride
        if layer in architecture.shortcut_starts:
            kept = (hidden, layer + 1)
        weight, bias = junction["weight"], junction["bias"]
        if "scale" in junction:
            # Batch norm takes it out again, so that its gradient is nothing but
            # rounding, which Adam would make steps of full length of.
            bias = jax.lax.stop_gradient(bias)
        if pattern := patterns[layer] if patterns else None:
            edges = {"weight": weight, "bias": bias}
            hidden = sparse.conv_apply(edges, pattern, hidden, strides=(stride, stride))
        else:
            hidden = channels.add(convolution(hidden, weight, stride, form), bias)
        if one.pool:
            hidden = _halve(hidden, -jnp.inf).max((2, 4))
        if "scale" in junction:
            hidden, moved[layer] = _batch_norm(
                hidden, junction, statistics[layer], dropout_seed is not None
            )
        if kept and kept[1] == layer:
            hidden, kept = hidden + _shortcut(kept[0], hidden.shape), None
        hidden = activate(hidden)
        if dropout_seed is not None and one.dropout:
            rate = one.dropout if rates is None else rates[layer]
            flat = hidden.reshape(len(hidden), -1)
            flat = dropout(flat, rate, fold_in(dropout_seed, layer))
            hidden = flat.reshape(hidden.shape)
    return hidden, tuple(moved)


def _head(junction: Params, features: jax.Array, patterns: Patterns) -> jax.Array:
    if patterns and patterns[-1]:
        return sparse.apply(junction, patterns[-1], features)
    return features @ junction["weight"] + jnp.expand_dims(junction["bias"], 0)


def _batch_norm(
    x: jax.Array, junction: Params, running: Statistics, training: bool
) -> tuple[jax.Array, Statistics]:
    mean, variance = running["mean"], running["variance"]
    if training:
        mean = channels.mean(x)
        variance = channels.mean(jnp.square(channels.add(x, -mean)))
        now = {"mean": mean, "variance": variance}
        running = jax.tree.map(
            lambda old, new: MOMENTUM * old + (1 - MOMENTUM) * new, running, now
        )
    factor = junction["scale"] * jax.lax.rsqrt(variance + EPSILON)
    shift = junction["offset"] - mean * factor
    return channels.add(channels.scale(x, factor), shift), running


def _halve(x: jax.Array, fill: float) -> jax.Array:
    """Squares of 2 x 2 pixels: [B, H, W, C] to [B, H', 2, W', 2, C].

    An odd row or column at the end is paired with `fill`.
    """
    # flax's max_pool takes two to six times as long with its gradient, its avg_pool a
    # fifth less, which shortcuts seldom need (128 images, jax 0.10.2, a CPU).
    batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        pads = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
        x = jnp.pad(x, pads, constant_values=fill)
    return x.reshape(batch, x.shape[1] // 2, 2, x.shape[2] // 2, 2, channels)


def _shortcut(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`x` brought to `shape`: averaged where the image shrank, with zero channels."""
    while x.shape[1:3] != shape[1:3]:
        pixels = _halve(jnp.ones((1, *x.shape[1:3], 1), x.dtype), 0.0).sum((2, 4))
        x = _halve(x, 0.0).sum((2, 4)) / pixels
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, shape[3] - x.shape[3])))
