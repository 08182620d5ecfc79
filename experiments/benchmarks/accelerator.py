"""Many networks at once on an accelerator, against one at a time on the same device.

  python -m experiments.benchmarks.accelerator --hardware=H200
      [--peer_python=PYTHON]

An epoch of sampled MLPs, of sampled CNNs, and of CNNs of one structure, on random data
of MNIST's and CIFAR-10's sizes: only time is measured, compiling left out. "At once" is
what a search does, by a plan with constants measured on the device; "alone" trains a
few of the same networks one after another, and PYTHON, which has torch, does so in an
eager loop on the same GPU. Then the steps of one CNN population in both forms of
convolutions, beside what the cost model says. Needs no package besides dnc_jax's own.
The last line is a JSON object; ratios above 1 say that "at once" is faster.
"""

import json
import statistics
import time
from collections.abc import Sequence
from typing import Any
from unittest import mock

import jax
from absl import app, flags

from dnc_jax.footprint import training_work
from dnc_jax.footprint.hardware import chip
from dnc_jax.networks import CNN, Architecture
from dnc_jax.search import make_space
from dnc_jax.training import Hyperparameters, costs, machine, plan, population
from dnc_jax.training.data import Dataset
from experiments.benchmarks.common import (
    LARGE,
    described,
    pictures,
    torch_json,
    train_seconds,
)

MLPS = flags.DEFINE_integer("mlps", 256, "Sampled MLPs.")
CNNS = flags.DEFINE_integer("cnns", 64, "Sampled CNNs, and CNNs of one structure.")
HARDWARE = flags.DEFINE_string(
    "hardware", "", "Name in footprint/data/hardware.csv; empty: no share of the peak."
)
ALONE = flags.DEFINE_integer("alone", 8, "Networks of each that are trained alone.")
PEER = flags.DEFINE_string("peer_python", None, "Python with torch for this GPU.")
ROWS = flags.DEFINE_integer("rows", 48_000, "Training rows.")


def main(argv: Sequence[str]) -> None:
    """Measures and prints."""
    del argv
    device = jax.devices()[0]
    begin = time.perf_counter()
    cost, _ = machine.measure()
    result: dict[str, Any] = {
        "device": device.device_kind,
        "constants_seconds": time.perf_counter() - begin,
    }
    print(f"{device.device_kind}: {cost}", flush=True)
    mnist, cifar = (pictures(ROWS.value, shape) for shape in ((28, 28, 1), (32, 32, 3)))
    kinds = {
        "mlps": (mnist, sampled(mnist, MLPS.value, kind="mlp", depth=(0, 3))),
        "cnns": (cifar, sampled(cifar, CNNS.value, kind="cnn")),
        "cnns_of_one_structure": (cifar, [job(LARGE, i) for i in range(CNNS.value)]),
    }
    for name, (data, jobs) in kinds.items():
        # Products of MLPs are of float32, which tensor cores round to TF32.
        precision = "tf32" if name == "mlps" else "bfloat16"
        found = at_once(jobs, data, cost, precision)
        print(f"{name}: {found}", flush=True)
        result |= {f"{name}_{key}": value for key, value in found.items()}
    if jax.default_backend() != "cpu":  # which has a form of its own
        result |= forms(cifar, cost)
    print(json.dumps({k: _three_digits(v) for k, v in result.items()}))


def at_once(
    jobs: Sequence[population.Job], data: Dataset, cost: costs.CostModel, precision: str
) -> dict[str, Any]:
    """Candidate-epochs a second of all jobs together, and over those of one alone."""
    programs = population.Programs(data, jax.random.key(0), cost=cost)
    together = epoch_seconds(jobs, programs)
    # Spread evenly over the sample, with programs for a single network.
    some = jobs[:: max(1, len(jobs) // ALONE.value)]
    single = population.Programs(data, jax.random.key(0), cost=cost)
    alone = sum(epoch_seconds([one], single) for one in some) / len(some)
    flops = sum(
        training_work(
            one.architecture,
            one.hyperparameters.batch_size,
            *data.rows,
            epochs=1,
        ).flops
        for one in jobs
    )
    peak = chip(HARDWARE.value).peak(precision) if HARDWARE.value else None
    torch = torch_seconds(some, data) / len(some) if PEER.value else None
    return {
        "ce_per_s": len(jobs) / together,
        "alone_ce_per_s": 1 / alone,
        "vs_alone": len(jobs) * alone / together,
        "torch_ce_per_s": torch and 1 / torch,
        "vs_torch": torch and len(jobs) * torch / together,
        f"share_of_{precision}_peak": flops / together / peak if peak else None,
    }


def torch_seconds(jobs: Sequence[population.Job], data: Dataset) -> float:
    """Of one epoch of each job in torch; of CNNs without validation, unlike ours."""
    rows, validation_rows = data.rows
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    asked = [described(one.architecture, one.hyperparameters) for one in jobs]
    if isinstance(jobs[0].architecture, CNN):
        answer = torch_json(str(PEER.value), device=device, cnns=asked, steps=50)
        return sum(
            rows // one["batch_size"] * seconds
            for one, seconds in zip(asked, answer["step_seconds"], strict=True)
        )
    sizes = {"rows": rows, "validation_rows": validation_rows}
    return torch_json(str(PEER.value), device=device, mlps=asked, **sizes)["seconds"]


def epoch_seconds(
    jobs: Sequence[population.Job], programs: population.Programs
) -> float:
    """Of all jobs, with everything compiled; median of three."""
    return statistics.median(train_seconds(jobs, programs, turns=4)[1:])


def forms(data: Dataset, cost: costs.CostModel) -> dict[str, float]:
    """Seconds of an epoch of one CNN population in each form, and those predicted."""
    found = {}
    jobs = [job(LARGE, i) for i in range(CNNS.value)]
    for form in plan.FORMS:
        with mock.patch.object(plan, "FORMS", (form,)):
            seconds, predicted = _form_seconds(jobs, data, cost)
        found |= {f"{form}_seconds": seconds, f"{form}_predicted_seconds": predicted}
    return found


def _form_seconds(
    jobs: Sequence[population.Job], data: Dataset, cost: costs.CostModel
) -> tuple[float, float]:
    programs = population.Programs(data, jax.random.key(0), cost=cost)
    seconds = epoch_seconds(jobs, programs)
    work = programs.workload(1)
    shapes = programs.shapes
    return seconds, sum(costs.run_seconds(s, len(jobs), work, cost) for s in shapes)


def sampled(data: Dataset, count: int, **space: Any) -> list[population.Job]:
    """Networks of the authors' space, seed 0, one epoch each."""
    return [
        job(one.architecture, number, one.hyperparameters)
        for number, one in enumerate(
            make_space(data, **space).sample(jax.random.key(0), count)
        )
    ]


def job(
    architecture: Architecture, number: int, training: Hyperparameters | None = None
) -> population.Job:
    """One epoch of a network, in batches of 64 unless told otherwise."""
    training = training or Hyperparameters(batch_size=64)
    return population.Job(
        architecture, training, jax.random.key(number), start=0, stop=1, total=1
    )


def _three_digits(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


if __name__ == "__main__":
    app.run(main)
