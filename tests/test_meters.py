"""Energy counters, on fake trees of the kernel's powercap folder."""

import json
import pathlib
import shutil
import time

import pytest

from dnc_jax.footprint import Assumed, Energy, Meter, find
from dnc_jax.footprint.counters import CounterError, Found


def zone(root, folder, name, microjoules=0, limit=262_143_328_850):
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{limit}\n")
    return path


def move(path, microjoules):
    # In one step, as the kernel does it: a meter's thread may read meanwhile,
    # and `write_text` alone leaves the file empty for a moment.
    fresh = path / "energy_uj.new"
    fresh.write_text(f"{microjoules}\n")
    fresh.replace(path / "energy_uj")


@pytest.mark.parametrize(
    ("name", "seconds", "message"),
    [
        ("idle_seconds", -1.0, "idle_seconds must be a finite number >= 0, got -1"),
        ("interval_seconds", -1.0, "interval_seconds must be seconds > 0, got -1"),
        ("interval_seconds", 0.0, "interval_seconds must be seconds > 0, got 0"),
    ],
)
def test_a_meter_cannot_wait_for_less_than_no_time(name, seconds, message):
    with pytest.raises(ValueError, match=message):
        Meter(Found((), None), **{name: seconds})


@pytest.fixture
def machine(tmp_path):
    """Two packages with memory, and the zones that must not be counted."""
    zones = {
        "package": zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000),
        "cores": zone(tmp_path, "intel-rapl:0:0", "core"),
        "memory": zone(tmp_path, "intel-rapl:0:1", "dram", 1_000_000),
        "other": zone(tmp_path, "intel-rapl:1", "package-1"),
        "whole": zone(tmp_path, "intel-rapl:2", "psys"),
        "twin": zone(tmp_path, "intel-rapl-mmio:0", "package-0"),
    }
    return tmp_path, zones


def test_packages_and_memory_are_counted_and_nothing_twice(machine):
    root, zones = machine
    with Meter(find(root)) as meter:
        for path in zones.values():
            move(path, 7_000_000)
    energy = meter.energy(flops=12)
    assert energy.kind == "measured"
    assert energy.joules == pytest.approx(2 + 6 + 7)
    assert {part.counter for part in energy.parts} == {
        "package-0 (intel-rapl:0)",
        "dram (intel-rapl:0:1)",
        "package-1 (intel-rapl:1)",
    }
    assert energy.flops == 12
    assert energy.seconds > 0
    with pytest.raises(RuntimeError, match="counts one stretch of work"), meter:
        pass


def test_a_wrap_is_not_negative_energy(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 262_143_000_000)
    with Meter(find(tmp_path)) as meter:
        move(package, 1_000_000)
    # To the end of the range, and on from 0.
    assert meter.energy().joules == pytest.approx(0.32885 + 1)


def test_wraps_between_two_readings_of_the_thread_are_all_counted(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0, limit=1_000_000)
    with Meter(find(tmp_path), interval_seconds=0.02) as meter:
        for turn in range(1, 7):  # 0.6 J a turn, modulo 1 J
            move(package, 600_000 * turn % 1_000_000)
            before = meter.energy().seconds
            deadline = time.monotonic() + 10
            while meter.energy().seconds == before:  # until it was read
                assert time.monotonic() < deadline
                time.sleep(0.005)
    assert meter.energy().joules == pytest.approx(3.6)


def test_a_counter_that_was_reset_makes_the_record_unavailable(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 100_000_000_000)
    with Meter(find(tmp_path)) as meter:
        move(package, 0)
    energy = meter.energy()
    assert energy.joules is None
    assert energy.kind == "unavailable"
    assert "100000 J to 0 J, which no wrap explains" in energy.reason


def test_a_counter_that_vanishes_stops_the_record_not_the_work(machine):
    root, zones = machine
    finished = False
    with Meter(find(root)) as meter:
        shutil.rmtree(zones["memory"])
        finished = True
    energy = meter.energy()
    assert finished
    assert energy.joules is None
    assert "intel-rapl:0:1/energy_uj cannot be read" in energy.reason
    assert "after 0 s" in energy.reason
    json.dumps(energy.to_json())


def test_a_counter_for_root_only_is_explained_with_the_remedy(machine, monkeypatch):
    root, _ = machine
    read_text = pathlib.Path.read_text

    def refuse(path, *arguments, **keywords):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *arguments, **keywords)

    monkeypatch.setattr(pathlib.Path, "read_text", refuse)
    found = find(root)
    assert found.counters == ()
    assert "root only; `sudo chmod -R a+r" in found.reason


def test_no_counters_are_unavailable_and_never_zero(tmp_path):
    for root in (tmp_path / "none", tmp_path):
        with Meter(find(root)) as meter:
            sum(range(10**6))
        energy = meter.energy()
        assert energy.joules is None
        assert energy.kind == "unavailable"
        assert energy.reason == f"no RAPL zones in {root}"
        assert energy.cpu_seconds > 0
    zone(tmp_path, "intel-rapl:0", "psys")
    assert "lists no package, only ['psys']" in find(tmp_path).reason


def test_a_counter_that_holds_no_number_is_named(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0")
    (package / "energy_uj").write_text("soon")
    assert "holds 'soon', not a number" in find(tmp_path).reason


def test_the_counters_of_this_machine_are_read_or_explained():
    found = find()
    assert bool(found.counters) != bool(found.reason)
    for counter in found.counters:
        assert counter.read() >= 0


def test_two_readings_of_a_failing_counter_keep_the_first_reason():
    class Failing:
        name, device, range_joules = "failing", "failing", 1.0
        reads = 0

        def read(self):
            self.reads += 1
            if self.reads > 1:
                raise CounterError(f"reading {self.reads} failed")
            return 0.0

    with Meter(Found((Failing(),), None), interval_seconds=0.01) as meter:
        time.sleep(0.05)
    assert meter.energy().reason.startswith("reading 2 failed")


def test_a_record_survives_json_and_reads_as_a_sentence():
    for energy in (
        Energy(12345.6, "measured", None, (), 10.0, 19.6, 3 * 10**13),
        Energy(None, "unavailable", "no counters", (), 10.0, 19.6, None),
    ):
        assert Energy.from_json(json.loads(json.dumps(energy.to_json()))) == energy
    assert str(energy) == "energy unavailable (no counters); 20 CPU seconds"


def test_a_processor_without_a_memory_zone_says_so(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0")
    assert find(tmp_path).missing == ("the memory (no dram zone)",)


def test_a_meter_that_is_interrupted_while_it_waits_lets_its_counters_go(
    machine, monkeypatch
):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt), Meter(find(machine[0]), idle_seconds=1.0):
        pass
    monkeypatch.undo()
    with Meter(find(machine[0])) as meter:
        pass
    assert meter.energy().kind == "measured"


def test_the_idling_after_a_block_is_not_in_its_record(machine, monkeypatch):
    root, zones = machine
    waits = []

    def idle(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            move(zones["package"], 9_000_000)
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", idle)
    with (
        pytest.raises(KeyboardInterrupt),
        Meter(find(root), idle_seconds=0.01) as meter,
    ):
        move(zones["package"], 7_000_000)
    assert waits == [0.01, 0.01]
    assert meter.energy().joules == pytest.approx(2)


def test_a_meter_that_has_counted_nothing_is_unavailable_and_not_zero(machine):
    energy = Meter(find(machine[0])).energy()
    assert (energy.joules, energy.kind) == (None, "unavailable")
    assert energy.reason == "nothing was counted yet"


def test_of_a_failed_counter_nothing_is_left_but_the_reason(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 100_000_000_000)
    with Meter(find(tmp_path), assumed=Assumed(10.0)) as meter:  # for the memory
        assert meter.available
        move(package, 0)
    assert not meter.available
    energy = meter.energy()
    assert (energy.joules, energy.band_joules) == (None, None)


@pytest.mark.parametrize("assumed", [None, Assumed(10.0)])
def test_watts_of_idling_stand_beside_counted_joules_alone(tmp_path, assumed):
    zone(tmp_path, "intel-rapl:0", "package-0")
    with Meter(find(tmp_path), idle_seconds=0.001, assumed=assumed) as meter:
        pass
    energy = meter.energy()
    found = (energy.idle_watts, energy.dynamic_joules)
    assert found == ((None, None) if assumed else (0.0, 0.0))
