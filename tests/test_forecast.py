"""What a search will take, said before it starts."""

import math

import jax
import pytest

from dnc_jax.search import MLPSpace, forecast
from dnc_jax.search.forecast import Calibration, Interval
from dnc_jax.search.strategies import bayes, halving, model
from dnc_jax.training import costs, feed, machine, resources

# Without hidden layers: one small program for all.
SPACE = MLPSpace(6, 4, depth=(0, 0), batch_sizes=(32,))


def test_a_long_search_is_rehearsed_for_a_while_and_then_extrapolated(
    small, monkeypatch
):
    long = halving(SPACE, candidates=4, rungs=(1, 2), reduction=2, brackets=50)
    state = long.init(jax.random.key(1))
    whole = forecast.forecast(long, state, small)
    monkeypatch.setattr(forecast, "_REHEARSAL_SECONDS", 0.0)
    short = forecast.forecast(long, state, small)
    assert short.search.candidate_epochs == whole.search.candidate_epochs == 300
    assert short.search.flops == pytest.approx(whole.search.flops)


def test_a_forecast_plans_within_the_memory_that_there_is(small, monkeypatch):
    several = halving(SPACE, candidates=8, rungs=(1,), brackets=1)
    state = several.init(jax.random.key(1))
    ample = forecast.forecast(several, state, small)
    monkeypatch.setattr(feed, "free_bytes", lambda: 1000.0)
    scarce = forecast.forecast(several, state, small)
    # Groups that share a program run one after another, in steps of their own.
    assert scarce.modelled_seconds > ample.modelled_seconds
    assert scarce.search.flops == ample.search.flops


def test_a_forecast_knows_that_devices_share_the_networks(small, monkeypatch):
    long = halving(SPACE, candidates=64, rungs=(200,), brackets=1)
    state = long.init(jax.random.key(1))
    cost = costs.CostModel(compile_seconds=1e-6, workers=1)
    monkeypatch.setattr(resources, "cores", lambda: 1)
    one = forecast.forecast(long, state, small, cost=cost)
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    eight = forecast.forecast(long, state, small, cost=cost)
    assert eight.modelled_seconds < one.modelled_seconds / 4
    assert eight.search.flops == one.search.flops


def test_a_forecast_counts_what_is_measured_for_each_candidate(small):
    """Joules take a second more each, only of candidates that are new."""
    several = halving(SPACE, candidates=8, rungs=(1, 2), reduction=2)
    state = several.init(jax.random.key(1))
    seconds = [
        forecast.forecast(several, state, small, measured=frozenset(terms))
        for terms in ((), ("seconds",), ("joules",))
    ]
    none, some, joules = (one.modelled_seconds for one in seconds)
    assert some > none + 8 * costs.CostModel().compile_seconds
    assert joules == pytest.approx(some + 8, rel=1e-3)


def test_rehearsals_do_not_wait_for_a_model(small, monkeypatch):
    """It would propose the second bracket, and every batch after the first eight."""

    def run(tell, state):
        while asked := strategy.ask(state):
            state = tell(state, [1.0] * len(asked))

    monkeypatch.setattr(model, "proposed", None)
    for strategy in (
        halving(SPACE, candidates=4, rungs=(1, 2), reduction=2, brackets=2),
        bayes(SPACE, candidates=20, batch=4, epochs=2),
    ):
        state = strategy.init(jax.random.key(1))
        said = forecast.forecast(strategy, state, small)
        assert said.search.candidate_epochs == strategy.candidate_epochs
        run(strategy.rehearse, state)
        with pytest.raises(TypeError, match="not callable"):
            run(strategy.tell, state)


def test_earlier_searches_correct_a_forecast_and_narrow_it():
    naive = Calibration().seconds(10.0)
    assert naive.value == 10
    assert naive.low < 5
    assert naive.high > 20
    taught = Calibration(ratios=(1.5,) * 9).seconds(10.0)
    assert 14 < taught.value < 15
    assert taught.low < 15 < taught.high
    assert taught.high / taught.low < naive.high / naive.low
    wild = Calibration(ratios=(0.5, 4.0) * 4).seconds(10.0)
    assert wild.high / wild.low > taught.high / taught.low


def test_an_interval_is_of_one_more_case_than_were_seen():
    # Logarithms of 1 and 2, and the 0 that was expected: their mean is 1.
    told = Calibration(ratios=(math.e, math.e**2)).seconds(10.0)
    assert told.value == pytest.approx(10 * math.e)
    deviation = math.sqrt((0.5**2 + 0 + 1) / 3 * (1 + 1 / 3))
    factor = math.exp(1.645 * deviation)
    assert told.high == pytest.approx(told.value * factor)
    assert told.low == pytest.approx(told.value / factor)
    # Of power, around its median and narrower; joined with that of the seconds.
    joules = Calibration(watts=(30.0,) * 3).joules(Interval(10.0, 5.0, 20.0))
    power = 1.645 * math.sqrt(0.15**2 / 4 * (1 + 1 / 4))
    factor = math.exp(math.hypot(math.log(2), power))
    assert joules == pytest.approx((300, 300 / factor, 300 * factor))


def test_joules_are_forecast_from_the_power_of_earlier_searches():
    seconds = Interval(10.0, 5.0, 20.0)
    assert Calibration().joules(seconds) is None
    joules = Calibration(watts=(30.0,) * 3).joules(seconds)
    assert joules.value == pytest.approx(300)
    assert joules.low < 150
    assert joules.high > 600


def test_only_whole_searches_of_this_machine_teach():
    here = machine.describe()
    told = {"modelled_seconds": 10.0, "seconds_taken": 15.0, "joules_taken": 450.0}
    told |= {"cost_model": list(costs.CostModel()), "seconds_inside": True}
    good = {"machine": here, "complete": True, "forecast": told}
    good |= {"energy": {"kind": "measured"}}
    others = [
        {**good, "machine": {**here, "cores": 1000}},
        {**good, "complete": False},
        {**good, "forecast": None},
        {**good, "forecast": {**told, "cost_model": [1.0] * 6}},
        {**good, "forecast": {**told, "seconds_inside": None}},
        {},
        [],
    ]
    learned = forecast.calibration([good, *others])
    assert learned == Calibration(ratios=(1.5,), watts=(30.0,))
    assert forecast.calibration([], watts=25.0).watts == (25.0,)
    assumed = {**good, "energy": {"kind": "estimated"}}
    assert forecast.calibration([assumed], watts=25.0).watts == (25.0,)
