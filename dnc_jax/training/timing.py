"""What training a network by itself takes, on a machine that does nothing else."""

import dataclasses
import math
import statistics
from collections.abc import Callable
from typing import NamedTuple

import jax

from dnc_jax.networks import Architecture
from dnc_jax.training import costs, shapes, trainer
from dnc_jax.training.data import Dataset, Split
from dnc_jax.training.hyperparameters import Hyperparameters
from dnc_jax.typing import Key

_STEPS = 40  # enough to outweigh the start of a program, few enough for a search
_REPEATS = 5
_WINDOW_SECONDS = 1.0  # energy counters move some tens of times a second
_MOST_REPEATS = 1000


class EpochCost(NamedTuple):
    """Of one epoch of training, without compiling and validating.

    None is what was not measured.
    """

    seconds: float | None = None
    joules: float | None = None


UNMEASURED = EpochCost()


def modelled_seconds(
    architecture: Architecture,
    batch_size: int,
    workload: costs.Workload,
    joules: bool,
    cost: costs.CostModel,
) -> float:
    """What `epoch_cost` itself takes, by the cost model, in seconds.

    Args:
      architecture, batch_size: what is measured.
      workload: an epoch of it.
      joules: whether those are measured too.
      cost: constants of the machine.
    """
    shape = shapes.Exact(1, architecture, min(batch_size, workload.rows))
    steps = max(1, workload.rows // shape.batch_size)
    whole = costs.run_seconds(shape, 1, workload._replace(devices=1), cost)
    short = whole * min(steps, _STEPS) / steps
    running = (1 + _REPEATS) * short
    if joules:
        running += short + max(_WINDOW_SECONDS, _REPEATS * short)
    return costs.compile_seconds(shape, cost) + running


def epoch_cost(
    key: Key,
    architecture: Architecture,
    hyperparameters: Hyperparameters,
    data: Dataset,
    read_joules: Callable[[], float] | None = None,
) -> EpochCost:
    """What one epoch of training takes when nothing else runs.

    Seconds are the median of five runs of up to 40 steps, joules those of a second of
    such runs, both for the rows of a whole epoch. Nothing else should run meanwhile,
    neither here nor in other processes.

    Args:
      key: of the network that is trained, and thrown away. Consumed.
      architecture, hyperparameters: what is measured.
      data: its rows are used as training uses them.
      read_joules: energy that the machine has taken so far.
    """
    rows = len(data.train.y)
    batch_size = min(hyperparameters.batch_size, rows)
    steps = rows // batch_size
    part = min(steps, _STEPS)
    short = data._replace(
        train=Split(*(a[: part * batch_size] for a in data.train)),
        validation=Split(*(a[:1] for a in data.validation)),
    )
    network_key, order_key = jax.random.split(key)
    # The rate is an argument of the program; with this one no network diverges.
    harmless = dataclasses.replace(hyperparameters, learning_rate=1e-9)
    readings: list[float] = []

    def train(repeats: int) -> list[float]:
        """Seconds of each repeat; the first epoch, which compiles, is not one."""

        def on_epoch(epoch: int, _: float) -> None:
            if read_joules and epoch in (1, 1 + repeats):
                readings.append(read_joules())

        _, history = trainer.train(
            network_key,
            architecture,
            harmless,
            short,
            order_key=order_key,
            epochs=1 + repeats,
            on_epoch=on_epoch,
        )
        return list(history.seconds[1:])

    seconds, joules = statistics.median(train(_REPEATS)), None
    if read_joules:
        repeats = math.ceil(_WINDOW_SECONDS / max(seconds, 1e-9))
        repeats = min(max(repeats, _REPEATS), _MOST_REPEATS)
        readings.clear()
        train(repeats)
        joules = (readings[1] - readings[0]) / repeats * steps / part
    # Of a search all candidates are measured, most of which never train again.
    trainer.forget_programs()
    return EpochCost(seconds * steps / part, joules)
