"""Training many different networks at once, in few compiled programs.

A plan (`plan.make`) groups the networks of a rung; each group is one program, of
padded lanes or of networks as they are (`engines`); several programs run at a time, on
a CPU one for each core (`resources.workers`).
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from dnc_jax.errors import ProcessError
from dnc_jax.footprint import inference_work, step_work
from dnc_jax.networks import MLP, Architecture
from dnc_jax.training import engines, processes, under_way
from dnc_jax.training.grouping import Chunk, common_progress, plan_groups, rounds
from dnc_jax.training.hyperparameters import rate_factor
from dnc_jax.training.jobs import (
    Account,
    Executed,
    Job,
    Outcome,
    Progress,
    Seconds,
    Snapshot,
)
from dnc_jax.training.programs import Programs, signature
from dnc_jax.training.shapes import Exact, Shape

__all__ = [
    "Account",
    "Executed",
    "Job",
    "Outcome",
    "Programs",
    "Progress",
    "Seconds",
    "Snapshot",
    "train",
]

T = TypeVar("T")


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
      KeyboardInterrupt: this process or another one of the search was interrupted.
      ProcessError: another process has ended, or of several this one's devices ran out
        of memory.
    """
    if not jobs:
        return []
    begin, busy = time.perf_counter(), programs.busy_seconds
    groups = plan_groups(jobs, programs)
    control = _Control(should_stop)
    rung = _Rung(jobs, programs, on_epoch, save, control)
    outcomes: list[Outcome | None] = [None] * len(jobs)
    # First each group once, so that no worker waits while another compiles the
    # program that both need; then what is left, by then compiled.
    first, later = [], []
    for group in groups:
        head, *tail = rounds(group, jobs, programs.devices)
        first.append((group.shape, head))
        later += [(group.shape, chunks) for chunks in tail]
    with ThreadPoolExecutor(programs.workers) as pool:
        futures = {pool.submit(_train_fitting, rung, *task) for task in first + later}
        try:
            for future in as_completed(futures):
                futures.remove(future)
                for members, results in future.result().items():
                    for index, outcome in zip(members, results, strict=True):
                        outcomes[index] = outcome
                    if on_chunk:
                        on_chunk(members, results)
        except ProcessError:
            pool.shutdown(cancel_futures=True)  # nobody answers any more
            raise
        except BaseException:
            # Ctrl-C, or a worker failed: the others stop at their next epoch. Where
            # other processes wait for an answer, nothing is left unasked.
            control.halted.set()
            pool.shutdown(cancel_futures=jax.process_count() == 1)
            raise
    if control.halted.is_set():
        raise KeyboardInterrupt("another process was interrupted")
    programs.forget_orders()
    wall = (time.perf_counter() - begin) * programs.workers
    programs.account(waiting=wall - (programs.busy_seconds - busy))
    return outcomes


class _Control:
    """Whether to go on, which all processes have to answer alike."""

    STOP, SAVE, HALT = 1, 2, 4

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self._over = threading.Event()
        self.halted = threading.Event()  # this process is to end

    def ask(self, due: bool) -> int:
        """STOP if any process has to, with SAVE then or if one is due."""
        if self._over.is_set():
            return self.STOP | self.SAVE
        stop = self._should_stop()
        flags = stop * self.STOP | due * self.SAVE | self.halted.is_set() * self.HALT
        flags = processes.any_of(flags)
        if flags & self.HALT:
            # The others end too, but not before all of them have saved together.
            self.halted.set()
        if flags & (self.STOP | self.HALT):
            self._over.set()
            return self.STOP | self.SAVE
        return flags


class _Rung(NamedTuple):
    """What all programs of a rung share; the arguments of `train`."""

    jobs: Sequence[Job]
    programs: Programs
    on_epoch: Callable[[Sequence[float]], None]
    save: Callable[[Sequence[int], Sequence[Progress]], None] | None
    control: _Control


def _train_fitting(
    rung: _Rung, shape: Shape, chunks: Sequence[Chunk]
) -> dict[Chunk, list[Outcome]]:
    """`_train_chunks`, in a smaller program where the device's memory overflows."""
    try:
        jobs = {members: [rung.jobs[i] for i in members] for members in chunks}
        return _train_chunks(rung, shape, jobs)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        if jax.process_count() > 1:  # the others wait for this program as it is
            raise ProcessError(
                f"the devices of this process ran out of memory ({shape}), and it "
                "cannot go on without the others; a smaller data.resident_bytes or "
                "fewer candidates need less"
            ) from error
        patches = isinstance(shape, Exact) and shape.form == "im2col"
        if shape.lanes == 1 and not patches:
            raise
    if isinstance(shape, Exact) and shape.lanes == 1:
        return _train_fitting(rung, shape._replace(form="grouped"), chunks)
    # The device's memory does not hold so many lanes; half of them may fit.
    half = shape.lanes // 2
    smaller = shape._replace(lanes=half)
    first = _train_fitting(rung, smaller, [members[:half] for members in chunks])
    rest = [members[half:] for members in chunks if members[half:]]
    return first | (_train_fitting(rung, smaller, rest) if rest else {})


def _train_chunks(
    rung: _Rung, shape: Shape, chunks: Mapping[Chunk, Sequence[Job]]
) -> dict[Chunk, list[Outcome]]:
    """Outcomes of jobs, a chunk of them on each device; none if they were stopped."""
    programs = rung.programs
    jobs = [job for members in chunks.values() for job in members]
    resumed = common_progress(jobs)
    curves = _curves(resumed)
    before, epochs = len(curves), jobs[0].stop - jobs[0].start
    if before == epochs or _hopeless(curves):
        return _outcomes(chunks, resumed, 0, _executed(shape, programs, 0))
    if rung.control.ask(False) & _Control.STOP:
        return {}
    packed = _packed(chunks, resumed, shape)
    if len({signature(one) for one in packed}) > 1:
        # Patterns of other shapes need a program of their own.
        parts = [_train_chunks(rung, shape, {m: one}) for m, one in chunks.items()]
        return {m: one for part in parts for m, one in part.items()}
    program, state, settings = programs.get(shape, packed)
    begin = saved = time.perf_counter()  # compiling is not a network's own time
    spent = sum(one.seconds for one in resumed)

    def keep() -> list[Progress]:
        seconds = (spent + time.perf_counter() - begin) / len(jobs)
        blocks = programs.blocks(state)
        progress = _progress(chunks, blocks, shape, curves, seconds)
        if rung.save:
            for members, some in _by_chunk(chunks, progress).items():
                rung.save(members, some)
        return progress

    while len(curves) < epochs and not _hopeless(curves):
        due = time.perf_counter() - saved > under_way.SAVE_SECONDS
        flags = rung.control.ask(bool(rung.save) and due)
        if flags & _Control.SAVE and curves and rung.save:
            keep()
            saved = time.perf_counter()
        if flags & _Control.STOP:
            cut = _executed(shape, programs, len(curves) - before)
            programs.add_unused(cut, programs.devices)
            return {}
        epoch = jobs[0].start + len(curves)
        factor = np.float32(rate_factor(epoch, jobs[0].total))
        with programs.timed("training"):
            state = program.train(state, settings, factor, epoch)
        with programs.timed("evaluating"):
            metrics = program.evaluate(state, settings)
        real = [
            np.stack(block)[:, : len(members)]
            for block, members in zip(metrics, chunks, strict=False)
        ]
        curves.append(np.concatenate(real, axis=1))
        rung.on_epoch(curves[-1][1].tolist())
    final = keep()
    programs.add_run(shape, time.perf_counter() - begin, len(jobs))
    executed = _executed(shape, programs, len(curves) - before)
    # Devices without a chunk have computed all the same.
    programs.add_unused(executed, programs.devices - len(chunks))
    return _outcomes(chunks, final, len(curves) - before, executed)


def _by_chunk(chunks: Iterable[Chunk], items: Iterable[T]) -> dict[Chunk, list[T]]:
    """One item for each job, in the order of the chunks, as lists of their own."""
    rest = iter(items)
    return {members: list(itertools.islice(rest, len(members))) for members in chunks}


def _progress(
    chunks: Mapping[Chunk, Sequence[Job]],
    blocks: Sequence[Any],
    shape: Shape,
    curves: Sequence[np.ndarray],
    seconds: float,
) -> list[Progress]:
    """How far the jobs are, by the states of the devices and the curves so far."""
    history = np.stack(curves)  # [epochs, (validation loss, accuracy), jobs]
    unpack = engines.of(shape).unpack
    places = [
        (block, job, lane)
        for block, some in zip(blocks, chunks.values(), strict=False)
        for lane, job in enumerate(some)
    ]
    return [
        Progress(
            job.start,
            unpack(block, shape, job.architecture, lane),
            tuple(map(float, history[:, 0, number])),
            tuple(map(float, history[:, 1, number])),
            seconds,
        )
        for number, (block, job, lane) in enumerate(places)
    ]


def _outcomes(
    chunks: Mapping[Chunk, Sequence[Job]],
    progress: Sequence[Progress],
    epochs: int,
    executed: Executed,
) -> dict[Chunk, list[Outcome]]:
    """What became of jobs that are this far, after so many epochs in this call."""
    return _by_chunk(chunks, [_outcome(one, epochs, executed) for one in progress])


def _executed(shape: Shape, programs: Programs, epochs: int) -> Executed:
    lane: Architecture
    if isinstance(shape, Exact):
        lane = shape.network
    else:
        lane = MLP(programs.inputs, shape.hidden, programs.outputs)
    steps = epochs * (programs.rows // shape.batch_size)
    return Executed(
        shape.lanes,
        steps * step_work(lane, shape.batch_size).flops,
        epochs * inference_work(lane, programs.validation_rows).flops,
    )


def _curves(progress: Sequence[Progress]) -> list[np.ndarray]:
    """Validation losses and accuracies of the jobs, [2, jobs] for each epoch."""
    curves = [(one.val_loss, one.val_accuracy) for one in progress]
    return list(np.array(curves).transpose(2, 1, 0)) if curves else []


def _hopeless(curves: Sequence[np.ndarray]) -> bool:
    """Every network has diverged."""
    return bool(curves) and not np.isfinite(curves[-1][0]).any()


def _outcome(progress: Progress, epochs: int, executed: Executed) -> Outcome:
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


def _packed(
    chunks: Mapping[Chunk, Sequence[Job]], resumed: Sequence[Progress], shape: Shape
) -> list[tuple[Any, Any]]:
    """State and settings of each chunk, as the program of `shape` takes them."""
    engine = engines.of(shape)
    snapshots = [one.snapshot for one in resumed] or [
        job.snapshot or engines.fresh(job) for jobs in chunks.values() for job in jobs
    ]
    return [
        (engine.pack(some, shape), engine.settings(chunks[members], shape))
        for members, some in _by_chunk(chunks, snapshots).items()
    ]
