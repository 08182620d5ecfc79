"""Caps on a search, its forecast, and whose its energy was."""

import itertools
import json
import math
import threading
import time

import jax
import pytest

from dnc_jax import InputError
from dnc_jax.footprint import Assumed, Meter, attribution, carbon
from dnc_jax.footprint.counters import CounterError, Found
from dnc_jax.search import MLPSpace, Objective, Store, budget, ledger
from dnc_jax.search.budget import Budget, Spending
from dnc_jax.search.forecast import Expected, Forecast, Interval
from dnc_jax.search.results import Callback
from dnc_jax.search.run import search
from dnc_jax.search.strategies import halving
from dnc_jax.training import timing
from dnc_jax.training.jobs import Executed, Outcome
from dnc_jax.training.programs import Programs
from dnc_jax.training.timing import EpochCost

# Without hidden layers: one small program for all.
SPACE = MLPSpace(6, 4, depth=(0, 0), batch_sizes=(32,))
FRANCE = carbon.Grid(carbon.PUES["none"], carbon.region("FR").intensity)


class Steady:
    """A counter that gains `watts` joules with every reading, and may fail."""

    name, range_joules = "steady", math.inf

    def __init__(self, watts=1.0, readings=math.inf):
        self.device = f"steady {id(self)}"
        self.watts, self.left, self.count = watts, readings, 0
        self.lock = threading.Lock()

    def read(self):
        with self.lock:
            self.left -= 1
            if self.left < 0:
                raise CounterError("the counter is gone")
            self.count += 1
            return self.watts * self.count


def strategy():
    return halving(SPACE, candidates=4, rungs=(1, 2), reduction=2, brackets=2)


def run(small, **arguments):
    return search(SPACE, small, Objective(), strategy(), seed=5, **arguments)


def said(first_seconds=1.0, epochs=4, joules=None):
    around = Interval(first_seconds, first_seconds / 2, first_seconds * 2)
    power = joules and Interval(joules, joules / 2, joules * 2)
    first = Expected(epochs, 1000, around)
    return Forecast(first, first, power, power, 0, first_seconds)


# Budgets


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seconds": -1.0}, "^seconds must be a finite number >= 0, got -1"),
        ({"watt_hours": math.nan}, "^watt_hours"),
        ({"candidate_epochs": -3}, "^candidate_epochs"),
        ({"grams_co2e": 1.0}, "^grams_co2e needs a grid"),
    ],
)
def test_an_impossible_budget_is_refused_by_name(fields, message):
    with pytest.raises(InputError, match=message):
        Budget(**fields)


@pytest.mark.parametrize(
    ("cap", "message"),
    [
        (Budget(seconds=0.4), r"budget.seconds = 0.4 .* 1 \(0.5 to 2\) s; allow more"),
        (Budget(candidate_epochs=3), "which takes about 4 candidate-epochs"),
        (
            Budget(watt_hours=0.001),
            r"budget.watt_hours = 0.001 .* 0.00222 \(0.00111 to 0.00444\) Wh",
        ),
        (
            Budget(grams_co2e=4e-5, grid=FRANCE),
            r"budget.grams_co2e = 4e-05 .* [0-9.e-]+ \([^)]* to [^)]*\) g; allow",
        ),
    ],
)
def test_a_cap_below_the_first_rung_is_refused_with_the_estimate(cap, message):
    with pytest.raises(InputError, match=message):
        cap.check(said(joules=8.0))


def test_a_cap_within_the_forecasts_interval_is_tried():
    Budget(seconds=0.6, candidate_epochs=4, watt_hours=0.002).check(said(joules=8.0))
    Budget(watt_hours=1e-9).check(said(joules=None))  # nobody knows


def test_a_cap_on_energy_needs_someone_who_counts_it():
    with Meter(Found((), "no RAPL zones")) as meter:
        for nobody in (meter, None):
            with pytest.raises(
                InputError,
                match=r"not counted here .*energy.tdp_watts in a c",
            ):
                Spending(Budget(watt_hours=1.0), nobody)
        Spending(Budget(seconds=1.0), meter)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(budget.time, "perf_counter", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


def test_a_watt_hour_is_3600_joules(clock):
    with Meter(Found((Steady(watts=1800.0),), None)) as meter:
        spending = Spending(Budget(watt_hours=1.0, seconds=9.0), meter)
        assert spending.reached() is None
        clock(1.5)
        assert spending.reached() is None
        clock(1.5)
        assert spending.reached() == "watt_hours"
        clock(9.0)
        assert spending.reached() == "seconds"


def test_grams_are_joules_by_the_grids_intensity(clock):
    # The cap is what two readings' joules emit.
    with Meter(Found((Steady(watts=4000.0),), None)) as meter:
        cap = Budget(grams_co2e=8000 / 3.6e6 * 44.18, grid=FRANCE)
        spending = Spending(cap, meter)
        clock(1.5)
        assert spending.reached() is None
        clock(1.5)
        assert spending.reached() == "grams_co2e"


def test_after_a_counter_has_failed_the_last_power_is_taken_on(clock):
    with Meter(Found((Steady(watts=100.0, readings=3),), None)) as meter:
        spending = Spending(Budget(watt_hours=1.0), meter)
        clock(2.0)
        assert spending.reached() is None
        clock(2.0)  # the counter has failed: 100 J in 2 s
        assert spending.reached() is None
        assert meter.energy().joules is None
        clock(80.0)
        assert spending.reached() == "watt_hours"


def test_power_after_a_failure_is_the_mean_and_its_joules_are_added_up(clock):
    with Meter(Found((Steady(watts=100.0, readings=4),), None)) as meter:
        spending = Spending(Budget(watt_hours=400 / 3600), meter)
        reached = []
        for _ in range(4):  # 100 J, 200 J in 4 s, then 50 W
            clock(2.0)
            reached.append(spending.reached())
    assert reached == [None, None, None, "watt_hours"]


def test_seconds_are_reached_with_the_last_of_them(clock):
    spending = Spending(Budget(seconds=9.0), None)
    clock(8.5)
    assert spending.reached() is None
    clock(0.5)
    assert spending.reached() == "seconds"


def test_a_rung_beyond_the_candidate_epochs_is_not_begun(small):
    # The rungs take 4, then 2 + 4, then 2.
    result = run(small, budget=Budget(candidate_epochs=11))
    assert result.candidate_epochs == 10
    assert result.ended_by == "candidate_epochs"
    assert not result.complete
    whole = run(small, budget=Budget(candidate_epochs=12))
    assert whole.complete
    assert whole.ended_by is None
    assert [t.val_loss for t in result.trials] == [t.val_loss for t in whole.trials][
        :10
    ]


def test_a_cap_on_energy_ends_a_search_with_the_best_so_far(small, monkeypatch):
    monkeypatch.setattr(budget, "_READ_SECONDS", 0.0)
    with Meter(Found((Steady(watts=100.0),), None)) as meter:
        result = run(small, meter=meter, budget=Budget(watt_hours=0.25))
    assert result.ended_by == "watt_hours"
    assert not result.complete
    assert 0 < len(result.trials) < 12


# Shares


def test_the_shares_of_trials_and_overhead_are_the_searchs_energy(small, tmp_path):
    with (
        Meter(Found((Steady(watts=7.0),), None)) as meter,
        Store(tmp_path / "t.sqlite", {}) as store,
    ):
        result = run(small, meter=meter, store=store)
        assert store.trials() == sorted(
            result.trials, key=lambda t: (t.candidate_id, t.rung)
        )
    shares = result.attribution
    assert shares.kind == "modelled"
    assert shares.joules == 7 * 7, "two readings a rung, and one at the end"
    parts = round(1e6 * shares.trials_joules) + round(1e6 * shares.overhead_joules)
    assert parts == round(1e6 * shares.joules)
    assert sum(t.joules for t in result.trials) == pytest.approx(shares.trials_joules)
    assert all(t.joules > 0 for t in result.trials)
    first = result.trials[:4]
    assert max(t.joules for t in first) == pytest.approx(
        min(t.joules for t in first), abs=2e-6
    ), "lanes of one shape cost the same"
    json.dumps(shares._asdict())


class Machine:
    """Its counter has what the test says that it took."""

    name, range_joules = "machine", math.inf

    def __init__(self, clock):
        self.device, self.joules = f"machine {id(self)}", 0.0
        self.clock = clock

    def work(self, seconds, watts):
        self.clock(seconds)
        self.joules += seconds * watts

    def read(self):
        return self.joules


def test_each_rung_is_divided_by_idling_flops_and_compiling(small, clock, monkeypatch):
    machine, programs = Machine(clock), Programs(small, jax.random.key(0))
    programs.workers = 2
    monkeypatch.setattr(time, "sleep", lambda seconds: machine.work(seconds, 2.0))
    with Meter(Found((machine,), None), idle_seconds=1.0) as meter:
        machine.work(3.0, 10.0)
        shared = ledger.Ledger(meter, programs)
        machine.work(5.0, 4.0)
        shared.begin()
        machine.work(10.0, 12.0)
        programs.account(compiling=4.0)  # of 20 s that two workers had
        lane = Executed(4, 300, 100)
        outcome = Outcome((), (), 1.0, False, None, 1, lane)
        shared.chunk([7, 8], [outcome, outcome])
        programs.add_unused(lane, 1)
        # Of 8 lanes each an eighth of 16 J idling, and of 80 J 300 FLOPs' part.
        joules = 16 / 8 + 80 * 300 / (8 * 300 + 8 * 100)
        assert shared.end() == pytest.approx({7: joules, 8: joules})
        told = shared.attribution()
        assert (told.kind, told.joules) == ("modelled", 20.0 + 120.0)
        assert told.trials_joules == pytest.approx(2 * joules)
        assert told.overhead_joules == pytest.approx(140 - 2 * joules)
        assert told.compiling == pytest.approx(4 / 20)
        shared.begin()
        machine.work(10.0, 12.0)
        done = outcome._replace(executed=Executed(4, 0, 0), epochs=0)
        shared.chunk([9], [done])
        assert shared.end() == {}, "an earlier run had finished it"
        told = shared.attribution()
        assert told.trials_joules == pytest.approx(2 * joules)
        assert told.compiling == pytest.approx(4 / 40)


def test_shares_of_an_estimate_are_estimated(small):
    with Meter(Found((), "none"), assumed=Assumed(10.0)) as meter:
        shared = ledger.Ledger(meter, Programs(small, jax.random.key(0)))
        assert shared.attribution().kind == "estimated"


def test_without_a_counter_no_trial_has_joules(small):
    with Meter(Found((), "none")) as meter:
        result = run(small, meter=meter)
    assert {t.joules for t in result.trials} == {None}
    assert result.attribution.kind == "unavailable"
    assert result.attribution.joules is None
    assert 0 < result.attribution.compiling <= 1


def test_a_counter_that_dies_stops_the_record_not_the_search(small):
    with Meter(Found((Steady(readings=4),), None)) as meter:
        result = run(small, meter=meter)
    assert result.complete
    assert result.trials[0].joules is not None
    assert result.trials[-1].joules is None
    assert result.attribution.kind == "unavailable"
    assert meter.energy().reason.startswith("the counter is gone (after")


# Forecasts


class Listener(Callback):
    forecast = None

    def on_forecast(self, forecast):
        self.forecast = forecast


def test_a_forecast_counts_what_the_search_then_trains(small, tmp_path):
    listener = Listener()
    with Store(tmp_path / "t.sqlite", {}) as store:
        result = run(small, callback=listener, store=store)
    told = listener.forecast
    assert told is result.forecast
    assert told.first_rung.candidate_epochs == 4
    assert told.search.candidate_epochs == result.candidate_epochs
    # Which candidates go on is made up, but here all have one size.
    assert told.search.flops == result.flops
    assert 0 < told.search.seconds.low < told.search.seconds.high
    assert str(told).startswith("forecast: ")
    with Store(tmp_path / "t.sqlite", {}) as store:
        again = run(small, callback=listener, store=store)
    assert again.forecast is None, "what is known needs no forecast"


def test_a_forecast_is_scored_against_what_it_took():
    scored = said(joules=8.0).scored(3.0, 9.0, 5)
    assert scored["seconds"] == {"value": 1.0, "low": 0.5, "high": 2.0}
    assert scored["seconds_inside"] is False
    assert scored["joules_inside"] is True
    nothing = said().scored(1.0, None, 5)
    assert nothing["seconds_inside"] is True
    assert nothing["joules_inside"] is None
    json.dumps(nothing)
    # Trials that an earlier search had made took no time of this one.
    reused = said(joules=8.0).scored(0.1, 9.0, 0)
    assert (reused["seconds_inside"], reused["joules_inside"]) == (None, None)


def test_a_strategy_that_asks_for_nothing_is_refused(small):
    def nothing(state):
        return []

    strategy = halving(SPACE, candidates=4, rungs=(1, 2))._replace(ask=nothing)
    with pytest.raises(InputError, match="asks for no candidate"):
        search(SPACE, small, Objective(), strategy, seed=0)


def test_caps_are_joules_by_name():
    assert Budget(watt_hours=1.0).joules == {"watt_hours": 3600.0}
    clean = carbon.Grid(carbon.PUES["none"], carbon.given_intensity(0.0))
    assert Budget(grams_co2e=1.0, grid=clean).joules == {"grams_co2e": math.inf}
    for fields in ({"seconds": math.inf}, {"watt_hours": math.inf}):
        with pytest.raises(InputError, match="must be a finite number >= 0"):
            Budget(**fields)


def test_a_counter_is_not_read_more_than_once_a_second(clock, monkeypatch):
    with Meter(Found((Steady(watts=100.0),), None)) as meter:
        spending = Spending(Budget(watt_hours=1.0), meter)
        readings = []
        now = meter.now
        monkeypatch.setattr(meter, "now", lambda: readings.append(1) or now())
        clock(0.5)
        spending.reached()
        assert not readings
        clock(0.5)
        spending.reached()
        assert len(readings) == 1


def test_energy_of_networks_that_were_cut_off_is_overheads(small, monkeypatch):
    seen = []

    def attribute(joules, lanes, **how):
        seen.extend(lanes)
        return attribution.attribute(joules, lanes, **how)

    monkeypatch.setattr(ledger, "attribute", attribute)
    asked = itertools.count()
    monkeypatch.setattr(
        Spending, "reached", lambda self: "seconds" if next(asked) > 3 else None
    )
    one = halving(SPACE, candidates=2, rungs=(6,), brackets=1)
    with (
        Meter(Found((Steady(watts=7.0),), None)) as meter,
        pytest.raises(InputError, match="ended before any candidate was trained"),
    ):
        search(SPACE, small, Objective(), one, seed=5, meter=meter)
    assert any(lane.flops for lane in seen)
    assert {lane.owner for lane in seen if lane.flops} == {None}


def test_measuring_ends_with_the_budget_and_goes_on_from_there(
    small, monkeypatch, tmp_path
):
    measured = []
    monkeypatch.setattr(
        timing, "epoch_cost", lambda *_: measured.append(1) or EpochCost(1.0, None)
    )
    objective = Objective(w_c=1.0, seconds=1.0)
    with Store(tmp_path / "t.sqlite", {}) as store:
        for run in range(2):
            monkeypatch.setattr(
                Spending,
                "reached",
                lambda self, run=run: "seconds" if len(measured) > run else None,
            )
            with pytest.raises(InputError, match="ended before any candidate was"):
                search(SPACE, small, objective, strategy(), seed=5, store=store)
            assert len(measured) == run + 1
        monkeypatch.undo()
        monkeypatch.setattr(
            timing, "epoch_cost", lambda *_: measured.append(1) or EpochCost(2.0, None)
        )
        result = search(SPACE, small, objective, strategy(), seed=5, store=store)
    taken = [trial.epoch_cost.seconds for trial in result.trials if not trial.rung]
    assert taken == [1.0, 1.0] + [2.0] * (len(taken) - 2)
    assert len(measured) == len(taken)
