"""Who took the energy of a search: the shares of its trials, and overhead's."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from dnc_jax.footprint import Energy, Meter
from dnc_jax.footprint.attribution import MICROJOULES, Lane, attribute
from dnc_jax.footprint.records import Kind, worst
from dnc_jax.training.jobs import Outcome
from dnc_jax.training.programs import Programs


class Attribution(NamedTuple):
    """The energy of a search, divided; the parts sum to the whole.

    Attributes:
      kind: "modelled", or worse where the whole is; "unavailable" where some of it is.
      joules: of the search; None where unavailable.
      trials_joules: of training the candidates.
      overhead_joules: of compiling, validation, dead lanes, what was cut off, and what
        lies between the rungs.
      compiling: share of the workers' time.
    """

    kind: Kind
    joules: float | None
    trials_joules: float | None
    overhead_joules: float | None
    compiling: float


class Ledger:
    """Divides the energy of each rung among the networks that it trained.

    Args:
      meter: of the search, already entered; None divides nothing.
      programs: of the search.
    """

    def __init__(self, meter: Meter | None, programs: Programs) -> None:
        self._meter, self._programs = meter, programs
        self._start = meter.now() if meter else None
        self._trials = 0
        self._worker_seconds = self._compile_seconds = 0.0

    def begin(self) -> None:
        """A rung begins."""
        self._lanes: list[Lane] = []
        self._evaluation_flops = 0
        self._seconds_before = time.perf_counter()
        self._compiled_before = self._programs.worker_compile_seconds
        self._before = self._meter.now() if self._meter else None

    def chunk(self, members: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        """Networks have been trained side by side, as lanes of one program."""
        executed = outcomes[0].executed
        if not executed.training_flops:  # an earlier run had finished them
            return
        dead = executed.lanes - len(outcomes)
        self._lanes += [Lane(member, executed.training_flops) for member in members]
        self._lanes += [Lane(None, executed.training_flops)] * dead
        self._evaluation_flops += executed.lanes * executed.evaluation_flops

    def end(self) -> dict[Any, float]:
        """A rung has ended.

        Returns:
          Joules of each member that was trained in it; empty where there is no energy.
        """
        for executed in self._programs.take_unused():
            self._lanes += [Lane(None, executed.training_flops)] * executed.lanes
            self._evaluation_flops += executed.lanes * executed.evaluation_flops
        seconds = time.perf_counter() - self._seconds_before
        compiled = self._programs.worker_compile_seconds - self._compiled_before
        self._worker_seconds += seconds * self._programs.workers
        self._compile_seconds += compiled
        compiling = min(compiled / (seconds * self._programs.workers), 1.0)
        if self._before is None or self._meter is None:
            return {}
        after = self._meter.now()
        joules = _grown(self._before, after)
        if joules is None:
            return {}
        shares = attribute(
            joules,
            self._lanes,
            idle_joules=(after.idle_watts or 0.0)
            * (after.seconds - self._before.seconds),
            compiling=compiling,
            overhead_flops=self._evaluation_flops,
        )
        self._trials += sum(round(j * MICROJOULES) for j in shares.joules.values())
        return shares.joules

    def attribution(self) -> Attribution:
        """Of the search so far; what no trial has taken is overhead."""
        compiling = self._compile_seconds / (self._worker_seconds or 1.0)
        joules: float | None = None
        kind: Kind = "unavailable"
        if self._meter and self._start:
            now = self._meter.now()
            joules, kind = _grown(self._start, now), now.kind
        if joules is None:
            return Attribution("unavailable", None, None, None, compiling)
        total = round(joules * MICROJOULES)
        return Attribution(
            worst([kind, "modelled"]),
            total / MICROJOULES,
            self._trials / MICROJOULES,
            (total - self._trials) / MICROJOULES,
            compiling,
        )


def _grown(before: Energy, after: Energy) -> float | None:
    if before.joules is None or after.joules is None:
        return None
    return max(after.joules - before.joules, 0.0)
