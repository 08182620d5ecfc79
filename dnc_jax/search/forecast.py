"""What a search will probably take, said before it starts and scored at its end.

A strategy is pure, so a search can be rehearsed: asked for its rungs, told made-up
scores, and each rung planned and priced by the plan's cost model. What earlier searches
on this machine took, against what the model had said, corrects it and gives the
interval.
"""

import functools
import math
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax

from dnc_jax.errors import InputError
from dnc_jax.footprint import training_work
from dnc_jax.search.strategies import Evaluation, Strategy
from dnc_jax.training import (
    costs,
    grouping,
    jobs,
    machine,
    plan,
    resources,
    shapes,
    timing,
)
from dnc_jax.training.data import Dataset

_SPREAD = 0.5  # of the log of taken over modelled seconds, before any search told
_NINETY_PERCENT = 1.645
_REHEARSAL_SECONDS = 1.0
_WHOLE = 0.9  # of the candidate-epochs; some candidates diverge before their last
_POWER_SPREAD = 0.15  # of the log of mean power between searches


class Interval(NamedTuple):
    """A prediction and where the truth lies nine times in ten."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:,.3g} ({self.low:,.3g} to {self.high:,.3g})"


class Expected(NamedTuple):
    """Of some rungs."""

    candidate_epochs: int
    flops: int
    seconds: Interval


class Calibration(NamedTuple):
    """What earlier searches on this machine have taught.

    Attributes:
      ratios: seconds taken over seconds modelled, of each.
      watts: mean power of those whose energy was counted.
    """

    ratios: tuple[float, ...] = ()
    watts: tuple[float, ...] = ()

    def seconds(self, modelled: float) -> Interval:
        """The model's seconds, corrected, with an interval of 90 %."""
        return _interval(modelled, self.ratios, 1.0, _SPREAD)

    def joules(self, seconds: Interval) -> Interval | None:
        """Of so many seconds; None if no search before was counted."""
        if not self.watts:
            return None
        power = _interval(1.0, self.watts, statistics.median(self.watts), _POWER_SPREAD)
        low = math.log(seconds.low / seconds.value)
        joined = math.hypot(low, math.log(power.low / power.value))
        value = seconds.value * power.value
        return Interval(value, value * math.exp(-joined), value * math.exp(joined))


class Forecast(NamedTuple):
    """What a search will take.

    Attributes:
      first_rung: of the least that can be searched.
      search: of all of it.
      first_rung_joules, search_joules: None where no earlier search was counted and
        no power assumed.
      searches: earlier ones that it learned from.
      modelled_seconds: of the search, by the cost model alone.
      cost_model: its constants.
    """

    first_rung: Expected
    search: Expected
    first_rung_joules: Interval | None
    search_joules: Interval | None
    searches: int
    modelled_seconds: float
    cost_model: costs.CostModel = costs.CostModel()

    def __str__(self) -> str:
        joules = f", {self.search_joules} J" if self.search_joules else ""
        learned = f"; learned from {self.searches} before" if self.searches else ""
        return (
            f"forecast: {self.search.seconds} s of search{joules}, "
            f"{self.search.candidate_epochs:,} candidate-epochs, "
            f"{self.search.flops:.3g} FLOPs{learned}"
        )

    def scored(
        self, seconds: float, joules: float | None, candidate_epochs: int
    ) -> dict[str, Any]:
        """For summary.json: what was said, what it took, and whether it lay inside.

        Nothing is said of the last where fewer candidate-epochs were trained, because
        another search had made their trials.
        """
        said = self.search.seconds
        whole = candidate_epochs >= _WHOLE * self.search.candidate_epochs
        result: dict[str, Any] = {
            "modelled_seconds": self.modelled_seconds,
            "cost_model": list(self.cost_model),
            "searches_before": self.searches,
            "candidate_epochs": self.search.candidate_epochs,
            "flops": self.search.flops,
            "seconds": said._asdict(),
            "seconds_taken": seconds,
            "seconds_inside": said.low <= seconds <= said.high if whole else None,
            "joules": None,
            "joules_taken": joules,
            "joules_inside": None,
        }
        if self.search_joules:
            result["joules"] = self.search_joules._asdict()
            if joules is not None and whole:
                low, high = self.search_joules.low, self.search_joules.high
                result["joules_inside"] = low <= joules <= high
        return result


def calibration(
    summaries: Iterable[Any],
    watts: float = 0.0,
    cost: costs.CostModel | None = None,
) -> Calibration:
    """What the summary.json of earlier searches teach, those of this machine alone.

    Args:
      summaries: their contents; what is no whole search is passed over, and what was
        modelled with other constants.
      watts: assumed where none of them was counted; 0 assumes nothing.
      cost: constants of the next forecast.
    """
    here, ratios, powers = machine.describe(), [], []
    constants = list(cost or resources.cost_model())
    for summary in summaries:
        if not isinstance(summary, dict) or summary.get("machine") != here:
            continue
        said = summary.get("forecast")
        if not said or not summary.get("complete"):
            continue
        if said.get("seconds_inside") is None:  # not everything was trained
            continue
        if said.get("cost_model") != constants:
            continue
        ratios.append(said["seconds_taken"] / said["modelled_seconds"])
        # An assumed power teaches nothing.
        counted = (summary.get("energy") or {}).get("kind") != "estimated"
        if counted and said["joules_taken"]:
            powers.append(said["joules_taken"] / said["seconds_taken"])
    return Calibration(tuple(ratios), tuple(powers) or ((watts,) if watts else ()))


def forecast(
    strategy: Strategy,
    state: Any,
    data: Dataset,
    calibration: Calibration | None = None,
    cost: costs.CostModel | None = None,
    able: resources.Resources | None = None,
    measured: frozenset[str] = frozenset(),
) -> Forecast:
    """Rehearses the search from `state` on.

    After the rung in which a second of rehearsing is over, what is left is taken to
    cost as much for each candidate-epoch as what was rehearsed, but for compiling:
    later rungs mostly find their programs compiled.

    Args:
      strategy: not changed by being asked: it is pure.
      state: of the strategy, before its first rung.
      data: of the search.
      calibration: from earlier searches.
      cost: constants of the machine.
      able: what programs may use; None asks this process, which must be before rows
        lie on the device.
      measured: terms of an epoch that are measured for each candidate, one after
        another, before its first rung.

    Raises:
      InputError: the strategy asks for nothing.
    """
    calibration, cost = calibration or Calibration(), cost or resources.cost_model()
    scores, deadline = random.Random(0), time.perf_counter() + _REHEARSAL_SECONDS
    able = able or resources.of(data, jax.device_count())
    rehearse = strategy.rehearse or strategy.tell
    planned: set[shapes.Shape] = set()
    rungs: list[tuple[int, int, float, float]] = []
    while (asked := strategy.ask(state)) and (
        not rungs or time.perf_counter() < deadline
    ):
        rungs.append(_rung(asked, data, able, planned, cost, measured))
        state = rehearse(state, [scores.random() for _ in asked])
    if not rungs:
        raise InputError(
            "the strategy asks for no candidate; allow one, or widen the space"
        )
    epochs, flops, running, compiling = map(sum, zip(*rungs, strict=True))
    if asked and strategy.candidate_epochs > epochs:
        more = strategy.candidate_epochs / epochs
        epochs, flops = strategy.candidate_epochs, round(flops * more)
        running *= more
    seconds = running + compiling
    first, whole = (calibration.seconds(s) for s in (sum(rungs[0][2:]), seconds))
    return Forecast(
        Expected(rungs[0][0], rungs[0][1], first),
        Expected(epochs, flops, whole),
        calibration.joules(first),
        calibration.joules(whole),
        len(calibration.ratios),
        seconds,
        cost,
    )


def _rung(
    evaluations: Sequence[Evaluation],
    data: Dataset,
    able: resources.Resources,
    planned: set[shapes.Shape],
    cost: costs.CostModel,
    measured: frozenset[str],
) -> tuple[int, int, float, float]:
    """Candidate-epochs and FLOPs of a rung, seconds to run and to compile it.

    Measuring candidates counts as running: it takes each of them anew.
    """
    key = jax.random.key(0)  # that nothing is drawn from
    rung = [
        jobs.Job(
            e.candidate.architecture,
            e.candidate.hyperparameters,
            key,
            e.start,
            e.stop,
            e.stop,
            expected_epochs=e.expected_epochs,
        )
        for e in evaluations
    ]
    workload = functools.partial(able.workload, data)
    ready = set(planned)
    running = sum(
        plan.total_seconds(groups, planned, workload(epochs), cost)
        for epochs, groups in grouping.plan_spans(rung, workload, planned, cost)
    )
    compiling = sum(costs.compile_seconds(shape, cost) for shape in planned - ready)
    epochs = sum(one.stop - one.start for one in rung)
    flops = sum(
        training_work(
            one.architecture,
            one.hyperparameters.batch_size,
            *data.rows,
            epochs=one.stop - one.start,
        ).flops
        for one in rung
    )
    measuring = sum(
        timing.modelled_seconds(
            one.architecture,
            one.hyperparameters.batch_size,
            workload(1),
            "joules" in measured,
            cost,
        )
        for one in rung
        if measured and not one.start
    )
    running = running / able.workers + measuring
    return epochs, flops, running, compiling / able.workers


def _interval(
    base: float, seen: Sequence[float], expected: float, spread: float
) -> Interval:
    """`base` times what was seen, as if one more case of `expected` had been.

    The spread is that of one more case around the mean of the logarithms.
    """
    count = len(seen)
    logs = [math.log(value / expected) for value in seen]
    mean = sum(logs) / (count + 1)
    square = sum((value - mean) ** 2 for value in logs)
    deviation = math.sqrt((spread**2 + square) / (count + 1) * (1 + 1 / (count + 1)))
    value = base * expected * math.exp(mean)
    factor = math.exp(_NINETY_PERCENT * deviation)
    return Interval(value, value / factor, value * factor)
