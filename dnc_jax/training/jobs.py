"""What a population is asked to train, and what it answers; plain data."""

import dataclasses
from typing import NamedTuple

from dnc_jax.networks import Architecture
from dnc_jax.training.hyperparameters import Hyperparameters
from dnc_jax.typing import Key, Params, Statistics


class Snapshot(NamedTuple):
    """A network between two rungs, on the host, unpadded.

    Its patterns are not in it: they are drawn from the job's key, always the same.
    """

    params: Params
    mu: Params  # Adam's first moment
    nu: Params  # Adam's second moment
    step: int
    statistics: Statistics = ()  # of its batch norms


class Progress(NamedTuple):
    """A job at the end of an epoch: training goes on from it, bit for bit.

    Attributes:
      start: of the job.
      snapshot: of the network, whose loss need not be finite any more.
      val_loss, val_accuracy: of every epoch since the job's start.
      seconds: this network's share of the runs that trained it, so far: their wall
        clock over their networks, without compiling.
    """

    start: int
    snapshot: Snapshot
    val_loss: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    seconds: float


class Job(NamedTuple):
    """One network to train from epoch `start` to epoch `stop` of `total`.

    Attributes:
      key: of its weights, its dropout and its patterns, see `trainer.keys_of`.
      snapshot: at `start`; None: from scratch, and start is 0.
      progress: beyond `start`, from a run that was interrupted. It is used where all
        networks of a chunk are equally far.
      expected_epochs: that such networks train for from `start` on, on average, beyond
        `stop` too; programs are planned for no fewer than stop - start.
    """

    architecture: Architecture
    hyperparameters: Hyperparameters
    key: Key
    start: int
    stop: int
    total: int
    snapshot: Snapshot | None = None
    progress: Progress | None = None
    expected_epochs: float = 0.0


class Executed(NamedTuple):
    """What a program has computed for each of its lanes, padding included.

    Attributes:
      lanes: of the program, those without a network too.
      training_flops, evaluation_flops: of one lane.
    """

    lanes: int
    training_flops: int
    evaluation_flops: int


class Outcome(NamedTuple):
    """What became of a job; the curves have one entry an epoch."""

    val_loss: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    seconds: float  # as of `Progress`
    diverged: bool
    snapshot: Snapshot | None  # None if diverged
    epochs: int  # trained in this call; the others came with the job's progress
    executed: Executed  # in this call


@dataclasses.dataclass
class Account:
    """What the programs of one shape took.

    Attributes:
      compile_seconds: of the worker that compiled them.
      run_seconds: of all runs, summed over workers.
      runs: how often they ran for a rung.
      networks: trained in them, counted once a run.
    """

    compile_seconds: float = 0.0
    run_seconds: float = 0.0
    runs: int = 0
    networks: int = 0


class Seconds(NamedTuple):
    """Where the time of a population's training went; the four are all of it.

    Averaged over the workers, so that the sum is the wall clock of `population.train`.

    Attributes:
      compiling: programs, reading them from the cache on disk included.
      training, evaluating: in compiled programs.
      waiting: for the host, which draws, packs and saves networks, and for other
        workers at the end of a rung.
    """

    compiling: float = 0.0
    training: float = 0.0
    evaluating: float = 0.0
    waiting: float = 0.0
