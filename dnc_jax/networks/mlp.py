"""The multilayer perceptron as two pure functions, `init` and `apply`."""

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.networks.architecture import MLP
from dnc_jax.networks.dropout import dropout, fold_in
from dnc_jax.typing import Array, Key, Params, Scalar

_DRAW = 2**16


def draw(key: Key, architecture: MLP) -> jax.Array:
    """Standard normals enough for every weight, in one array: [>= weights] float32.

    Their number is rounded up to a multiple of 65,536, so that networks of many
    sizes share a handful of compiled generators. Consumes `key`.
    """
    weights = sum(n_in * n_out for n_in, n_out in architecture.junctions)
    return jax.random.normal(key, (-(-weights // _DRAW) * _DRAW,))


def from_draw(normals: Array, architecture: MLP) -> Params:
    """Parameters of `architecture` cut from `draw`'s normals and scaled.

    Weights get a standard deviation of sqrt(2 / fan_in), biases are 0. Given a NumPy
    array it computes in NumPy and compiles nothing, which is how a search starts
    hundreds of networks of different sizes in a moment.

    Reference: K. He et al., "Delving Deep into Rectifiers" (2015), equation 10.
    """
    params, start = [], 0
    for n_in, n_out in architecture.junctions:
        stop = start + n_in * n_out
        scale = np.float32(np.sqrt(2 / n_in))
        params.append(
            {
                "weight": normals[start:stop].reshape(n_in, n_out) * scale,
                "bias": np.zeros(n_out, np.float32),
            }
        )
        start = stop
    return tuple(params)


def init(key: Key, architecture: MLP) -> Params:
    """Fresh parameters: for each junction a weight [I, O] and a bias [O], float32.

    Consumes `key`. Equal to `from_draw(draw(key, architecture), architecture)`.
    """
    return from_draw(draw(key, architecture), architecture)


def apply(
    params: Params,
    architecture: MLP,
    x: Array,
    *,
    dropout_seed: Scalar | None = None,
) -> jax.Array:
    """Logits of a batch.

    Args:
      params: as `init` returns them.
      architecture: static; its activation and dropout are used, its sizes implied.
      x: [B, D] float, already normalised.
      dropout_seed: [] uint32, another one for every step; None (the default) is
        inference and drops nothing.

    Returns:
      [B, C] float.
    """
    activate = ACTIVATIONS[architecture.activation]
    hidden = jnp.asarray(x)
    for layer, junction in enumerate(params):
        bias = jnp.expand_dims(jnp.asarray(junction["bias"]), 0)
        hidden = hidden @ junction["weight"] + bias
        if layer < len(params) - 1:
            hidden = activate(hidden)
            if dropout_seed is not None:
                seed = fold_in(dropout_seed, layer)
                hidden = dropout(hidden, architecture.dropout, seed)
    return hidden
