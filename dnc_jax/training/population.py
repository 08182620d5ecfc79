"""Training many different networks at once, in few compiled programs.

A plan (`plan.make`) groups the networks of a rung; each group is one program whose
lanes they are (`lanes`); programs run on as many worker threads as there are cores.
"""

import dataclasses
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from dnc_jax.errors import InputError
from dnc_jax.footprint import inference_work, step_work
from dnc_jax.networks import MLP, mlp
from dnc_jax.training import lanes, plan, trainer, under_way
from dnc_jax.training.data import Dataset
from dnc_jax.training.hyperparameters import Hyperparameters, rate_factor
from dnc_jax.typing import Key, Params


class Snapshot(NamedTuple):
    """A network between two rungs, on the host, unpadded."""

    params: Params
    mean: Params  # Adam's first moment
    variance: Params  # Adam's second moment
    step: int


class Progress(NamedTuple):
    """A job at the end of an epoch: training goes on from it, bit for bit.

    Attributes:
      start: of the job.
      snapshot: of the network, whose loss need not be finite any more.
      val_loss, val_accuracy: of every epoch since the job's start.
      seconds: this network's share of its group's training time so far.
    """

    start: int
    snapshot: Snapshot
    val_loss: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    seconds: float


class Job(NamedTuple):
    """One network to train from epoch `start` to epoch `stop` of `total`.

    Attributes:
      snapshot: at `start`; None: from scratch, and start is 0.
      progress: beyond `start`, from a run that was interrupted. It is used where all
        networks of a chunk are equally far.
    """

    architecture: MLP
    hyperparameters: Hyperparameters
    key: Key
    start: int
    stop: int
    total: int
    snapshot: Snapshot | None = None
    progress: Progress | None = None


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
    seconds: float  # this network's share of its group's training time
    diverged: bool
    snapshot: Snapshot | None  # None if diverged
    epochs: int  # trained in this call; the others came with the job's progress
    executed: Executed  # in this call


@dataclasses.dataclass
class Account:
    """What one program took.

    Attributes:
      compile_seconds: of the worker that compiled it.
      run_seconds: of all its runs, summed over workers.
      runs: how often it ran for a rung.
      networks: trained in them, counted once a run.
    """

    compile_seconds: float = 0.0
    run_seconds: float = 0.0
    runs: int = 0
    networks: int = 0


class Programs:
    """The compiled programs of one search, by shape, and the data they run on.

    Thread-safe. Rows are copied to the device once, as they are stored.
    """

    def __init__(self, data: Dataset, order_key: Key) -> None:
        self._train, self._validation = jax.device_put((data.train, data.validation))
        self._statistics = (data.mean, data.scale)
        self.rows = len(data.train.y)
        self.validation_rows = len(data.validation.y)
        self.inputs, self.outputs = data.inputs, data.outputs
        self._order_key = order_key
        self._orders: dict[int, jax.Array] = {}
        self._compiled: dict[plan.Shape, Any] = {}
        self.planned: set[plan.Shape] = set()
        self._locks: dict[plan.Shape, threading.Lock] = {}
        self._lock = threading.Lock()
        self.accounts: defaultdict[plan.Shape, Account] = defaultdict(Account)
        self.workers = workers()
        # LLVM's highest level takes a seventh longer and gains nothing here.
        self._options: dict[str, str | bool] = (
            {"xla_backend_optimization_level": "1"}
            if jax.default_backend() == "cpu"
            else {}
        )

    @property
    def compile_seconds(self) -> float:
        """Of all workers together."""
        return sum((one.compile_seconds for one in self.accounts.values()), 0.0)

    def add_run(self, shape: plan.Shape, seconds: float, networks: int) -> None:
        """Notes that the program of `shape` has trained so many networks once."""
        with self._lock:
            account = self.accounts[shape]
            account.run_seconds += seconds
            account.runs += 1
            account.networks += networks

    @property
    def shapes(self) -> list[plan.Shape]:
        """Shapes already compiled."""
        return sorted(self._compiled)

    def order(self, epoch: int) -> jax.Array:
        """The rows in the order of `epoch`, the same for every network."""
        with self._lock:
            if epoch not in self._orders:
                self._orders[epoch] = trainer.epoch_order(
                    self._order_key, epoch, self.rows
                )
            return self._orders[epoch]

    def forget_orders(self) -> None:
        """Frees the orders of epochs that no rung under way needs."""
        with self._lock:
            self._orders.clear()

    def get(self, shape: plan.Shape) -> Callable[..., Any]:
        """The program of `shape`, compiled now if this is its first use."""
        with self._lock:
            lock = self._locks.setdefault(shape, threading.Lock())
        with lock:
            if shape not in self._compiled:
                start = time.perf_counter()
                weights = lanes.zeros(shape, self.inputs, self.outputs)
                arguments = jax.eval_shape(
                    lambda: (
                        weights,
                        trainer.ADAM.init(weights),
                        np.int32(0),
                        lanes.settings([], shape),
                        np.float32(1),
                    )
                )
                epoch = partial(lanes.epoch, batch_size=shape.batch_size)
                program = jax.jit(epoch, donate_argnums=(0, 1)).lower(
                    *arguments,
                    self.order(0),
                    self._train,
                    self._validation,
                    *self._statistics,
                )
                compiled = program.compile(compiler_options=self._options)
                with self._lock:
                    self.accounts[shape].compile_seconds = time.perf_counter() - start
                self._compiled[shape] = compiled
        compiled = self._compiled[shape]
        return lambda *arguments, epoch: compiled(
            *arguments,
            self.order(epoch),
            self._train,
            self._validation,
            *self._statistics,
        )


def workers() -> int:
    """Programs that run at a time.

    XLA keeps about one core busy with networks of this size, so on a CPU as many as
    there are cores; an accelerator runs one after another.
    """
    return cores() if jax.default_backend() == "cpu" else 1


def cores() -> int:
    """Cores that this process may use, where the system tells; else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def plan_groups(jobs: Sequence[Job], programs: Programs) -> list[plan.Group]:
    """The plan of these jobs, the networks that train longest first.

    Jobs of one group share `start` and `stop`. The shapes count as compiled in later
    plans. Whether they really are does not matter to a plan, so that a search that goes
    on after an interruption groups its networks, and rounds, as if there had been none.
    """
    spans = sorted({(job.stop - job.start, job.start) for job in jobs}, reverse=True)
    result = []
    for epochs, start in spans:
        positions = [
            i
            for i, job in enumerate(jobs)
            if (job.stop - job.start, job.start) == (epochs, start)
        ]
        networks = [
            (jobs[i].architecture, jobs[i].hyperparameters.batch_size)
            for i in positions
        ]
        work = plan.Workload(programs.inputs, programs.outputs, programs.rows, epochs)
        groups = plan.make(networks, work, programs.planned)
        programs.planned.update(group.shape for group in groups)
        result += [
            group._replace(members=tuple(positions[i] for i in group.members))
            for group in groups
        ]
    return result


def train(
    jobs: Sequence[Job],
    programs: Programs,
    *,
    on_epoch: Callable[[Sequence[float]], None] = lambda accuracies: None,
    should_stop: Callable[[], bool] = lambda: False,
    save: Callable[[Sequence[int], Sequence[Progress]], None] | None = None,
    on_chunk: Callable[[Sequence[int], Sequence[Outcome]], None] | None = None,
) -> list[Outcome | None]:
    """Trains all jobs, several programs at a time, and returns in their order.

    The outcome does not depend on the number of workers or on timing, nor on
    interruptions: jobs that go on from what was saved end with the same bits.

    Args:
      jobs: what to train.
      programs: compiled programs and data; gains the shapes that this rung needs.
      on_epoch: called from a worker thread with the validation accuracies of
        networks that have just finished an epoch.
      should_stop: asked before each epoch; once true, unfinished jobs are dropped.
      save: called from a worker thread with the positions of jobs that train together
        and how far they are: when they finish or are dropped, and before that at the
        end of an epoch where the last call is `under_way.SAVE_SECONDS` ago.
      on_chunk: called from this thread with the positions and outcomes of jobs that
        have finished together.

    Returns:
      An outcome for each job, None for those that were dropped.

    Raises:
      InputError: a network is sparse.
    """
    if not jobs:
        return []
    if sparse := next((j for j in jobs if j.architecture.sparsity), None):
        raise InputError(
            f"{sparse.architecture} is sparse; a population trains dense networks, "
            "trainer.train trains sparse ones"
        )
    groups = plan_groups(jobs, programs)
    outcomes: list[Outcome | None] = [None] * len(jobs)
    halted = threading.Event()

    def stop() -> bool:
        return halted.is_set() or should_stop()

    def run(shape: plan.Shape, members: tuple[int, ...]) -> Sequence[Outcome]:
        return _train_group(
            [jobs[i] for i in members],
            shape,
            programs,
            on_epoch,
            stop,
            partial(save, members) if save else None,
        )

    # First each group once, so that no worker waits while another compiles the
    # program that both need; then what is left, by then compiled.
    first, later = [], []
    for group in groups:
        head, *tail = plan.chunks(group)
        first.append((group.shape, head))
        later += [(group.shape, members) for members in tail]
    with ThreadPoolExecutor(programs.workers) as pool:
        futures = {pool.submit(run, *task): task[1] for task in first + later}
        try:
            for future in as_completed(futures):
                members, results = futures.pop(future), future.result()
                if not results:
                    continue
                for index, outcome in zip(members, results, strict=True):
                    outcomes[index] = outcome
                if on_chunk:
                    on_chunk(members, results)
        except BaseException:
            # Ctrl-C, or a worker failed: the others stop at their next epoch.
            halted.set()
            pool.shutdown(cancel_futures=True)
            raise
    programs.forget_orders()
    return outcomes


def _train_group(
    jobs: Sequence[Job],
    shape: plan.Shape,
    programs: Programs,
    on_epoch: Callable[[Sequence[float]], None],
    should_stop: Callable[[], bool],
    save: Callable[[Sequence[Progress]], None] | None = None,
) -> Sequence[Outcome]:
    """Outcomes of jobs that are lanes of one program; none if they were stopped."""
    resumed = _common_progress(jobs)
    curves = _curves(resumed)
    start, stop, total = jobs[0].start, jobs[0].stop, jobs[0].total
    if len(curves) == stop - start or _hopeless(curves):
        nothing = _executed(shape, programs, 0)
        return [_outcome(*pair, 0, nothing) for pair in zip(jobs, resumed, strict=True)]
    if should_stop():
        return []
    program = programs.get(shape)
    begin = saved = time.perf_counter()
    spent = sum(one.seconds for one in resumed)
    keys = [jax.random.split(job.key) for job in jobs]
    snapshots = [one.snapshot for one in resumed] or [
        job.snapshot or _fresh(key[0], job.architecture)
        for job, key in zip(jobs, keys, strict=True)
    ]
    settings = lanes.settings(
        [
            (job.architecture, job.hyperparameters, trainer.seed_of(key[1]))
            for job, key in zip(jobs, keys, strict=True)
        ],
        shape,
    )
    weights, first, second = (
        lanes.pack(
            [getattr(snapshot, field) for snapshot in snapshots],
            shape,
            programs.inputs,
            programs.outputs,
        )
        for field in ("params", "mean", "variance")
    )
    step = np.int32(snapshots[0].step)
    adam: Any = optax.ScaleByAdamState(count=step, mu=first, nu=second)

    def progress() -> list[Progress]:
        state = jax.device_get((weights, adam.mu, adam.nu))
        seconds = (spent + time.perf_counter() - begin) / len(jobs)
        history = np.stack(curves)  # [epochs, (validation loss, accuracy), jobs]
        return [
            Progress(
                start,
                Snapshot(
                    *(lanes.unpack(tree, job.architecture, lane) for tree in state),
                    step=int(step),
                ),
                tuple(map(float, history[:, 0, lane])),
                tuple(map(float, history[:, 1, lane])),
                seconds,
            )
            for lane, job in enumerate(jobs)
        ]

    for epoch in range(start + len(curves), stop):
        stopped = should_stop()
        due = stopped or time.perf_counter() - saved > under_way.SAVE_SECONDS
        if save and due and curves:
            save(progress())
            saved = time.perf_counter()
        if stopped:
            return []
        factor = np.float32(rate_factor(epoch, total))
        weights, adam, step, *metrics = program(
            weights, adam, step, settings, factor, epoch=epoch
        )
        curves.append(np.stack([np.asarray(m)[: len(jobs)] for m in metrics]))
        on_epoch(curves[-1][1].tolist())
        if _hopeless(curves):
            break
    final = progress()
    programs.add_run(shape, time.perf_counter() - begin, len(jobs))
    if save:
        save(final)
    epochs = len(curves) - len(resumed[0].val_loss if resumed else ())
    executed = _executed(shape, programs, epochs)
    return [_outcome(*pair, epochs, executed) for pair in zip(jobs, final, strict=True)]


def _executed(shape: plan.Shape, programs: Programs, epochs: int) -> Executed:
    lane = MLP(programs.inputs, shape.hidden, programs.outputs)
    steps = epochs * (programs.rows // shape.batch_size)
    return Executed(
        shape.lanes,
        steps * step_work(lane, shape.batch_size).flops,
        epochs * inference_work(lane, programs.validation_rows).flops,
    )


def _common_progress(jobs: Sequence[Job]) -> list[Progress]:
    """Where these jobs go on together; empty where they start anew."""
    progress = [
        job.progress for job in jobs if job.progress and job.progress.start == job.start
    ]
    equal = len({len(one.val_loss) for one in progress}) == 1
    return progress if equal and len(progress) == len(jobs) else []


def _curves(progress: Sequence[Progress]) -> list[np.ndarray]:
    """Validation losses and accuracies of the jobs, [2, jobs] for each epoch."""
    curves = [(one.val_loss, one.val_accuracy) for one in progress]
    return list(np.array(curves).transpose(2, 1, 0)) if curves else []


def _hopeless(curves: Sequence[np.ndarray]) -> bool:
    """Every network has diverged."""
    return bool(curves) and not np.isfinite(curves[-1][0]).any()


def _outcome(job: Job, progress: Progress, epochs: int, executed: Executed) -> Outcome:
    finite = np.isfinite(progress.val_loss)
    diverged = not finite.all()
    # Epochs from the first bad one on say nothing about the network.
    kept = int(np.argmin(finite)) if diverged else None
    return Outcome(
        progress.val_loss[:kept],
        progress.val_accuracy[:kept],
        progress.seconds,
        diverged,
        None if diverged else progress.snapshot,
        epochs,
        executed,
    )


def _fresh(key: Key, architecture: MLP) -> Snapshot:
    normals = np.asarray(mlp.draw(key, architecture))
    params = mlp.from_draw(normals, architecture)
    zeros = jax.tree.map(np.zeros_like, params)
    return Snapshot(params, zeros, zeros, 0)
