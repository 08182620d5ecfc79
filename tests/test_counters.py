"""Counters of accelerators: fakes that wrap, vanish, go backwards or refuse."""

import ctypes
import subprocess
import sys
import types

import pytest

from dnc_jax.footprint import Assumed, Meter, counters, find, locks, meters
from dnc_jax.footprint.counters import CounterError, Found


class NvmlError(Exception):
    pass


class Nvml:
    """`pynvml` for two GPUs whose counters the test moves."""

    NVMLError = NvmlError

    def __init__(self, *, mig=0, broken=(), names=(b"NVIDIA A100", "NVIDIA H100")):
        self.millijoules = {"0000:01:00.0": 5_000, "0000:02:00.0": 9_000}
        self.names = dict(zip(self.millijoules, names, strict=True))
        self.mig, self.broken = mig, set(broken)
        self.calls = []

    def _check(self, function):
        self.calls.append(function)
        if function in self.broken:
            raise NvmlError(f"{function}: Insufficient Permissions")

    def nvmlInit(self):  # noqa: N802
        self._check("nvmlInit")

    def nvmlDeviceGetHandleByPciBusId(self, bus_id):  # noqa: N802
        self._check("handle")
        if bus_id not in self.millijoules:
            raise NvmlError("Not Found")
        return bus_id

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return f"GPU-{id(self)}-{handle}".encode()

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return self.names[handle]

    def nvmlDeviceGetMigMode(self, handle):  # noqa: N802
        self._check("mig")
        return [self.mig, self.mig]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        self._check("energy")
        return self.millijoules[handle]


BUS_IDS = ("0000:01:00.0", "0000:02:00.0")


def test_the_millijoules_of_all_gpus_are_added():
    nvml = Nvml()
    with Meter(Found(counters.nvidia(nvml, BUS_IDS), None)) as meter:
        nvml.millijoules["0000:01:00.0"] += 1_500
        nvml.millijoules["0000:02:00.0"] += 2_500
    energy = meter.energy()
    assert energy.joules == pytest.approx(4)
    assert energy.kind == "measured"
    assert [part.counter for part in energy.parts] == [
        "NVIDIA A100 (0000:01:00.0)",
        "NVIDIA H100 (0000:02:00.0)",
    ]


def test_only_the_gpus_of_this_process_are_counted():
    nvml = Nvml()
    with Meter(Found(counters.nvidia(nvml, BUS_IDS[1:]), None)) as meter:
        nvml.millijoules["0000:01:00.0"] += 1_500
    assert meter.energy().joules == 0


@pytest.mark.parametrize("after", [0, 8_999])
def test_a_gpu_counter_that_goes_backwards_makes_the_record_unavailable(after):
    nvml = Nvml()
    with Meter(Found(counters.nvidia(nvml, BUS_IDS), None)) as meter:
        nvml.millijoules["0000:02:00.0"] = after  # the driver was loaded anew
    energy = meter.energy()
    assert energy.joules is None
    assert "which no wrap explains" in energy.reason


def test_a_gpu_that_vanishes_stops_the_record_not_the_work():
    nvml = Nvml()
    with Meter(Found(counters.nvidia(nvml, BUS_IDS), None)) as meter:
        nvml.broken.add("energy")
    assert "NVIDIA A100 (0000:01:00.0): nvmlDeviceGetTotal" in meter.energy().reason
    assert meter.energy().kind == "unavailable"


@pytest.mark.parametrize(
    ("nvml", "message"),
    [
        (Nvml(mig=1), "NVIDIA A100 .* is split into MIG slices"),
        (Nvml(broken=["energy"]), "TotalEnergyConsumption: .*Insufficient Permissions"),
        (Nvml(broken=["nvmlInit"]), "NVML cannot be used"),
        (Nvml(broken=["handle"]), "GPU 0000:01:00.0: nvmlDeviceGetHandle"),
    ],
    ids=["mig", "permission", "init", "handle"],
)
def test_a_gpu_without_a_usable_counter_is_explained(nvml, message):
    with pytest.raises(CounterError, match=message):
        counters.nvidia(nvml, BUS_IDS)


def test_a_gpu_that_cannot_be_split_is_not_split():
    assert len(counters.nvidia(Nvml(broken=["mig"]), BUS_IDS)) == 2


def test_devices_are_matched_by_pci_address_not_by_index():
    class Cuda:
        """A driver that numbers the GPUs the other way round than NVML."""

        def cuInit(self, flags):  # noqa: N802
            return 0

        def cuDeviceGet(self, device, ordinal):  # noqa: N802
            device._obj.value = 100 + ordinal
            return 0 if ordinal < 2 else 101

        def cuDeviceGetPCIBusId(self, text, size, device):  # noqa: N802
            address = BUS_IDS[101 - device.value].encode()
            ctypes.memmove(text, address, min(size, len(address)))
            return 0

    assert counters.bus_ids(Cuda(), [0, 1]) == [BUS_IDS[1], BUS_IDS[0]]
    with pytest.raises(CounterError, match="CUDA does not know its device 2: 101"):
        counters.bus_ids(Cuda(), [2])


class AmdGpus:
    """What `zeus.device.get_gpus()` gives on a machine with two AMD GPUs."""

    def __init__(self, reliable=True):
        self.reliable, self.millijoules = reliable, [100, 200]

    def supports_get_total_energy_consumption(self, index):
        return self.reliable

    def get_total_energy_consumption(self, index):
        return self.millijoules[index]

    def get_name(self, index):
        return "AMD Instinct MI300X"


def test_amd_gpus_are_counted_where_their_counter_is_reliable():
    gpus = AmdGpus()
    with Meter(Found(counters.amd(gpus, [0, 1]), None)) as meter:
        gpus.millijoules = [1_100, 2_200]
    assert meter.energy().joules == pytest.approx(3)
    with pytest.raises(CounterError, match="AMD GPU 1 has no reliable counter"):
        counters.amd(AmdGpus(reliable=False), [1])


@pytest.mark.parametrize(
    "fields",
    [
        {"total_energy_mj": 7_000.0, "cpu_energy_mj": 3_000.0},
        {"cpu_total_mj": 4_000, "dram_mj": 1_000, "gpu_mj": 2_000, "ane_mj": None},
    ],
    ids=["jetson", "apple"],
)
def test_a_system_on_a_chip_is_counted_whole(fields):
    reading = types.SimpleNamespace(**dict.fromkeys(fields, None))
    reading.total_energy_mj = 0.0 if "total_energy_mj" in fields else None
    reading.cpu_total_mj = 0
    soc = types.SimpleNamespace(get_total_energy_consumption=lambda: reading)
    with Meter(Found(counters.system_on_chip(soc), None)) as meter:
        reading.__dict__.update(fields)
    assert meter.energy().joules == pytest.approx(7)


def test_a_system_on_a_chip_that_counts_nothing_is_unavailable():
    empty = types.SimpleNamespace()
    soc = types.SimpleNamespace(get_total_energy_consumption=lambda: empty)
    with pytest.raises(CounterError, match="neither processor nor memory"):
        counters.system_on_chip(soc)


def test_a_tpu_is_unavailable_with_the_reason(monkeypatch):
    monkeypatch.setattr(counters.jax, "default_backend", lambda: "tpu")
    assert find().counters == ()
    assert "a TPU has no counter of energy, nor of power" in find().reason


def test_a_gpu_machine_without_rapl_says_what_it_leaves_out(monkeypatch, tmp_path):
    monkeypatch.setattr(counters.jax, "default_backend", lambda: "gpu")
    nvml = Nvml()
    monkeypatch.setattr(
        counters, "_accelerators", lambda: counters.nvidia(nvml, BUS_IDS)
    )
    found = find(tmp_path)
    assert found.missing == (f"the processor (no RAPL zones in {tmp_path})",)
    with Meter(found) as meter:
        nvml.millijoules["0000:01:00.0"] += 4_000
    assert meter.energy().kind == "measured"
    assert "without the processor (no RAPL zones" in str(meter.energy())
    # With an assumption for the processor, the total is as good as its worst part.
    with Meter(found, assumed=Assumed(100.0, 0.5)) as meter:
        nvml.millijoules["0000:01:00.0"] += 4_000
    energy = meter.energy()
    assert energy.kind == "estimated"
    assert energy.missing == ()
    assert energy.joules == pytest.approx(4 + 50 * energy.seconds)
    assert energy.measured_fraction == pytest.approx(4 / energy.joules)
    low, high = energy.band_joules
    assert low == pytest.approx(4 + 25 * energy.seconds)
    assert high == pytest.approx(4 + 100 * energy.seconds)


def test_one_counter_of_a_whole_chip_leaves_nothing_out(monkeypatch, tmp_path):
    monkeypatch.setattr(counters.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(counters, "_platform", lambda: "metal 1")
    soc = types.SimpleNamespace(
        get_total_energy_consumption=lambda: types.SimpleNamespace(total_energy_mj=7e3)
    )
    monkeypatch.setattr(counters, "_zeus", lambda getter: {"get_soc": soc}[getter])
    found = find(tmp_path)
    assert [counter.read() for counter in found.counters] == [7.0]
    assert (found.reason, found.missing) == (None, ())


def test_a_library_that_is_not_installed_is_named_with_its_command():
    with pytest.raises(
        CounterError, match=r"nothing-like-it is not .*dnc_jax\[energy\]"
    ):
        counters._imported("no_such_module", "nothing-like-it")


# Windows


class Steady:
    """A counter of a machine that takes 10 W idling, and more while it works."""

    name, device, range_joules = "steady", "steady", float("inf")

    def __init__(self, clock):
        self.clock, self.worked = clock, 0.0

    def read(self):
        return 10 * self.clock() + self.worked


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping and the test move."""
    now = [0.0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now[0])

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(meters.time, "sleep", sleep)
    return sleep, lambda: now[0]


def test_idle_power_is_read_before_and_after_and_taken_off(clock):
    sleep, now = clock
    counter = Steady(now)
    with Meter(Found((counter,), None), idle_seconds=0.5) as meter:
        counter.worked += 32.0
        sleep(4.0)
    energy = meter.energy()
    assert energy.seconds == 4
    assert energy.joules == pytest.approx(72)
    assert energy.idle_watts == pytest.approx(10)
    assert energy.dynamic_joules == pytest.approx(32)
    assert now() == 5, "half a second before and after"


def test_nobody_waits_for_idle_power_without_a_counter(clock):
    _, now = clock
    with Meter(Found((), "none here"), idle_seconds=0.5) as meter:
        pass
    assert now() == 0
    assert meter.energy().idle_watts is None


def test_an_assumed_power_is_an_estimate_with_a_band(clock):
    sleep, _ = clock
    with Meter(Found((), "none here"), assumed=Assumed(200.0, 0.4)) as meter:
        sleep(10.0)
    energy = meter.energy()
    assert energy.kind == "estimated"
    assert energy.joules == 800
    assert energy.band_joules == (400, 1600)
    assert energy.measured_fraction == 0
    assert "energy 800 J (400 to 1,600), estimated" in str(energy)


def test_an_assumption_never_replaces_a_counter(clock):
    sleep, now = clock
    with Meter(Found((Steady(now),), None), assumed=Assumed(200.0)) as meter:
        sleep(2.0)
    assert meter.energy().kind == "measured"
    assert meter.energy().joules == 20


def test_a_record_can_be_looked_at_while_the_work_goes_on(clock):
    sleep, now = clock
    with Meter(Found((Steady(now),), None)) as meter:
        sleep(3.0)
        assert meter.now().joules == 30
        sleep(1.0)
        assert meter.energy().joules == 30, "up to the last reading"
    assert meter.energy().joules == 40


def test_a_window_waits_for_its_outputs():
    import jax.numpy as jnp

    x = jnp.ones((512, 512))
    outputs, energy = meters.measure(Found((), "none"), lambda a: a @ a, x)
    assert outputs.is_ready()
    assert energy.seconds > 0


# Locks


def test_windows_inside_one_process_share_its_counters(clock):
    sleep, now = clock
    found = Found((Steady(now),), None)
    with Meter(found) as outer:
        sleep(1.0)
        with Meter(found) as inner:
            sleep(1.0)
    assert outer.energy().joules == 20
    assert inner.energy().joules == 10
    assert "steady" not in locks._HELD


OTHER = """
import sys, types
from dnc_jax.footprint import locks
device, platform, folder, locks.NAMESPACE = sys.argv[1:]
locks.sys = types.SimpleNamespace(platform=platform)
locks.tempfile.tempdir = folder
print(locks.acquire(device), flush=True)
sys.stdin.read()
"""


def test_a_lock_that_is_refused_is_not_called_another_process(monkeypatch):
    def refused(name):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(locks, "_open", refused)
    with Meter(Found((Steady(lambda: 0.0),), None)) as meter:
        pass
    reason = meter.energy().reason
    assert "steady cannot be locked: [Errno 1] Operation not permitted" in reason


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_device_is_counted_by_one_process_and_its_lock_dies_with_it(
    platform, monkeypatch, tmp_path
):
    monkeypatch.setattr(locks, "sys", types.SimpleNamespace(platform=platform))
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))
    device = f"test of locks {tmp_path}"
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, device, platform, str(tmp_path), locks.NAMESPACE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "True\n"
    counter = Steady(lambda: 0.0)
    counter.device = device
    with Meter(Found((counter,), None)) as meter:
        pass
    assert meter.energy().joules is None
    assert "another process of this machine counts steady" in meter.energy().reason
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    with Meter(Found((counter,), None)) as meter:
        pass
    assert meter.energy().joules == 0
    assert len(list(tmp_path.iterdir())) <= (platform != "linux")
