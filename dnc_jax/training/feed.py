"""Training rows on their way to the programs: all on the device, or streamed to it."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnc_jax.training.data import Dataset, Split
from dnc_jax.typing import Array


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
    """Training rows, epoch by epoch, in an order that all networks share.

    Rows that fit lie on the device, and an epoch is one segment. Others stay on the
    host, and a thread gathers the next segment while the one before trains: batches are
    the same. Thread-safe.

    Args:
      rows: on the host.
      order: the order of an epoch by its number, [N] int32.
      limit_bytes: of rows that may lie on the device at a time, see `limit`.
      readers: programs that run at a time, each with segments of its own.
      place: puts arrays where programs find them.

    Attributes:
      streamed: whether the rows are more than that.
    """

    def __init__(
        self,
        rows: Split,
        order: Callable[[int], jax.Array],
        limit_bytes: float,
        readers: int = 1,
        place: Callable[[Any], Any] = jax.device_put,
    ) -> None:
        self._bytes = sum(np.asarray(part).nbytes for part in rows)
        self.streamed = self._bytes > limit_bytes
        self._order, self._place = order, place
        self._rows = rows if self.streamed else place(rows)
        # Of each reader's share, one half trains while the other is gathered.
        self._segment_bytes = limit_bytes / readers / 2
        self._orders: dict[int, Any] = {}
        self._lock = threading.Lock()

    def epoch(self, number: int, batch_size: int) -> Generator[Segment, None, None]:
        """The segments of an epoch in their order; one after another is held."""
        order = self._ordered(number)
        steps = len(order) // batch_size
        if not self.streamed:
            yield Segment(steps, order, self._rows)
            return
        size = self._segment_steps(steps, batch_size)

        def gather(start: int) -> Segment:
            rows = order[start * batch_size : (start + size) * batch_size]
            count = min(size, steps - start)
            # All segments have one shape; what fills up the last is not visited.
            rows = np.pad(rows[: count * batch_size], (0, (size - count) * batch_size))
            part = Split(*(np.asarray(column)[rows] for column in self._rows))
            placed = jax.block_until_ready(self._place(part))
            return Segment(count, np.int32(count), placed)

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(gather, 0)
            for start in range(size, steps + size, size):
                segment = coming.result()
                if start < steps:
                    coming = pool.submit(gather, start)
                yield segment

    def forget(self) -> None:
        """Frees the orders of epochs."""
        with self._lock:
            self._orders.clear()

    def _ordered(self, number: int) -> Any:
        with self._lock:
            if number not in self._orders:
                order = self._order(number)
                self._orders[number] = (
                    np.asarray(order) if self.streamed else self._place(order)
                )
            return self._orders[number]

    def _segment_steps(self, steps: int, batch_size: int) -> int:
        """Of segments as large as they may be, and about equally large."""
        of_batch = self._bytes / len(self._rows.y) * batch_size
        most = max(1, int(self._segment_bytes / of_batch))
        return -(-steps // -(-steps // most))


def limit(data: Dataset) -> float:
    """Bytes of training rows that may lie on this process's device at a time.

    What the data set asks for, or half of an accelerator's free memory. On a CPU rows
    lie in the host's memory as it is.
    """
    if data.resident_bytes:
        return float(data.resident_bytes)
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in statistics:
        return float("inf")
    return 0.5 * (statistics["bytes_limit"] - statistics["bytes_in_use"])


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
