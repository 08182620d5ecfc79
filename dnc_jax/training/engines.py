"""How a program trains its networks: padded to a common shape, or as they are."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dnc_jax.networks import network
from dnc_jax.training import exact, lanes, trainer
from dnc_jax.training.jobs import Job, Snapshot
from dnc_jax.training.shapes import Exact, Shape


class Engine(NamedTuple):
    """The functions of one kind of shape.

    Attributes:
      pack: (snapshots, shape) -> state of a program, in NumPy.
      settings: (jobs, shape) -> what differs between its lanes, in NumPy.
      train: an epoch or a part of it, see `lanes.train`.
      evaluate: sums over the validation rows, see `lanes.evaluate`.
      unpack: (state in NumPy, shape, architecture, lane) -> snapshot.
    """

    pack: Callable[[Sequence[Snapshot], Any], Any]
    settings: Callable[[Sequence[Job], Any], Any]
    train: Callable[..., Any]
    evaluate: Callable[..., trainer.Sums]
    unpack: Callable[[Any, Any, Any, int], Snapshot]


_PADDED = Engine(lanes.pack, lanes.settings, lanes.train, lanes.evaluate, lanes.unpack)
_EXACT = Engine(exact.pack, exact.settings, exact.train, exact.evaluate, exact.unpack)


def of(shape: Shape) -> Engine:
    """The engine that networks of this shape run in."""
    return _EXACT if isinstance(shape, Exact) else _PADDED


def fresh(job: Job) -> Snapshot:
    """A job's network before training, on the host, the same in every engine."""
    weights, _, patterns = trainer.keys_of(job.key)
    drawn = network.patterns(patterns, job.architecture)
    params, statistics = jax.device_get(
        (
            network.init(weights, job.architecture, drawn),
            network.statistics(job.architecture),
        )
    )
    zeros = jax.tree.map(np.zeros_like, params)
    return Snapshot(params, zeros, zeros, 0, statistics)
