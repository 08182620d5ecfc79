"""How large report.html of a long search is, and how long it takes to write and open.

  python -m experiments.benchmarks.report

A work folder of 1,000 made-up candidates in three rungs; its report is opened in the
installed Chromium, by Playwright, a fresh browser each time, until its first plot is
drawn. The last line is a JSON object.
"""

import json
import pathlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence

import jax
import numpy as np
from absl import app, flags
from playwright import sync_api

from dnc_jax.footprint import complexity
from dnc_jax.report import page
from dnc_jax.report.folder import TRIALS, Moment, add_moment
from dnc_jax.search import MLPSpace, Store, Trial

CANDIDATES = flags.DEFINE_integer("candidates", 1_000, "In the first of three rungs.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Times that the report is opened.")
RUNGS = (1, 3, 9)


def fill(workdir: pathlib.Path, count: int) -> int:
    """Trials as halving leaves them, with random curves; returns how many."""
    rng = np.random.default_rng(0)
    space = MLPSpace(784, 10)
    alive = list(enumerate(space.sample(jax.random.key(0), count)))
    total = 0
    with Store(workdir / TRIALS, {}) as store:
        for rung, epochs in enumerate(RUNGS):
            trials = []
            for number, candidate in alive:
                curve = np.sort(rng.uniform(0.3, 0.98, epochs))
                trials.append(
                    Trial(
                        number,
                        candidate,
                        rung,
                        epochs,
                        tuple((1 - curve).tolist()),
                        tuple(curve.tolist()),
                        complexity(candidate.architecture),
                        float(np.log10(1 - curve[-1])),
                        0.1,
                        "done",
                        joules=float(5 * epochs),
                    )
                )
            store.add(trials)
            done = tuple((trial.candidate_id, rung) for trial in trials)
            add_moment(workdir, Moment(done, 10.0 * rung, 50.0 * rung, 10**9 * rung))
            total += len(trials)
            alive = alive[: len(alive) // 3]
    return total


def opened(path: pathlib.Path) -> float:
    """Seconds from the address to the first plot in a browser that has just started."""
    with sync_api.sync_playwright() as manager:
        browser = manager.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page()
        begin = time.perf_counter()
        tab.goto(path.as_uri())
        tab.locator(".plot svg").first.wait_for()
        seconds = time.perf_counter() - begin
        browser.close()
    return seconds


def main(argv: Sequence[str]) -> None:
    """Writes one report and opens it several times."""
    del argv
    with tempfile.TemporaryDirectory() as temporary:
        workdir = pathlib.Path(temporary)
        trials = fill(workdir, CANDIDATES.value)
        begin = time.perf_counter()
        path = page.write(workdir)
        written = time.perf_counter() - begin
        seconds = [opened(path) for _ in range(REPEATS.value)]
        result = {
            "trials": trials,
            "report_mb": round(path.stat().st_size / 1e6, 2),
            "write_seconds": round(written, 2),
            "open_seconds": round(statistics.median(seconds), 2),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
