"""Energy by the machine's own counters: read while work runs, never guessed.

RAPL counters wrap around, at 200 W after about 22 minutes, so a meter reads them every
half minute. An assumed power stands in for what has no counter, only when asked.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dnc_jax.errors import InputError, check_amounts
from dnc_jax.footprint import locks
from dnc_jax.footprint.counters import Counter, CounterError, Found
from dnc_jax.footprint.records import Assumed, Energy, Part, worst

_INTERVAL_SECONDS = 30.0
_MAX_WATTS = 5000.0  # of one counter: beyond that it did not wrap but was reset


class Meter:
    """Counts energy from entering to leaving a `with` block, one for each meter.

    A counter that fails meanwhile makes the record unavailable, not the work. A counter
    counts all that runs on its device, whoever runs it; of two processes on a machine
    the one that came first has it, and the other's record is unavailable.

      with Meter(find()) as meter:
          jax.block_until_ready(work())  # JAX returns before it has computed
      print(meter.energy().joules)

    Args:
      found: the counters to read.
      interval_seconds: between readings; shorter than any counter takes to wrap.
      idle_seconds: to wait before and after the block, outside of its record, and
        count what the machine takes doing nothing; 0 does not.
      assumed: power of what has no counter, where that is to be estimated.

    Raises:
      InputError: negative seconds.
      RuntimeError: from a second `with`; what it has counted would be lost.
    """

    def __init__(
        self,
        found: Found,
        interval_seconds: float = _INTERVAL_SECONDS,
        idle_seconds: float = 0.0,
        assumed: Assumed | None = None,
    ) -> None:
        if not 0 < interval_seconds < math.inf:
            raise InputError(
                f"interval_seconds must be seconds > 0, got {interval_seconds}"
            )
        check_amounts(idle_seconds=idle_seconds)
        self._found = found
        self._interval_seconds = interval_seconds
        self._idle_seconds = idle_seconds
        self._assumed = assumed
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._last: dict[str, _Reading] = {}
        self._joules: dict[str, float] = {}
        self._failure: str | None = None
        self._held: list[str] = []
        self._idle_watts: list[float] = []
        self._entered = False
        self._begin = self._begin_cpu = 0.0
        self._seconds = self._cpu_seconds = 0.0
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> "Meter":
        if self._entered:
            raise RuntimeError("a meter counts one stretch of work; make another one")
        self._entered = True
        for counter in self._found.counters:
            try:
                alone = locks.acquire(counter.device)
            except OSError as error:
                self._failure = f"{counter.name} cannot be locked: {error}"
                continue
            if alone:
                self._held.append(counter.device)
            else:
                self._failure = (
                    f"another process of this machine counts {counter.name}, and this "
                    "one's energy is in its record"
                )
        self._begin, self._begin_cpu = time.perf_counter(), time.process_time()
        # An accelerator whose context is open takes more than one that sleeps.
        jax.block_until_ready(jnp.zeros(()))
        try:
            self._read_idle()
        except BaseException:  # Ctrl-C while it waits
            self._release()
            raise
        self._begin, self._begin_cpu = time.perf_counter(), time.process_time()
        self._last, self._joules = {}, {}
        self._read()
        if self._found.counters and not self._failure:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._read()
        record = dict(self._joules), self._seconds, self._cpu_seconds, self._failure
        try:
            if error[0] is None:
                self._read_idle()
        finally:
            self._joules, self._seconds, self._cpu_seconds, self._failure = record
            self._release()

    def _release(self) -> None:
        for device in self._held:
            locks.release(device)
        self._held.clear()

    @property
    def available(self) -> bool:
        """Whether the record will have joules, as far as one knows."""
        counted = self._found.counters or self._assumed
        return bool(counted) and not self._failure

    def energy(self, flops: int | None = None) -> Energy:
        """The record up to the last reading; `flops` is passed on to it."""
        with self._lock:
            return self._energy(flops)

    def now(self) -> Energy:
        """The record up to this moment."""
        self._read()
        return self.energy()

    def joules(self) -> float:
        """Counted or estimated up to this moment.

        Raises:
          CounterError: a counter has failed.
        """
        energy = self.now()
        if energy.joules is None:
            raise CounterError(energy.reason or "no counter")
        return energy.joules

    def _energy(self, flops: int | None) -> Energy:
        parts = [Part(name, value) for name, value in self._joules.items()]
        counted = sum(part.joules for part in parts)
        band, missing = None, self._found.missing
        if self._assumed and (missing or not self._found.counters):
            assumed = self._assumed.watts * self._seconds
            parts.append(Part(_name(self._assumed), assumed, "estimated"))
            low, high = self._assumed.band_watts
            band = (counted + low * self._seconds, counted + high * self._seconds)
            missing = ()
        failure = self._failure
        if not parts:
            failure = failure or self._found.reason or "nothing was counted yet"
        joules = None if failure else sum(part.joules for part in parts)
        idle_watts = dynamic = None
        if self._idle_watts and joules is not None and not band:
            idle_watts = sum(self._idle_watts) / len(self._idle_watts)
            dynamic = joules - idle_watts * self._seconds
        return Energy(
            joules=joules,
            kind=worst(["unavailable"] if failure else [part.kind for part in parts]),
            reason=failure,
            parts=tuple(parts),
            seconds=self._seconds,
            cpu_seconds=self._cpu_seconds,
            flops=flops,
            measured_fraction=counted / joules if joules else None,
            band_joules=None if failure else band,
            idle_watts=idle_watts,
            dynamic_joules=dynamic,
            missing=missing,
        )

    def _read_idle(self) -> None:
        if not (self._idle_seconds and self._found.counters) or self._failure:
            return
        self._read()
        before, begin = sum(self._joules.values()), self._seconds
        time.sleep(self._idle_seconds)
        self._read()
        if not self._failure:
            grown = sum(self._joules.values()) - before
            self._idle_watts.append(grown / (self._seconds - begin))

    def _poll(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            self._read()

    def _read(self) -> None:
        with self._lock:
            self._seconds = time.perf_counter() - self._begin
            self._cpu_seconds = time.process_time() - self._begin_cpu
            if self._failure:
                return
            try:
                self._add([(c, c.read()) for c in self._found.counters])
            except CounterError as error:
                self._failure = f"{error} (after {self._seconds:.0f} s)"

    def _add(self, readings: Sequence[tuple[Counter, float]]) -> None:
        for counter, now in readings:
            last = self._last.get(counter.name, _Reading(self._seconds, now))
            grown = now - last.joules
            if grown < 0:  # wrapped around
                grown += counter.range_joules
            if grown > _MAX_WATTS * (1 + self._seconds - last.seconds):
                raise CounterError(
                    f"{counter.name} went from {last.joules:.0f} J to {now:.0f} J, "
                    "which no wrap explains"
                )
            self._joules[counter.name] = self._joules.get(counter.name, 0.0) + grown
            self._last[counter.name] = _Reading(self._seconds, now)


class _Reading(NamedTuple):
    seconds: float
    joules: float


def measure(
    found: Found, work: Callable[..., Any], *arguments: Any
) -> tuple[Any, Energy]:
    """The outputs of `work(*arguments)` and the energy until they are computed.

    It waits for the outputs themselves: `jax.effects_barrier` does not wait for a
    jitted call.
    """
    with Meter(found) as meter:
        outputs = jax.block_until_ready(work(*arguments))
    return outputs, meter.energy()


def _name(assumed: Assumed) -> str:
    return f"assumed {assumed.utilisation:.0%} of {assumed.tdp_watts:g} W"
