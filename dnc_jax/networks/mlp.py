"""The multilayer perceptron as two pure functions, `init` and `apply`."""

import math
from itertools import accumulate, pairwise

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax import sparse
from dnc_jax.networks import draws
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.networks.architecture import MLP
from dnc_jax.networks.dropout import dropout, fold_in
from dnc_jax.networks.patterns import Patterns, check
from dnc_jax.typing import Array, Junction, Key, Params, Scalar


def init(key: Key, architecture: MLP, patterns: Patterns = ()) -> Params:
    """Fresh parameters: for each junction a weight and a bias, float32.

    The weight of a dense junction is [I, O], as `draws.scaled` makes it, that of a
    sparse one [E, b_in, b_out] with as many numbers as it has edges; biases are 0.
    Weights of a dense network are drawn together, so that hundreds of different sizes
    start in a moment.

    Args:
      key: consumed.
      architecture: what to make.
      patterns: as `network.patterns` draws them.

    Raises:
      InputError: they are not those of the architecture.
    """
    check(architecture, patterns)
    junctions = architecture.junctions
    if patterns:
        keys = jax.random.split(key, len(patterns))
        return tuple(
            sparse.init(key, pattern)
            if pattern
            else _junction(draws.weights(key, junction))
            for key, pattern, junction in zip(keys, patterns, junctions, strict=True)
        )
    ends = [0, *accumulate(map(math.prod, junctions))]
    drawn = draws.normals(key, (ends[-1],))
    return tuple(
        _junction(draws.scaled(drawn[start:stop].reshape(junction)))
        for (start, stop), junction in zip(pairwise(ends), junctions, strict=True)
    )


def _junction(weight: Array) -> Junction:
    return {"weight": weight, "bias": np.zeros(weight.shape[1], np.float32)}


def apply(
    params: Params,
    architecture: MLP,
    x: Array,
    patterns: Patterns = (),
    *,
    dropout_seed: Scalar | None = None,
    rate: Scalar | None = None,
) -> jax.Array:
    """Logits of a batch.

    Args:
      params: as `init` returns them.
      architecture: static; its activation and dropout are used, its sizes implied.
      x: [B, D] float, already normalised.
      patterns: those that `init` was given.
      dropout_seed: [] uint32, another one for every step; None (the default) is
        inference and drops nothing.
      rate: [] float32, of the dropout instead of the architecture's, where that has
        any: a value that is traced, so that no other one needs another program.

    Returns:
      [B, C] float.
    """
    rate = architecture.dropout if rate is None else rate
    if patterns:
        return _sparse_apply(params, architecture, x, patterns, dropout_seed, rate)
    activate = ACTIVATIONS[architecture.activation]
    hidden = jnp.asarray(x)
    for layer, junction in enumerate(params):
        bias = jnp.expand_dims(jnp.asarray(junction["bias"]), 0)
        hidden = hidden @ junction["weight"] + bias
        if layer < len(params) - 1:
            hidden = activate(hidden)
            if dropout_seed is not None and architecture.dropout:
                seed = fold_in(dropout_seed, layer)
                hidden = dropout(hidden, rate, seed)
    return hidden


def _sparse_apply(
    params: Params,
    architecture: MLP,
    x: Array,
    patterns: Patterns,
    dropout_seed: Scalar | None,
    rate: Scalar,
) -> jax.Array:
    """As `apply`, with features first from end to end: the sparse kernels' layout."""
    activate = ACTIVATIONS[architecture.activation]
    hidden = jnp.asarray(x).T
    for layer, (junction, pattern) in enumerate(zip(params, patterns, strict=True)):
        if pattern:
            hidden = sparse.apply(junction, pattern, hidden, axis=0)
        else:
            weight, bias = junction["weight"], junction["bias"]
            hidden = jnp.asarray(weight).T @ hidden + jnp.expand_dims(bias, 1)
        if layer < len(params) - 1:
            hidden = activate(hidden)
            if dropout_seed is not None and architecture.dropout:
                seed = fold_in(dropout_seed, layer)
                hidden = dropout(hidden.T, rate, seed).T
    return hidden.T
