"""A search of MLPs on MNIST against Optuna over PyTorch, for the same seconds.

  python -m experiments.benchmarks.search_mlp --data_dir=DIR --peer_python=PYTHON

PYTHON is an interpreter with torch and optuna (`optuna_torch.py` runs in it). The
two take turns, seed by seed, each in a fresh process on all cores, ours with nothing
compiled. Data are read and split before the clock starts, for both. Then the first
64 candidates of seed 0 are trained for one epoch by both, because a candidate-epoch
of one tool need not be as large as one of the other. The last line is a JSON object.
"""

import json
import math
import pathlib
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from dnc_jax.search import Candidate, Objective, make_space
from dnc_jax.search.budget import Budget
from dnc_jax.search.results import Callback
from dnc_jax.search.run import search
from dnc_jax.search.strategies import make
from dnc_jax.training import population
from dnc_jax.training.data import Dataset, Split, load
from experiments.benchmarks.common import run_json, train_seconds
from experiments.configs import mnist_mlp

DATA_DIR = flags.DEFINE_string("data_dir", "", "TFDS data directory with mnist.")
PEER = flags.DEFINE_string("peer_python", None, "Python with torch and optuna.")
SECONDS = flags.DEFINE_float("seconds", 120.0, "Of each search.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Searches of each tool.")
TARGETS = (0.975, 0.978)


class Curve(Callback):
    """The best validation accuracy so far, by time."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.points: list[tuple[float, float]] = []

    def on_epoch(self, accuracies: Sequence[float]) -> None:
        """Adds a point."""
        best = max([*accuracies, *(p[1] for p in self.points[-1:])])
        self.points.append((time.perf_counter() - self.begin, best))


def ours(path: str, seconds: float, seed: int) -> dict[str, Any]:
    """One search with the strategy of configs/mnist_mlp.py, bracket after bracket."""
    config = mnist_mlp.get_config()
    data = _dataset(path)
    space = make_space(data, **config.space)
    schedule = {**config.search, "brackets": 1000}
    curve = Curve()
    result = search(
        space,
        data,
        Objective(**config.objective),
        make(space, **schedule),
        seed=seed,
        budget=Budget(seconds=seconds),
        callback=curve,
    )
    return {
        "candidate_epochs": result.candidate_epochs,
        "seconds": result.search_seconds,
        "compile_seconds": result.compile_seconds,
        "curve": curve.points,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def replay(path: str, candidates: str) -> dict[str, Any]:
    """One epoch of given candidates, with nothing compiled and then once more."""
    programs = population.Programs(_dataset(path), jax.random.key(0))
    jobs = [
        population.Job(c.architecture, c.hyperparameters, jax.random.key(i), 0, 1, 1)
        for i, c in enumerate(_candidates(candidates))
    ]
    cold, warm = train_seconds(jobs, programs, turns=2)
    return {"cold_seconds": cold, "warm_seconds": warm, "count": len(jobs)}


def _candidates(path: str) -> list[Candidate]:
    return [Candidate.from_json(c) for c in json.loads(pathlib.Path(path).read_text())]


def _dataset(path: str) -> Dataset:
    with np.load(path) as file:
        rows = dict(file)
    train = Split(rows["x_train"], rows["y_train"])
    validation = Split(rows["x_val"], rows["y_val"])
    # The search never looks at the test rows; this benchmark has none.
    return Dataset(
        "mnist", 10, train, validation, validation, rows["mean"], rows["scale"]
    )


def _seconds_to(target: float, runs: Sequence[dict[str, Any]]) -> float | None:
    reached = [
        min((t for t, accuracy in run["curve"] if accuracy >= target), default=math.inf)
        for run in runs
    ]
    median = statistics.median(reached)
    return round(median, 1) if math.isfinite(median) else None


def main(argv: Sequence[str]) -> None:
    """Runs both tools in turn; as a worker, one run of ours."""
    if len(argv) > 1:
        kind, *arguments = argv[1:]
        if kind == "ours":
            path, seconds, seed = arguments
            print(json.dumps(ours(path, float(seconds), int(seed))))
        else:
            print(json.dumps(replay(*arguments)))
        return
    if not PEER.value:
        raise app.UsageError("--peer_python=PYTHON with torch and optuna is needed")
    rival = (PEER.value, str(pathlib.Path(__file__).with_name("optuna_torch.py")))
    worker = (sys.executable, "-m", "experiments.benchmarks.search_mlp")
    mine: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows.npz"
        for seed in range(SEEDS.value):
            data = load("mnist", data_dir=DATA_DIR.value, seed=seed)
            np.savez(
                path,
                x_train=data.train.x,
                y_train=data.train.y,
                x_val=data.validation.x,
                y_val=data.validation.y,
                mean=data.mean,
                scale=data.scale,
            )
            arguments = (path, str(SECONDS.value), str(seed))
            mine.append(run_json([*worker, "ours", *arguments]))
            theirs.append(run_json([*rival, "search", *arguments]))
            for name, runs in (("ours", mine), ("optuna", theirs)):
                run = runs[-1]
                print(
                    f"seed {seed} {name}: {run['candidate_epochs']} candidate-epochs "
                    f"in {run['seconds']:.1f} s, best {run['curve'][-1][1]:.4f}",
                    flush=True,
                )
        space = make_space(_dataset(path), **mnist_mlp.get_config().space)
        candidates = f"{folder}/candidates.json"
        pathlib.Path(candidates).write_text(
            json.dumps([c.to_json() for c in space.sample(jax.random.key(0), 64)])
        )
        again = run_json([*worker, "replay", path, candidates])
        torch_seconds = run_json([*rival, "replay", path, candidates])["seconds"]

    def rate(runs: Sequence[dict[str, Any]]) -> float:
        return statistics.median(r["candidate_epochs"] / r["seconds"] for r in runs)

    result: dict[str, Any] = {
        "ours_ce_per_s": round(rate(mine), 3),
        "optuna_ce_per_s": round(rate(theirs), 3),
        "ratio": round(rate(mine) / rate(theirs), 3),
    }
    for target in TARGETS:
        name = f"0{round(1000 * target)}"
        result[f"ours_seconds_to_{name}"] = _seconds_to(target, mine)
        result[f"optuna_seconds_to_{name}"] = _seconds_to(target, theirs)
    result["ours_best"] = [run["curve"][-1][1] for run in mine]
    result["optuna_best"] = [run["curve"][-1][1] for run in theirs]
    result["ours_compile_seconds"] = round(
        statistics.median(run["compile_seconds"] for run in mine), 1
    )
    result["ours_peak_bytes"] = max(run["peak_bytes"] for run in mine)
    result["replay_ratio_cold"] = round(torch_seconds / again["cold_seconds"], 3)
    result["replay_ratio_warm"] = round(torch_seconds / again["warm_seconds"], 3)
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
