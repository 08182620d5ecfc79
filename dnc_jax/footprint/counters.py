"""Sources of cumulative joules: processors, memory and accelerators.

A counter counts joules since some moment in the past. On Linux the processor's are
those of powercap (RAPL): packages and memory, and never `psys`, which contains the
package. NVIDIA's count since the driver was loaded; AMD's, Apple's and Jetson's come
from the library `zeus`. A TPU has none.
"""

import ctypes
import math
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.extend

from dnc_jax.errors import InputError, load_tool

POWERCAP = pathlib.Path("/sys/class/powercap")


class CounterError(Exception):
    """A counter cannot be read; the message says which, why and what would help."""


@runtime_checkable
class Counter(Protocol):
    """A source of cumulative joules."""

    name: str
    device: str  # the same in every process of this machine
    range_joules: float  # at which it starts again from 0

    def read(self) -> float:
        """Joules so far.

        Raises:
          CounterError: it cannot be read (any more).
        """
        ...


class Found(NamedTuple):
    """Counters of this machine; if there are none, why; and what they leave out.

    Attributes:
      counters: disjoint: nothing is counted by two of them.
      reason: why there are none.
      missing: parts of the machine that do work and have no counter, each with why.
    """

    counters: tuple[Counter, ...]
    reason: str | None
    missing: tuple[str, ...] = ()


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
        self.device = str(zone)
        self.range_joules = _microjoules(zone / "max_energy_range_uj")
        self.read()

    def read(self) -> float:
        """Joules since the counter last wrapped."""
        return _microjoules(self._zone / "energy_uj")


class Nvidia:
    """One NVIDIA GPU, Volta or later, through NVML.

    On A100 and H100 the sensor behind the counter looks a quarter of the time
    (arXiv 2312.02741), so that windows of seconds have wide error bars.

    Args:
      nvml: the module `pynvml`, initialised.
      bus_id: PCI address of the GPU.

    Raises:
      CounterError: NVML does not count this GPU, or it is split into MIG slices.
    """

    range_joules = math.inf  # 64 bits of millijoules

    def __init__(self, nvml: Any, bus_id: str) -> None:
        self._nvml = nvml
        self.name = f"GPU {bus_id}"
        self._handle = self._ask("nvmlDeviceGetHandleByPciBusId", bus_id)
        self.device = _string(self._ask("nvmlDeviceGetUUID", self._handle))
        self.name = (
            f"{_string(self._ask('nvmlDeviceGetName', self._handle))} ({bus_id})"
        )
        try:
            sliced = nvml.nvmlDeviceGetMigMode(self._handle)[0]
        except nvml.NVMLError:  # a GPU that cannot be split
            sliced = False
        if sliced:
            raise CounterError(
                f"{self.name} is split into MIG slices; its counter is of them all"
            )
        self.read()

    def read(self) -> float:
        """Joules since the driver was loaded."""
        return self._ask("nvmlDeviceGetTotalEnergyConsumption", self._handle) / 1e3

    def _ask(self, function: str, argument: Any) -> Any:
        try:
            return getattr(self._nvml, function)(argument)
        except self._nvml.NVMLError as error:
            raise CounterError(f"{self.name}: {function}: {error}") from error


class Zeus:
    """A device that the library `zeus` counts: an AMD GPU, or a system on a chip.

    Args:
      name: for people.
      device: unique on this machine.
      millijoules: of the device so far.

    Raises:
      CounterError: it cannot be read.
    """

    range_joules = math.inf

    def __init__(self, name: str, device: str, millijoules: Any) -> None:
        self.name, self.device, self._millijoules = name, device, millijoules
        self.read()

    def read(self) -> float:
        """Joules since a moment of the library's choice."""
        # Every vendor's library raises errors of its own.
        try:
            return float(self._millijoules()) / 1e3
        except Exception as error:
            raise CounterError(f"{self.name} cannot be read: {error}") from error


def find(root: pathlib.Path = POWERCAP) -> Found:
    """The counters that together cover what this process computes on.

    Args:
      root: the powercap folder.

    Returns:
      On a CPU, packages and memory of all processors; none, with a reason, where one
      of them is unreadable, because part of an energy is not an energy. On an
      accelerator its counters, and the processor's where there are any. `missing` names
      the processor or the memory that has none.
    """
    backend = jax.default_backend()
    host = _host(root)
    if backend == "cpu":
        return host
    if backend == "tpu":
        return Found((), "a TPU has no counter of energy, nor of power")
    try:
        if _is_whole_chip():
            return Found(system_on_chip(_zeus("get_soc")), None)
        counters = _accelerators()
    except CounterError as error:
        return Found((), str(error))
    missing = host.missing if host.counters else (f"the processor ({host.reason})",)
    return Found((*counters, *host.counters), None, missing)


def nvidia(nvml: Any, bus_ids: Sequence[str]) -> tuple[Counter, ...]:
    """The counters of GPUs by their PCI addresses.

    Raises:
      CounterError: NVML cannot be used, or one of them is not counted.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise CounterError(f"NVML cannot be used: {error}") from error
    return tuple(Nvidia(nvml, bus_id) for bus_id in bus_ids)


def amd(gpus: Any, indices: Iterable[int]) -> tuple[Counter, ...]:
    """The counters of AMD GPUs by their HIP indices; `gpus` as zeus gives them.

    Raises:
      CounterError: one of them is not counted, as in a guest of a virtual machine.
    """
    result: list[Counter] = []
    for index in indices:
        if not gpus.supports_get_total_energy_consumption(index):
            raise CounterError(f"AMD GPU {index} has no reliable counter of energy")

        def millijoules(index: int = index) -> int | float:
            return gpus.get_total_energy_consumption(index)

        name = f"{gpus.get_name(index)} ({index})"
        result.append(Zeus(name, f"amd {index}", millijoules))
    return tuple(result)


def system_on_chip(soc: Any) -> tuple[Counter, ...]:
    """The counter of an Apple or Jetson chip; `soc` as zeus gives it.

    Raises:
      CounterError: it cannot be read.
    """

    def millijoules() -> int | float:
        reading = soc.get_total_energy_consumption()
        whole = getattr(reading, "total_energy_mj", None)  # Jetson
        if whole is not None:
            return whole
        fields = ("cpu_total_mj", "dram_mj", "gpu_mj", "gpu_sram_mj", "ane_mj")
        parts = [getattr(reading, field, None) for field in fields]
        known = [part for part in parts if part is not None]
        if not known:
            raise ValueError("it counts neither processor nor memory")
        return sum(known)

    return (Zeus(type(soc).__name__, "system on a chip", millijoules),)


def bus_ids(cuda: Any, ordinals: Iterable[int]) -> list[str]:
    """PCI addresses of CUDA devices, whatever CUDA_VISIBLE_DEVICES and their order.

    CUDA and NVML number GPUs differently, so an index of the one is not one of the
    other; the driver knows both.

    Args:
      cuda: the driver library, `libcuda`.
      ordinals: CUDA's numbers of the devices in this process.

    Raises:
      CounterError: the driver refuses.
    """
    result = []
    for ordinal in ordinals:
        device, text = ctypes.c_int(), ctypes.create_string_buffer(32)
        code = (
            cuda.cuInit(0)
            or cuda.cuDeviceGet(ctypes.byref(device), ordinal)
            or cuda.cuDeviceGetPCIBusId(text, len(text), device)
        )
        if code:
            raise CounterError(f"CUDA does not know its device {ordinal}: {code}")
        result.append(text.value.decode())
    return result


def _platform() -> str:
    return jax.extend.backend.get_backend().platform_version.lower()


def _is_whole_chip() -> bool:
    """Whether processor, memory and GPU are one chip, which one counter counts."""
    jetson = pathlib.Path("/etc/nv_tegra_release").exists()  # NVML does not count it
    return jetson or "metal" in _platform() or "mps" in _platform()


def _accelerators() -> tuple[Counter, ...]:
    ordinals = [
        index
        for device in jax.local_devices()
        if (index := device.local_hardware_id) is not None
    ]
    if "rocm" in _platform():
        return amd(_zeus("get_gpus"), ordinals)
    nvml = _imported("pynvml", "nvidia-ml-py")
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise CounterError(f"the CUDA driver cannot be opened: {error}") from error
    return nvidia(nvml, bus_ids(cuda, ordinals))


def _host(root: pathlib.Path) -> Found:
    if sys.platform == "darwin":
        try:
            return Found(system_on_chip(_zeus("get_soc")), None)
        except CounterError as error:
            return Found((), str(error))
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
    memory = "dram" in names.values()
    return Found(counters, None, () if memory else ("the memory (no dram zone)",))


def _zeus(getter: str) -> Any:
    module = _imported("zeus.device", "zeus")
    try:
        return getattr(module, getter)()
    except Exception as error:  # of whichever vendor's library
        raise CounterError(f"zeus finds no counter: {error}") from error


def _imported(module: str, package: str) -> Any:
    try:
        return load_tool(module, "energy", package)
    except InputError as error:
        raise CounterError(str(error)) from error


def _string(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


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
