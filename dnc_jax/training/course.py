"""One network's training at the end of an epoch, and the file that it is kept in."""

import hashlib
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from dnc_jax.networks.patterns import Patterns
from dnc_jax.training import under_way
from dnc_jax.training.data import Dataset
from dnc_jax.typing import Params, Statistics


class Epoch(NamedTuple):
    """What one epoch came to; `trainer.History` has the fields of all of them."""

    train_loss: float
    val_loss: float
    val_accuracy: float
    seconds: float


# Of an epoch's validation loss and accuracy: the less, the better.
Rank: TypeAlias = Callable[[float, float], float]


def by_accuracy(val_loss: float, val_accuracy: float) -> float:
    """The usual `Rank`."""
    del val_loss
    return -val_accuracy


def best_epoch(
    val_loss: Sequence[float], val_accuracy: Sequence[float], rank: Rank
) -> int:
    """The index of the best; of equal ranks the least loss is, then the first."""
    places = [
        (rank(*epoch), epoch[0]) for epoch in zip(val_loss, val_accuracy, strict=True)
    ]
    return places.index(min(places))


class Course(NamedTuple):
    """A training at the end of an epoch, or before the first.

    Attributes:
      state: `trainer.TrainState`.
      best: parameters and statistics of the best epoch.
      history: of all epochs.
    """

    state: Any
    best: tuple[Params, Statistics]
    history: tuple[Epoch, ...] = ()

    def after(
        self, state: Any, epoch: Epoch, rank: Rank, *, keep_last: bool
    ) -> "Course":
        """The training one epoch later; with `keep_last` that epoch is the best."""
        best, history = self.best, (*self.history, epoch)
        _, val_loss, val_accuracy, _ = zip(*history, strict=True)
        best_yet = best_epoch(val_loss, val_accuracy, rank)
        if keep_last or best_yet == len(history) - 1:
            # A copy: the next epoch donates the state's buffers.
            best = jax.tree.map(np.array, (state.params, state.statistics))
        return Course(state, best, history)


class Kept:
    """The file that a training is kept in.

    Args:
      path: of the file; None keeps nothing.
      identity: what tells this training from all others, asked for if there is a file.
    """

    def __init__(self, path: pathlib.Path | None, identity: Callable[[], str]) -> None:
        self._path = path
        self._identity = identity() if path else ""
        self._saved = time.perf_counter()

    def restored(self, fresh: Course) -> Course:
        """The training in the file, or the fresh one where it is another's."""
        stored = under_way.read(self._path) if self._path else None
        if not stored or stored[0] != self._identity:
            return fresh
        *trees, history = stored[1]
        structure = jax.tree.structure(fresh[:2])
        state, best = jax.tree.unflatten(structure, jax.tree.leaves(trees))
        return Course(state, best, tuple(Epoch(*one) for one in history))

    def save(self, course: Course, *, last: bool) -> None:
        """Replaces the file if the one before is some seconds old or this is the last.

        Raises:
          OSError: it cannot be written; the one before is kept.
        """
        due = time.perf_counter() - self._saved > under_way.SAVE_SECONDS
        if self._path and (due or last):
            under_way.write(self._path, (self._identity, course))
            self._saved = time.perf_counter()


def identity(data: Dataset, patterns: Patterns, *what: Any) -> str:
    """What tells a training from all others, and its file from those of other versions.

    Args:
      data: its rows, and whether they are augmented.
      patterns: of the network.
      what: all else, of which `repr` tells everything.
    """
    fields = Course._fields, Epoch._fields
    text = repr((fields, what, data.digest(), data.augment))
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for leaf in jax.tree.leaves(patterns):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
