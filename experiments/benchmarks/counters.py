"""A GPU's energy counter against the integral of its sampled power.

  python -m experiments.benchmarks.counters [--seconds=12]

Matrix products keep the GPU busy for so many seconds, then it rests for a quarter as
long, while a thread asks NVML for the power every few milliseconds. The last line is a
JSON object: `counter_over_integral` is what `footprint.Meter` counted, over the
integral of the samples (aim: within 5 %), and `reading_ms` what a reading costs.
"""

import json
import threading
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from dnc_jax.errors import load_tool
from dnc_jax.footprint import Meter
from dnc_jax.footprint.counters import Found, Nvidia, find

SECONDS = flags.DEFINE_float("seconds", 12.0, "Of work.")
SAMPLE_SECONDS = 0.005
SIDE = 8192  # of the matrices
READINGS = 100


def main(argv: Sequence[str]) -> None:
    """Measures and prints."""
    del argv
    found = find()
    gpus = [one for one in found.counters if isinstance(one, Nvidia)]
    if len(gpus) != 1:
        raise app.UsageError(f"one NVIDIA GPU with a counter is needed, got {found}")
    x = jax.random.normal(jax.random.key(0), (SIDE, SIDE), jnp.bfloat16)
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    sampler = Sampler(gpus[0])
    with Meter(Found(tuple(gpus), None)) as meter, sampler:
        begin = time.perf_counter()
        while time.perf_counter() - begin < SECONDS.value:
            # Of the same numbers each time: powers of a matrix end as zeros, which a
            # GPU multiplies with less energy.
            jax.block_until_ready([product(x) for _ in range(20)])
        time.sleep(SECONDS.value / 4)
    counted, integral = meter.energy(), sampler.joules()
    begin = time.perf_counter()
    for _ in range(READINGS):
        gpus[0].read()
    reading = (time.perf_counter() - begin) / READINGS
    result = {
        "device": gpus[0].name,
        "seconds": round(counted.seconds, 2),
        "samples": len(sampler.watts),
        "most_watts": max(sampler.watts),
        "counter_joules": counted.joules,
        "integral_joules": round(integral, 1),
        "counter_over_integral": round((counted.joules or 0) / integral, 4),
        "reading_ms": round(1e3 * reading, 3),
    }
    print(json.dumps(result))


class Sampler:
    """Power of a GPU from entering to leaving a `with` block."""

    def __init__(self, gpu: Nvidia) -> None:
        pynvml = load_tool("pynvml", "energy", "nvidia-ml-py")
        self.seconds: list[float] = []
        self.watts: list[float] = []
        self._nvml = pynvml
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.device)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def joules(self) -> float:
        """By the trapezoidal rule."""
        return float(np.trapezoid(self.watts, self.seconds))

    def _sample(self) -> None:
        while not self._over.is_set():
            self.watts.append(self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3)
            self.seconds.append(time.perf_counter())
            time.sleep(SAMPLE_SECONDS)


if __name__ == "__main__":
    app.run(main)
