"""The end of a Keras search after so many seconds, and the best network until then."""

import contextlib
import time
from collections.abc import Callable

import keras
import numpy as np
from keras_tuner.errors import FatalError

_BEST: dict = {"val_accuracy": -1.0}  # tuners copy callbacks, so it is nobody's own
_BEGIN = time.perf_counter()


class OutOfTimeError(FatalError):
    """The seconds are over; any other error would count as a failed trial."""


class Watch(keras.callbacks.Callback):
    """Keeps the best network so far and ends the search.

    Args:
      seconds: since the import of this module.
      describe: what else to say of a network that is the best.
    """

    def __init__(self, seconds: float, describe: Callable[..., dict]) -> None:
        super().__init__()
        self.seconds, self.describe = seconds, describe

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock of the epoch."""
        self.epoch_begin = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Asks for the time."""
        if time.perf_counter() - _BEGIN > self.seconds:
            raise OutOfTimeError

    def on_epoch_end(self, epoch, logs=None):
        """Compares with the best so far."""
        if logs["val_accuracy"] > _BEST["val_accuracy"]:
            _BEST.update(
                self.describe(self.model),
                val_accuracy=logs["val_accuracy"],
                seconds_per_epoch=time.perf_counter() - self.epoch_begin,
                parameters=self.model.count_params(),
                model=self.model,
                weights=self.model.get_weights(),
            )


def found(search: Callable[[], object], x: np.ndarray, y: np.ndarray) -> dict:
    """What `search` finds until it ends or its `Watch` ends it, tested on `x`, `y`."""
    with contextlib.suppress(OutOfTimeError):
        search()
    seconds = time.perf_counter() - _BEGIN
    if "model" not in _BEST:
        return {"architecture": "no epoch in time", "search_seconds": seconds}
    best = dict(_BEST)
    model = best.pop("model")
    model.set_weights(best.pop("weights"))
    scores = model.predict(x, batch_size=1000, verbose=0)
    accuracy = float((scores.argmax(1) == y).mean())
    return {**best, "test_accuracy": accuracy, "search_seconds": seconds}
