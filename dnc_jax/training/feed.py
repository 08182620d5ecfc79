"""Rows on their way to the programs: all on the device, or streamed to it."""

import contextlib
import math
import os
import pathlib
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnc_jax.footprint.complexity import EVALUATION_BATCH
from dnc_jax.training.data import Dataset, Split
from dnc_jax.training.goals import Goal
from dnc_jax.training.rows import FileRows, taken
from dnc_jax.typing import Array

VALIDATION_SHARE = 0.25  # of the bytes that training rows may take
_ORDER_BYTES = 2**26  # of orders of epochs that are kept for the next networks

# Bytes that a container may have, by version 2 and version 1 of Linux's cgroups.
_CONTAINER_LIMITS = (
    pathlib.Path("/sys/fs/cgroup/memory.max"),
    pathlib.Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class Segment(NamedTuple):
    """A part of an epoch, as `each_batch` takes it.

    Attributes:
      steps: batches in it.
      order: [N] int32, the rows to visit; or [] int32, `steps`, where `rows` lie in the
        order of the epoch.
      rows: on the device.
    """

    steps: int
    order: Any
    rows: Split


class Feed:
    """Rows of a split, once or epoch by epoch in an order that all networks share.

    Rows that fit lie on the device, and an epoch is one segment. Others stay where they
    are, in memory or in files, and a thread gathers the next segment while the one
    before is used: batches are the same. Thread-safe.

    Args:
      rows: on the host.
      limit_bytes: of rows that may lie on the device at a time, see `limit`.
      order: the order of an epoch by its number, [N] int32; needed for `epoch`.
      readers: programs that run at a time, each with segments of its own.
      place: puts arrays where programs find them.

    Attributes:
      streamed: whether the rows are more than that.
      count: of all rows.
    """

    def __init__(
        self,
        rows: Split,
        limit_bytes: float,
        order: Callable[[int], jax.Array] = jnp.arange,
        readers: int = 1,
        place: Callable[[Any], Any] = jax.device_put,
    ) -> None:
        self._bytes = sum(part.nbytes for part in rows)
        self.streamed = self._bytes > limit_bytes
        self.count = len(rows.y)
        self._targets = rows.y  # on the host
        self._references: dict[Callable[[np.ndarray], Any], Any] = {}
        self._order, self._place = order, place
        self._rows = rows
        if not self.streamed:
            x = np.asarray(rows.x) if isinstance(rows.x, FileRows) else rows.x
            self._rows = place(Split(x, rows.y))
        # Of each reader's share, one half trains while the other is gathered.
        self._segment_bytes = limit_bytes / readers / 2
        self._orders: dict[int, Any] = {}  # the last used is last
        self._most_orders = max(readers, _ORDER_BYTES // (4 * self.count))
        self._lock = threading.Lock()

    def reference(self, goal: Goal) -> Any:
        """What the goal has to know of all targets; found out at the first call."""
        if goal.reference not in self._references:
            found = goal.reference(np.asarray(self._targets))
            self._references[goal.reference] = found
        return self._references[goal.reference]

    def epoch(self, number: int, batch_size: int) -> Generator[Segment, None, None]:
        """The segments of an epoch in their order; one after another is held."""
        order = self._ordered(number)
        steps = len(order) // batch_size
        if not self.streamed:
            yield Segment(steps, order, self._rows)
            return
        for count, part in self._stream(order[: steps * batch_size], batch_size):
            yield Segment(count // batch_size, np.int32(count // batch_size), part)

    def once(self) -> Generator[tuple[np.int32, Split], None, None]:
        """All rows in their order: parts of one shape, and how many rows are real."""
        if not self.streamed:
            yield np.int32(self.count), self._rows
            return
        for count, part in self._stream(np.arange(self.count), EVALUATION_BATCH):
            yield np.int32(count), part

    def _stream(self, order: np.ndarray, unit: int) -> Generator[Any, None, None]:
        """These rows in parts of so many units, and how many of a part are real."""
        size = self._segment_units(-(-len(order) // unit), unit) * unit

        def gather(start: int) -> tuple[int, Split]:
            rows = order[start : start + size]
            # All parts have one shape; what fills up the last is not visited.
            padded = np.pad(rows, (0, size - len(rows)))
            part = Split(*(taken(column, padded) for column in self._rows))
            return len(rows), jax.block_until_ready(self._place(part))

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(gather, 0)
            for start in range(size, len(order) + size, size):
                part = coming.result()
                if start < len(order):
                    coming = pool.submit(gather, start)
                yield part

    def forget(self) -> None:
        """Frees the orders of epochs."""
        with self._lock:
            self._orders.clear()

    def _ordered(self, number: int) -> Any:
        with self._lock:
            order = self._orders.pop(number, None)
            if order is None:
                order = self._order(number)
                order = np.asarray(order) if self.streamed else self._place(order)
            self._orders[number] = order
            if len(self._orders) > self._most_orders:
                del self._orders[next(iter(self._orders))]
            return order

    def _segment_units(self, units: int, unit: int) -> int:
        """Of parts as large as they may be, and about equally large."""
        of_unit = self._bytes / self.count * unit
        most = max(1, int(self._segment_bytes / of_unit))
        return -(-units // -(-units // most))


def of(
    data: Dataset,
    limit_bytes: float,
    order: Callable[[int], jax.Array],
    readers: int = 1,
    place: Callable[[Any], Any] = jax.device_put,
) -> tuple[Feed, Feed]:
    """Training rows, and validation rows within their share of the bytes.

    Args:
      data: whose rows they are.
      limit_bytes: of training rows that may lie on the device at a time, see `limit`.
      order, readers, place: as of `Feed`.
    """
    training = Feed(data.train, limit_bytes, order, readers, place)
    return training, Feed(
        data.validation, VALIDATION_SHARE * limit_bytes, jnp.arange, readers, place
    )


def limit(data: Dataset) -> float:
    """Bytes of training rows that may lie on this process's device at a time.

    What the data set asks for, or half of the device's free memory.
    """
    return float(data.resident_bytes) or 0.5 * free_bytes()


def free_bytes() -> float:
    """Of the device's memory, what nobody uses yet.

    Of a CPU's all that this process may have, used or not: what the machine has, or
    the container where that allows less; infinite where the system does not tell.
    """
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return float(statistics["bytes_limit"] - statistics["bytes_in_use"])
    limits = [math.inf]
    if hasattr(os, "sysconf"):
        limits.append(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    for file in _CONTAINER_LIMITS:
        # No container of this kind, or "max", which is no number.
        with contextlib.suppress(OSError, ValueError):
            limits.append(float(int(file.read_text())))
    return min(limits)


def each_batch(
    step: Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array]],
    state: Any,
    order: Array,
    rows: Split,
    batch_size: int,
) -> tuple[Any, jax.Array]:
    """Takes `step(state, x, y)`, which returns a state and a number, for every batch.

    Rows beyond the last full batch are left out.

    Returns:
      The last state and the mean of the numbers.
    """
    if np.ndim(order):
        steps = order.shape[0] // batch_size
        batches = jnp.asarray(order[: steps * batch_size]).reshape(steps, batch_size)
        state, values = lax.scan(
            lambda state, batch: step(state, rows.x[batch], rows.y[batch]),
            state,
            batches,
        )
        return state, values.mean()

    def body(number: jax.Array, carry: tuple[Any, jax.Array]) -> Any:
        state, total = carry
        start = number * batch_size
        x, y = (lax.dynamic_slice_in_dim(part, start, batch_size) for part in rows)
        state, value = step(state, x, y)
        return state, total + value

    state, total = lax.fori_loop(0, order, body, (state, jnp.float32(0)))
    return state, total / order
