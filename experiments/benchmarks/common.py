"""What benchmarks share: random data, networks, workers, the time of a population."""

import json
import pathlib
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from dnc_jax.networks import CNN, MLP
from dnc_jax.training import Hyperparameters, population
from dnc_jax.training.data import Dataset, Split

LARGE = CNN((32, 32, 3), (32,) * 6, 10, downsampling=("", "pool", "", "pool", "", ""))


def pictures(rows: int, shape: tuple[int, ...]) -> Dataset:
    """Random pictures of 10 classes, a quarter as many of them for validation."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        x = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        return Split(x, (np.arange(count) % 10).astype(np.int32))

    held_out = split(max(10, rows // 4))
    ones = np.ones(1, np.float32)
    return Dataset("random", 10, split(rows), held_out, held_out, 128 * ones, ones / 64)


def train_seconds(
    jobs: Sequence[population.Job], programs: population.Programs, turns: int
) -> list[float]:
    """Of training all jobs, turn after turn; the first one compiles."""
    times = []
    for _ in range(turns):
        begin = time.perf_counter()
        population.train(jobs, programs)
        times.append(time.perf_counter() - begin)
    return times


def torch_json(python: str, **asked: Any) -> dict[str, Any]:
    """What `torch_loop.py` answers in an interpreter with torch."""
    peer = pathlib.Path(__file__).with_name("torch_loop.py")
    return run_json([python, str(peer)], asked)


def described(network: MLP | CNN, training: Hyperparameters) -> dict[str, Any]:
    """A network as `torch_loop.py` takes it."""
    common = {"activation": network.activation, "batch_size": training.batch_size}
    if isinstance(network, MLP):
        return common | {
            "hidden": list(network.hidden),
            "dropout": network.dropout,
            "learning_rate": training.learning_rate,
            "weight_decay": training.weight_decay,
        }
    return common | {
        "channels": list(network.channels),
        "pools": [one.pool for one in network.convolutions],
        "strides": [one.stride for one in network.convolutions],
        "batch_norm": [one.batch_norm for one in network.convolutions],
        "dropout": [one.dropout for one in network.convolutions],
        "shortcuts": [(start, start + 2) for start in network.shortcut_starts],
    }


def run_json(command: Sequence[str], asked: Any = None) -> dict[str, Any]:
    """The last line that a process of its own prints, which is JSON.

    Args:
      command: to run.
      asked: as JSON on its standard input.
    """
    process = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise RuntimeError(f"{command} failed: {process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])
