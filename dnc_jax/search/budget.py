"""Caps on what a search takes; it ends at the first of them with the best so far."""

import dataclasses
import math
import threading
import time

from dnc_jax.errors import InputError, check_amounts, check_whole
from dnc_jax.footprint import Meter
from dnc_jax.footprint.carbon import Grid
from dnc_jax.search.forecast import Forecast, Interval

CAPS = ("seconds", "watt_hours", "grams_co2e", "candidate_epochs")
_JOULES_PER_WATT_HOUR = 3600.0
_UNITS = {"watt_hours": "Wh", "grams_co2e": "g"}
_READ_SECONDS = 1.0  # a reading is quick, but every worker asks after every epoch


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a search may take at most; 0 is no cap.

    Seconds, watt hours and grams end a search after the epoch in which they are
    reached, and are exceeded by about that epoch. Candidate-epochs are known before, so
    a rung that would exceed them is not begun.

    Attributes:
      seconds: wall clock of this run.
      watt_hours: of this run, as counted, or as estimated where the user asked for
        that.
      grams_co2e: of this run; needs `grid`.
      candidate_epochs: that the search asks for, those included that an earlier run, or
        the search of a `prior`, has trained.
      grid: where the electricity comes from.

    Raises:
      InputError: a negative or infinite cap, or grams without a grid.
    """

    seconds: float = 0.0
    watt_hours: float = 0.0
    grams_co2e: float = 0.0
    candidate_epochs: int = 0
    grid: Grid | None = None

    def __post_init__(self) -> None:
        check_amounts(**{name: getattr(self, name) for name in CAPS})
        check_whole(0, candidate_epochs=self.candidate_epochs)
        if self.grams_co2e and not isinstance(self.grid, Grid):
            raise InputError(
                "grams_co2e needs a grid, as carbon.grid has it by region, such as FR, "
                "or intensity, in grams a kWh"
            )

    @property
    def joules(self) -> dict[str, float]:
        """The caps on energy, in joules, by name."""
        caps = {}
        if self.watt_hours:
            caps["watt_hours"] = self.watt_hours * _JOULES_PER_WATT_HOUR
        if self.grams_co2e and self.grid:
            per_joule = self.grid.grams(1.0)
            caps["grams_co2e"] = self.grams_co2e / per_joule if per_joule else math.inf
        return caps

    def check_counted(self, meter: Meter | None) -> None:
        """Whether capped energy is counted.

        Raises:
          InputError: it is not; it says why, and how to estimate it.
        """
        if self.joules and (meter is None or not meter.available):
            why = meter.energy().reason if meter else "no meter was given"
            raise InputError(
                f"budget.{next(iter(self.joules))}: the energy is not counted here "
                f"({why}); assumed watts estimate it: Assumed in Python, "
                "energy.tdp_watts in a config"
            )

    def check(self, forecast: Forecast) -> None:
        """Whether the first rung can end within the budget.

        Raises:
          InputError: it cannot, by the more hopeful end of its forecast; the message
            has the estimate.
        """
        first, joules = forecast.first_rung, forecast.first_rung_joules
        ends = [
            ("candidate_epochs", self.candidate_epochs, first.candidate_epochs, ""),
            ("seconds", self.seconds, first.seconds.low, f"{first.seconds} s"),
        ]
        for name, cap in self.joules.items():
            if joules:
                given, unit = getattr(self, name), _UNITS[name]
                estimate = Interval(*(given * (one / cap) for one in joules))
                ends.append((name, given, estimate.low, f"{estimate} {unit}"))
        for name, cap, least, estimate in ends:
            if cap and least > cap:
                estimate = estimate or f"{least} candidate-epochs"
                raise InputError(
                    f"budget.{name} = {getattr(self, name):g} ends before the first "
                    f"rung, which takes about {estimate}; allow more, or fewer "
                    "candidates"
                )


class Spending:
    """A budget while it is spent; the clock runs from here.

    Args:
      budget: the caps.
      meter: counts the energy; already entered.

    Raises:
      InputError: energy is capped and nothing counts it.
    """

    def __init__(self, budget: Budget, meter: Meter | None) -> None:
        self._budget, self._meter = budget, meter
        self._begin = self._read = time.perf_counter()
        self._joules, self._watts = 0.0, 0.0
        self._lock = threading.Lock()
        budget.check_counted(meter)
        if budget.joules:
            self._start = (meter.now().joules or 0.0) if meter else 0.0

    def reached(self) -> str | None:
        """The cap that has been reached, by name; thread-safe."""
        now = time.perf_counter()
        if self._budget.seconds and now - self._begin >= self._budget.seconds:
            return "seconds"
        if not self._budget.joules:
            return None
        joules = self._spent(now)
        for name, cap in self._budget.joules.items():
            if joules >= cap:
                return name
        return None

    def exceeded_by(self, candidate_epochs: int) -> bool:
        """Whether so many candidate-epochs in all are too many."""
        return 0 < self._budget.candidate_epochs < candidate_epochs

    def _spent(self, now: float) -> float:
        """Joules so far; by the last known power after a counter has failed."""
        with self._lock:
            if self._meter and now - self._read >= _READ_SECONDS:
                energy = self._meter.now()
                if energy.joules is None:
                    self._joules += self._watts * (now - self._read)
                else:
                    self._joules = energy.joules - self._start
                    self._watts = self._joules / max(now - self._begin, 1e-9)
                self._read = now
            return self._joules
