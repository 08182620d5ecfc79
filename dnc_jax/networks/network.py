"""Any network as pure functions, whatever its kind."""

import dataclasses

import jax
import numpy as np

from dnc_jax.networks import cnn, mlp
from dnc_jax.networks.architecture import CNN, MLP, Architecture
from dnc_jax.networks.convolution import Form
from dnc_jax.networks.patterns import Patterns, check, patterns
from dnc_jax.typing import Array, Key, Params, Scalar, Statistics

__all__ = [
    "Patterns",
    "apply",
    "check",
    "describe",
    "init",
    "patterns",
    "rates",
    "statistics",
    "structure",
    "train_apply",
]


def init(key: Key, architecture: Architecture, patterns: Patterns = ()) -> Params:
    """Fresh parameters, one dict of arrays for each junction. Consumes `key`."""
    if isinstance(architecture, MLP):
        return mlp.init(key, architecture, patterns)
    return cnn.init(key, architecture, patterns)


def statistics(architecture: Architecture) -> Statistics:
    """Running statistics of its batch norms before training; empty where none is."""
    return cnn.statistics(architecture) if isinstance(architecture, CNN) else ()


def apply(
    params: Params,
    architecture: Architecture,
    x: Array,
    patterns: Patterns = (),
    statistics: Statistics = (),
) -> jax.Array:
    """Outputs in inference: [B, D] normalised examples to [B, C].

    Args:
      params: as `init` returns them.
      architecture: static.
      x: flat examples.
      patterns: those that `init` was given.
      statistics: as training left them.
    """
    if isinstance(architecture, MLP):
        return mlp.apply(params, architecture, x, patterns)
    return cnn.apply(params, architecture, x, patterns, statistics)[0]


def train_apply(
    params: Params,
    architecture: Architecture,
    x: Array,
    patterns: Patterns,
    statistics: Statistics,
    *,
    seed: Scalar,
    rates: Array | None = None,
    form: Form | None = None,
) -> tuple[jax.Array, Statistics]:
    """As `apply`, in training: dropout and the batch's own statistics.

    Args:
      seed: [] uint32 of the dropout, another one for every step.
      rates: as the function `rates` returns them; None takes the architecture's, as
        constants of the program.
      form: static, of a CNN's convolutions; None is the device's.

    Returns:
      Outputs [B, C] and the moved statistics.
    """
    if isinstance(architecture, MLP):
        outputs = mlp.apply(
            params, architecture, x, patterns, dropout_seed=seed, rate=rates
        )
        return outputs, ()
    return cnn.apply(
        params,
        architecture,
        x,
        patterns,
        statistics,
        dropout_seed=seed,
        rates=rates,
        form=form,
    )


def rates(architecture: Architecture) -> np.ndarray:
    """Dropout probabilities: [] float32 of an MLP, [layers] of a CNN."""
    return np.asarray(architecture.dropout, np.float32)


def structure(architecture: Architecture) -> Architecture:
    """What a program is compiled for: dropout here and there, at whatever rates.

    Where there is dropout its rate is 0.5, which stands for all rates; `describe` does
    not name it.
    """
    if isinstance(architecture, MLP):
        used = architecture.dropout > 0 and bool(architecture.hidden)
        return dataclasses.replace(architecture, dropout=0.5 if used else 0.0)
    used = tuple(0.5 if rate else 0.0 for rate in architecture.dropout)
    return dataclasses.replace(architecture, dropout=used)


def describe(structure: Architecture) -> str:
    """A structure for people: where it has dropout, and at no rate.

    >>> describe(structure(MLP(64, (32,), 10, dropout=0.1)))
    '64-32-10 relu with dropout'
    >>> describe(structure(CNN((8, 8, 1), (4, 4, 4), 10, dropout=(0.1, 0.0, 0.2))))
    '8x8x1-4-4-4-10 relu with dropout after layer 1/3'
    """
    if not np.any(structure.dropout):
        return str(structure)
    if isinstance(structure, MLP):
        return f"{dataclasses.replace(structure, dropout=0.0)} with dropout"
    plain = dataclasses.replace(structure, dropout=())
    layers = [str(layer) for layer, rate in enumerate(structure.dropout, 1) if rate]
    where = "" if all(structure.dropout) else f" after layer {'/'.join(layers)}"
    return f"{plain} with dropout{where}"
