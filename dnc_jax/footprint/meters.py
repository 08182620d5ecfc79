"""Energy by the machine's own counters: read while work runs, never guessed.

A counter counts joules since some moment in the past. On Linux the processor's are
those of powercap (RAPL): packages and memory, and never `psys`, which contains the
package. They wrap around, at 200 W after about 22 minutes, so a meter reads them every
half minute.
"""

import pathlib
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax

from dnc_jax.footprint.records import Energy, Part

POWERCAP = pathlib.Path("/sys/class/powercap")
_INTERVAL_SECONDS = 30.0
_MAX_WATTS = 5000.0  # of one counter: beyond that it did not wrap but was reset


class CounterError(Exception):
    """A counter cannot be read; the message says which, why and what would help."""


@runtime_checkable
class Counter(Protocol):
    """A source of cumulative joules."""

    name: str
    range_joules: float  # at which it starts again from 0

    def read(self) -> float:
        """Joules so far.

        Raises:
          CounterError: it cannot be read (any more).
        """
        ...


class Rapl:
    """One powercap zone: a processor package, or the memory of one.

    Args:
      zone: the folder that holds `name`, `energy_uj` and `max_energy_range_uj`.

    Raises:
      CounterError: the zone cannot be read.
    """

    def __init__(self, zone: pathlib.Path) -> None:
        self._zone = zone
        self.name = f"{_text(zone / 'name')} ({zone.name})"
        self.range_joules = _microjoules(zone / "max_energy_range_uj")
        self.read()

    def read(self) -> float:
        """Joules since the counter last wrapped."""
        return _microjoules(self._zone / "energy_uj")


class Found(NamedTuple):
    """Counters of this machine, and if there are none, why."""

    counters: tuple[Counter, ...]
    reason: str | None


def find(root: pathlib.Path = POWERCAP) -> Found:
    """The counters that together cover what this process computes on.

    Args:
      root: the powercap folder.

    Returns:
      Packages and memory of all processors; none, with a reason, where one of them is
      missing or unreadable or the work is done on an accelerator, because part of an
      energy is not an energy.
    """
    backend = jax.default_backend()
    if backend != "cpu":
        return Found((), f"the energy of the {backend} is not read yet")
    zones = sorted(root.glob("intel-rapl:*")) if root.is_dir() else []
    if not zones:
        return Found((), f"no RAPL zones in {root}")
    try:
        names = {zone: _text(zone / "name") for zone in zones}
        counters = tuple(
            Rapl(zone)
            for zone, name in names.items()
            if name.startswith("package") or name == "dram"
        )
    except CounterError as error:
        return Found((), str(error))
    if not counters:
        return Found((), f"{root} lists no package, only {sorted(names.values())}")
    return Found(counters, None)


class Meter:
    """Counts energy from entering to leaving a `with` block.

    A counter that fails meanwhile makes the record unavailable, not the work.

      with Meter(find()) as meter:
          jax.block_until_ready(work())  # JAX returns before it has computed
      print(meter.energy().joules)

    Args:
      found: the counters to read.
      interval_seconds: between readings; shorter than any counter takes to wrap.
    """

    def __init__(
        self, found: Found, interval_seconds: float = _INTERVAL_SECONDS
    ) -> None:
        self._found = found
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._last: dict[str, tuple[float, float]] = {}  # seconds, joules
        self._joules: dict[str, float] = {}
        self._failure: str | None = found.reason
        self._begin = self._begin_cpu = 0.0
        self._seconds = self._cpu_seconds = 0.0
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> "Meter":
        self._begin, self._begin_cpu = time.perf_counter(), time.process_time()
        self._read()
        if self._found.counters:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._read()

    def energy(self, flops: int | None = None) -> Energy:
        """The record up to the last reading; `flops` is passed on to it."""
        with self._lock:
            parts = tuple(Part(name, value) for name, value in self._joules.items())
            return Energy(
                joules=None if self._failure else sum(part.joules for part in parts),
                kind="unavailable" if self._failure else "measured",
                reason=self._failure,
                parts=parts,
                seconds=self._seconds,
                cpu_seconds=self._cpu_seconds,
                flops=flops,
            )

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
            seconds, before = self._last.get(counter.name, (self._seconds, now))
            grown = now - before
            if grown < 0:  # wrapped around
                grown += counter.range_joules
            if grown > _MAX_WATTS * (1 + self._seconds - seconds):
                raise CounterError(
                    f"{counter.name} went from {before:.0f} J to {now:.0f} J, which "
                    "no wrap explains"
                )
            self._joules[counter.name] = self._joules.get(counter.name, 0.0) + grown
            self._last[counter.name] = (self._seconds, now)


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError as error:
        raise CounterError(
            f"{path} may be read by root only; `sudo chmod -R a+r {path.parent}` "
            "allows it until the next start of the machine"
        ) from error
    except OSError as error:
        raise CounterError(f"{path} cannot be read: {error.strerror}") from error


def _microjoules(path: pathlib.Path) -> float:
    text = _text(path)
    try:
        return int(text) / 1e6
    except ValueError as error:
        raise CounterError(f"{path} holds {text!r}, not a number") from error
