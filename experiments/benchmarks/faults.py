"""What becomes of a search that is killed, and of input that makes no sense.

  python -m experiments.benchmarks.faults

A search on digits is run once undisturbed, then killed (SIGKILL) at random moments and
started again until it ends, many times over; every trial, the winner and its weights
are compared bit for bit. One of two processes is killed likewise. Launch files get
malformed flags, configs and data files (`bad_inputs.py`, for which the test extra is
needed). A long search of small networks tells how memory grows. The last line is a JSON
object.
"""

import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
from absl import app, flags, logging

import dnc_jax
from dnc_jax.errors import InputError
from dnc_jax.report.folder import BEST, SUMMARY, TRIALS
from dnc_jax.search import MLPSpace, Objective
from dnc_jax.search.results import Callback
from dnc_jax.search.run import search
from dnc_jax.search.strategies import halving
from dnc_jax.search.trials import Trial, read
from dnc_jax.training.data import load
from experiments.benchmarks import bad_inputs

KILLS = flags.DEFINE_integer("kills", 50, "Kills of a search on digits.")
PROCESS_KILLS = flags.DEFINE_integer("process_kills", 10, "Of one of two processes.")
INPUTS = flags.DEFINE_integer("inputs", 200, "Random inputs to each launch file.")
SEED = flags.DEFINE_integer("kill_seed", 0, "Of the moments of the kills.")

SEARCH = (
    "--config.search.candidates=9",
    "--config.search.rungs=(10,30)",
    "--config.space.depth=(0,2)",
    "--config.space.batch_sizes=(64,)",
    "--config.train.epochs=40",
)


def command(workdir: pathlib.Path, *arguments: str) -> list[str]:
    """The search that is killed."""
    return [
        *(sys.executable, "-m", "experiments.search"),
        *(f"--workdir={workdir}", *SEARCH, *arguments),
    ]


def run(workdir: pathlib.Path, seconds: float | None = None) -> tuple[float, bool]:
    """Seconds of a run, and whether it ended before it was killed."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        command(workdir), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return time.perf_counter() - begin, False
    if process.returncode:
        raise RuntimeError(f"the search failed: {error.decode()[-2000:]}")
    return time.perf_counter() - begin, True


def trials(workdir: pathlib.Path) -> dict[tuple[int, int], Trial]:
    """What the store holds, without the only field that time changes."""
    try:
        stored = read(workdir / TRIALS)[1]
    except InputError:  # killed before there was one
        return {}
    return {
        (t.candidate_id, t.rung): dataclasses.replace(t, seconds=0.0) for t in stored
    }


def outcome(workdir: pathlib.Path) -> list[Any]:
    """All of a finished search that must not depend on interruptions."""
    summary = json.loads((workdir / SUMMARY).read_text())
    names = ("best", "best_val_accuracy", "test_accuracy", "score")
    network = dnc_jax.load(workdir / BEST)
    weights = [
        {k: np.asarray(v).tobytes() for k, v in j.items()} for j in network.params
    ]
    return [trials(workdir), [summary[name] for name in names], weights]


def kills(folder: pathlib.Path, count: int, rng: random.Random) -> dict[str, Any]:
    """Kills searches `count` times, and finishes the last one."""
    run(folder / "first")  # which measures the machine, and compiles
    whole_seconds, _ = run(folder / "whole")
    whole = outcome(folder / "whole")
    lost = different = finished = done = 0
    seconds, overheads = 0.0, []
    workdir, killed, before = folder / "killed", 0, {}
    while done < count or killed:
        moment = rng.uniform(0.5, whole_seconds) if done < count else None
        spent, ended = run(workdir, moment)
        seconds += spent
        after = trials(workdir)
        lost += sum(after.get(place) != trial for place, trial in before.items())
        before = after
        if not ended:
            done, killed = done + 1, killed + 1
            continue
        finished += 1
        different += outcome(workdir) != whole
        if killed:
            overheads.append((seconds - whole_seconds) / killed)
        shutil.rmtree(workdir)
        seconds, killed, before = 0.0, 0, {}
    return {
        "kills": done,
        "killed_searches": finished,
        "lost_trials": lost,
        "different_results": different,
        "search_seconds": whole_seconds,
        "resume_overhead_seconds": statistics.mean(overheads),
        "resume_overhead_seconds_worst": max(overheads),
    }


def memory() -> dict[str, Any]:
    """Resident memory over 200 rungs of small networks, after 50 others."""
    data = load("digits")
    space = MLPSpace(data.inputs, data.outputs, depth=(0, 0), batch_sizes=(128,))
    strategy = halving(space, candidates=4, rungs=(1,), brackets=250)
    resident: list[int] = []

    class Watch(Callback):
        def on_rung_end(
            self, trials: Sequence[Trial], resumed: bool, flops: int
        ) -> None:
            resident.append(psutil.Process().memory_info().rss)

    search(space, data, Objective(), strategy, seed=0, callback=Watch())
    return {
        "rungs": len(resident) - 50,
        "memory_growth": resident[-1] / resident[49] - 1,
        "memory_bytes": resident[-1],
    }


def process_kills(
    folder: pathlib.Path, count: int, rng: random.Random
) -> dict[str, Any]:
    """Kills one of two processes, waits for the other, and starts both again."""
    run(folder / "alone")
    whole = outcome(folder / "alone")
    slowest, silent, different = 0.0, 0, 0
    for number in range(count):
        workdir = folder / f"pair-{number}"
        processes = pair(workdir)
        while not list(workdir.glob("under_way/rung-*")):
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 1))
        victim = rng.randrange(2)
        processes[victim].kill()
        begin = time.perf_counter()
        _, error = processes[1 - victim].communicate(timeout=600)
        slowest = max(slowest, time.perf_counter() - begin)
        clear = "another process" in error or "another task died" in error
        silent += processes[1 - victim].returncode == 0 or not clear
        processes[victim].communicate()
        for process in pair(workdir):
            _, error = process.communicate(timeout=600)
            if process.returncode:
                raise RuntimeError(error)
        different += outcome(workdir) != whole
    return {
        "process_kills": count,
        "process_kill_seconds": slowest,
        "process_kills_unclear": silent,
        "process_kills_different_results": different,
    }


def pair(workdir: pathlib.Path) -> list[subprocess.Popen[str]]:
    """Two processes that make one search."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    flags = [f"--coordinator_address={address}", "--processes=2"]
    return [
        subprocess.Popen(
            command(workdir, *flags, f"--process_id={number}"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]


def main(argv: list[str]) -> None:
    """Everything, in a temporary folder."""
    del argv
    logging.set_verbosity(logging.WARNING)  # Orbax narrates
    os.environ["JAX_PLATFORMS"] = "cpu"
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        # First, while this process has no threads: it forks.
        result |= bad_inputs.main(INPUTS.value)
        print(json.dumps(result), flush=True)
        rng = random.Random(SEED.value)
        result |= kills(folder, KILLS.value, rng)
        print(json.dumps(result), flush=True)
        result |= process_kills(folder, PROCESS_KILLS.value, rng)
    result |= memory()
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
