"""Several processes, on one machine or many, that make one search.

Every process is started with the same command. What differs is which one it is, and
that either the platform says (--distributed) or three flags do:

  python -m experiments.search \
      --coordinator_address=HOST:PORT --processes=2 --process_id=0
  python -m experiments.search \
      --coordinator_address=HOST:PORT --processes=2 --process_id=1
"""

import contextlib
import functools
import hashlib
import json
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any, NoReturn

import jax
from absl import flags

import dnc_jax
from dnc_jax.errors import InputError, ProcessError
from dnc_jax.training import processes

DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "This is one of several processes, and the platform says which: a TPU pod, SLURM, "
    "Open MPI, Kubernetes.",
)
COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, where nothing says it."
)
PROCESSES = flags.DEFINE_integer("processes", None, "How many there are.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one this is, from 0.")

LOST = 3  # exit code of a process whose search lost another one
_HEARTBEAT_SECONDS = 30  # after which a silent process counts as dead
_PATIENCE_SECONDS = 7 * 24 * 3600  # of the others, while process 0 trains the winner
_PARTING_SECONDS = 20  # what ends one process for all reaches them within these


def join(can_be_one_of_several: bool) -> None:
    """Finds the other processes of this search, if there are to be any.

    Raises:
      InputError: this launch file knows of one process only, some of the three flags
        are missing or make no sense, or the platform does not say what it should.
    """
    given = {
        "coordinator_address": COORDINATOR.value,
        "processes": PROCESSES.value,
        "process_id": PROCESS_ID.value,
    }
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given) and not DISTRIBUTED.value:
        return
    if not can_be_one_of_several:
        raise InputError(
            f"--distributed and --{', --'.join(given)} are for searches; this runs in "
            "one process"
        )
    if missing and not DISTRIBUTED.value:
        raise InputError(
            f"--{' and --'.join(missing)} must be given too, or --distributed instead "
            "of all three where the platform says them"
        )
    count, number = PROCESSES.value, PROCESS_ID.value
    if count is not None and number is not None and not 0 <= number < count:
        raise InputError(
            f"--process_id must lie in [0, {count}), got {number}: processes are "
            "counted from 0"
        )
    # Else JAX takes SIGTERM for itself, and a search would go on until it is killed.
    jax.config.update("jax_enable_preemption_service", False)
    # How processes on CPUs talk; other devices have their own ways.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            COORDINATOR.value,
            count,
            number,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_PATIENCE_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the processes do not find each other ({error}); see docs/pod.md"
        ) from error


def refuse_others(asked: Mapping[str, Any]) -> None:
    """What is asked for, as JSON has it, must be the same in every process.

    Raises:
      InputError: it is not.
    """
    versions = {"jax": jax.__version__, "dnc_jax": dnc_jax.__version__}
    text = json.dumps([asked, versions], sort_keys=True)
    if not processes.alike(hashlib.sha256(text.encode()).digest()):
        raise InputError(
            "the processes were started with different configs, flags or versions; "
            "start all of them with the same command and the same installation"
        )


def leave(error: ProcessError) -> NoReturn:
    """Ends this process at once: an orderly end would wait for the dead one."""
    print(f"error: {error}", file=sys.stderr)
    _stop(LOST)


def wait() -> None:
    """Waits until all processes have ended their work, and hears signals meanwhile."""
    if jax.distributed.is_initialized():
        parting = _parting()
        while parting.is_alive():
            parting.join(1.0)


def end(code: int) -> NoReturn:
    """Ends this process, whose work has failed; of several, after the others or alone.

    An orderly end waits for all of them, which may be waiting for this one.
    """
    if jax.distributed.is_initialized():
        parting = _parting()
        with contextlib.suppress(KeyboardInterrupt):  # a second one: at once
            parting.join(_PARTING_SECONDS)
        if parting.is_alive():
            _stop(code)
    sys.exit(code)


@functools.cache  # a second shutdown beside the first aborts
def _parting() -> threading.Thread:
    """The thread in which this process meets the others to part."""

    def part() -> None:
        with contextlib.suppress(RuntimeError):  # one of the others has ended already
            jax.distributed.shutdown()

    thread = threading.Thread(target=part, daemon=True)
    thread.start()
    return thread


def _stop(code: int) -> NoReturn:
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream and not stream.closed:
                stream.flush()
    finally:
        os._exit(code)  # also where nothing can be written
