"""Networks under the machine's roof, and what sparsity saves."""

import importlib
import json
import types

import jax
import pytest

from dnc_jax import InputError
from dnc_jax.footprint import Work
from dnc_jax.footprint.roofline import measured_peak, roofline, saving


def test_a_roofline_is_flops_over_time_and_peak():
    place = roofline(Work(10**9, 10**8), 0.5, 8e9, examples=100, joules=2.0)
    assert place.flops_per_second == 2e9
    assert place.fraction == 0.25
    assert place.flops_per_byte == 10
    assert place.joules_per_example == 0.02
    assert place.joules_per_flop == 2e-9
    assert str(place) == (
        "2 GFLOP/s, 25.0% of the 8 of a matrix product; 20 mJ an example, "
        "2e+03 pJ a FLOP"
    )
    json.dumps(place.to_json())


def test_without_energy_there_are_no_joules_never_zero():
    place = roofline(Work(10**9, 10**8), 0.5, 8e9, examples=100)
    assert place.joules_per_example is None
    assert place.joules_per_flop is None
    assert "mJ" not in str(place)


@pytest.mark.parametrize(
    ("seconds", "peak", "examples"),
    [
        *((0.0, 1.0, 1), (1.0, 0.0, 1), (1.0, 1.0, 0)),
        *((-1.0, 1.0, 1), (1.0, -1.0, 1), (1.0, 1.0, -1)),
    ],
)
def test_what_has_no_time_peak_or_examples_is_refused(seconds, peak, examples):
    with pytest.raises(InputError, match="must be above 0"):
        roofline(Work(1, 1), seconds, peak, examples=examples)


def test_one_example_within_a_second_under_a_low_roof_is_enough():
    assert roofline(Work(1, 1), 0.5, 0.5, examples=1).fraction == 4


def test_what_sparsity_claims_and_what_it_saves_are_told_apart():
    saved = saving((1, 10), (4.0, 8.0), (30.0, 40.0))
    assert saved == (0.9, 0.5, 0.25)
    assert str(saved) == (
        "sparsity claims 90.0% of the FLOPs; saved: 50.0% of the time, 25.0% of the "
        "joules"
    )
    assert saving((1, 10), (9.0, 8.0)).seconds < 0, "a sparse network may be slower"
    assert "unavailable of the joules" in str(saving((1, 10), (4.0, 8.0)))


def test_the_peak_is_that_of_a_processor_or_more():
    assert 1e8 < measured_peak() < 1e16


@pytest.mark.parametrize(("backend", "side"), [("cpu", 3), ("gpu", 5), ("tpu", 5)])
def test_the_peak_is_of_the_quickest_product_and_a_larger_one_on_a_chip(
    monkeypatch, backend, side
):
    module = importlib.import_module("dnc_jax.footprint.roofline")
    now = iter([0.0, 2.0, 10.0, 10.7, 20.0, 21.0, 30.0, 31.0, 40.0, 41.0])
    clock = types.SimpleNamespace(perf_counter=lambda: next(now))
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "_SIDE", {"cpu": 3, "other": 5})
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert measured_peak() == pytest.approx(2 * side**3 / 0.7)
