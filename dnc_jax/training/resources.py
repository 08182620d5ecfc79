"""What a search may use of this machine: devices, programs at a time, memory."""

import contextlib
import math
import os
import pathlib
from typing import NamedTuple

import jax

from dnc_jax.training import costs, feed
from dnc_jax.training.data import Dataset

# Microseconds of processor time in each period, and the period, by version 2 and
# version 1 of Linux's cgroups.
_QUOTAS = (
    (pathlib.Path("/sys/fs/cgroup/cpu.max"),),
    (
        pathlib.Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
        pathlib.Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ),
)


class Resources(NamedTuple):
    """What the programs of one search may use.

    Attributes:
      devices: that each program runs on, with networks of its own on each.
      workers: programs that run at a time.
      row_bytes: of training rows that may lie on a device at a time.
      program_bytes: of a device's memory, for the networks of one program.
    """

    devices: int
    workers: int
    row_bytes: float
    program_bytes: float

    def workload(self, data: Dataset, epochs: float) -> costs.Workload:
        """What a plan has to know of this data, of so many epochs and this machine."""
        return costs.Workload(
            data.inputs,
            data.outputs,
            data.rows[0],
            epochs,
            accelerator=jax.default_backend() != "cpu",
            memory_bytes=self.program_bytes,
            devices=self.devices,
        )


def of(data: Dataset, devices: int = 1) -> Resources:
    """Those of a search over `data`, as this process sees them.

    Of a CPU's memory, half is left to others; an accelerator's holds the rows too.
    """
    programs = workers(devices)
    row_bytes, free_bytes = feed.limit(data), feed.free_bytes()
    rows = sum(
        min(most, sum(part.nbytes for part in split))
        for split, most in (
            (data.train, row_bytes),
            (data.validation, feed.VALIDATION_SHARE * row_bytes),
        )
    )
    cpu = jax.default_backend() == "cpu"
    usable = 0.5 * free_bytes if cpu else 0.9 * free_bytes - rows
    return Resources(devices, programs, row_bytes, usable / programs)


def workers(devices: int = 1) -> int:
    """Programs that run at a time.

    XLA keeps about one core busy with networks of this size, so on a CPU as many
    programs run as there are cores; an accelerator runs one after another, and so do
    several devices.
    """
    return cores() if jax.default_backend() == "cpu" and devices == 1 else 1


def cost_model() -> costs.CostModel:
    """Constants of a machine that was not measured: the model's, but for its cores."""
    return costs.CostModel(workers=workers())


def cores() -> int:
    """Cores that this process may use, where the system tells; else all.

    A container's share of their time counts as so many cores, rounded up.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    for files in _QUOTAS:
        # No container of this kind, or "max" or -1, which is no limit.
        with contextlib.suppress(OSError, ValueError):
            text = " ".join(file.read_text() for file in files)
            quota, period = map(int, text.split())
            if quota > 0:
                count = min(count, math.ceil(quota / period))
    return count
