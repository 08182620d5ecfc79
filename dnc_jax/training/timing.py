"""How long a network trains by itself, on a machine that does nothing else."""

import statistics

import jax
import numpy as np

from dnc_jax.networks import Architecture
from dnc_jax.training import trainer
from dnc_jax.training.data import Dataset, Split
from dnc_jax.training.hyperparameters import Hyperparameters
from dnc_jax.typing import Key

_STEPS = 40  # enough to outweigh the start of a program, few enough for a search
_REPEATS = 5


def epoch_seconds(
    key: Key,
    architecture: Architecture,
    hyperparameters: Hyperparameters,
    data: Dataset,
) -> float:
    """Seconds that one epoch of training takes, without compiling and validating.

    The median of five runs of up to 40 steps, for the rows of a whole epoch. Measures
    wall clock: nothing else should run meanwhile, neither here nor in other processes.

    Args:
      key: of the network that is trained, and thrown away. Consumed.
      architecture, hyperparameters: what is timed.
      data: its rows are used as training uses them.
    """
    rows = len(data.train.y)
    batch_size = min(hyperparameters.batch_size, rows)
    steps = rows // batch_size
    part = min(steps, _STEPS)
    short = data._replace(
        train=Split(*(np.asarray(a)[: part * batch_size] for a in data.train)),
        validation=Split(*(np.asarray(a)[:1] for a in data.validation)),
    )
    network_key, order_key = jax.random.split(key)
    _, history = trainer.train(
        network_key,
        architecture,
        hyperparameters,
        short,
        order_key=order_key,
        epochs=1 + _REPEATS,  # the first one compiles
    )
    return statistics.median(history.seconds[1:]) * steps / part
