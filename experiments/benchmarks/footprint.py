"""What measuring costs, and how right the counts and forecasts are.

  python -m experiments.benchmarks.footprint

Searches the embedded digits with counters on a copy of the kernel's powercap folder:
two packages with memory, read as often as a search with a cap on energy reads them. The
last line is a JSON object.
"""

import json
import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence

import jax
import numpy as np
from absl import app

from dnc_jax.footprint import Meter, find, step_work
from dnc_jax.footprint.attribution import MICROJOULES
from dnc_jax.networks import MLP, Architecture
from dnc_jax.networks.patterns import Patterns
from dnc_jax.search import Objective, make_space
from dnc_jax.search.budget import Budget
from dnc_jax.search.run import search
from dnc_jax.search.strategies import halving
from dnc_jax.training import trainer
from dnc_jax.training.data import Split, View, load
from experiments.configs import digits

READINGS = 1000
ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:1:0": "dram",
}
NETWORKS = {
    "784_400_400_10": (MLP(784, (400, 400), 10, "tanh", 0.3), 128),
    "512_512_512_10": (MLP(512, (512, 512), 10), 256),
    "784_10": (MLP(784, (), 10), 64),
}


class Timed(Meter):
    """A meter that knows how long it read."""

    reading_seconds = 0.0

    def _read(self) -> None:
        begin = time.perf_counter()
        super()._read()
        self.reading_seconds += time.perf_counter() - begin


def powercap(root: pathlib.Path) -> None:
    """Zones whose counters stand still at first."""
    for folder, name in ZONES.items():
        zone = root / folder
        zone.mkdir()
        (zone / "name").write_text(f"{name}\n")
        (zone / "energy_uj").write_text("0\n")
        (zone / "max_energy_range_uj").write_text("262143328850\n")


def reading_ms(root: pathlib.Path) -> float:
    """Median milliseconds of one reading of all four counters."""
    times = []
    with Meter(find(root)) as meter:
        for _ in range(READINGS):
            begin = time.perf_counter()
            meter.now()
            times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def spin(root: pathlib.Path, stop: threading.Event) -> None:
    """Moves the counters as a machine of 4 x 25 W does."""
    begin = time.perf_counter()
    while not stop.wait(0.01):
        joules = 25 * (time.perf_counter() - begin)
        for folder in ZONES:
            target = root / folder / "energy_uj"
            partial = target.with_suffix(".partial")
            partial.write_text(f"{int(1e6 * joules)}\n")
            partial.replace(target)


def searched(root: pathlib.Path) -> dict[str, float]:
    """A short search with a cap that is never reached."""
    data = load("digits")
    space = make_space(data, **digits.get_config().space)
    stop = threading.Event()
    spinner = threading.Thread(target=spin, args=(root, stop))
    spinner.start()
    meter = Timed(find(root), idle_seconds=0.5)
    with meter:
        result = search(
            space,
            data,
            Objective(),
            halving(space, candidates=16, rungs=(3, 9, 27)),
            seed=0,
            budget=Budget(watt_hours=1000.0),
            meter=meter,
        )
    stop.set()
    spinner.join()
    shares, forecast = result.attribution, result.forecast
    assert shares.joules is not None
    assert forecast is not None
    parts = sum(round((t.joules or 0) * MICROJOULES) for t in result.trials)
    parts += round((shares.overhead_joules or 0) * MICROJOULES)
    return {
        "search_seconds": round(result.search_seconds, 2),
        "meter_share": meter.reading_seconds / result.search_seconds,
        "search_joules": round(shares.joules, 2),
        "shares_minus_total_microjoules": parts - round(shares.joules * MICROJOULES),
        "overhead_share": round((shares.overhead_joules or 0) / shares.joules, 3),
        "taken_over_forecast": round(
            result.search_seconds / forecast.search.seconds.value, 3
        ),
    }


def xla_flops(
    network: Architecture, batch_size: int, steps: int = 3, patterns: Patterns = ()
) -> float:
    """XLA's count for a compiled epoch; it counts a loop's body once, so for a step."""
    state = jax.eval_shape(lambda: trainer.init(jax.random.key(0), network, patterns))
    rows = steps * batch_size
    data = Split(np.zeros((rows, network.inputs), np.float32), np.zeros(rows, np.int32))
    compiled = trainer.train_epoch.lower(
        state,
        network,
        batch_size,
        trainer.Settings(np.float32(0.001), np.float32(0.0001), np.uint32(0), patterns),
        np.arange(rows, dtype=np.int32),
        data,
        View(np.zeros(1, np.float32), np.ones(1, np.float32)),
    ).compile()
    return (compiled.cost_analysis() or {})["flops"]


def main(argv: Sequence[str]) -> None:
    """Measures and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        powercap(root)
        result["reading_ms"] = round(reading_ms(root), 4)
        result |= searched(root)
    for name, network in NETWORKS.items():
        ratio = step_work(*network).flops / xla_flops(*network)
        result[f"flops_over_xla_{name}"] = round(ratio, 4)
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
