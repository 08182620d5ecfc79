"""Many networks at once on an accelerator, against one at a time on the same device.

  python -m experiments.benchmarks.accelerator

An epoch of sampled MLPs, of sampled CNNs, and of CNNs of one structure, on random data
of MNIST's and CIFAR-10's sizes: only time is measured, compiling left out. "At once" is
what a search does, by a plan with constants measured on the device; "alone" trains a
few of the same networks one after another. Then the steps of one CNN population in
both forms of convolutions, beside what the cost model says. Needs no package besides
dnc_jax's own. The last line is a JSON object; ratios above 1 say that "at once" is
faster.
"""

import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
from absl import app, flags

from dnc_jax.errors import InputError
from dnc_jax.footprint import training_work
from dnc_jax.footprint.hardware import find
from dnc_jax.networks import CNN, Architecture
from dnc_jax.search import make_space
from dnc_jax.training import Hyperparameters, costs, machine, plan, population, shapes
from dnc_jax.training.data import Dataset
from experiments.benchmarks.random_data import pictures

MLPS = flags.DEFINE_integer("mlps", 256, "Sampled MLPs.")
CNNS = flags.DEFINE_integer("cnns", 64, "Sampled CNNs, and CNNs of one structure.")
ALONE = flags.DEFINE_integer("alone", 8, "Networks of each that are trained alone.")
ROWS = flags.DEFINE_integer("rows", 48_000, "Training rows.")

ONE = CNN((32, 32, 3), (32,) * 6, 10, downsampling=("", "pool", "", "pool", "", ""))


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
        "cnns_of_one_structure": (cifar, [job(ONE, i) for i in range(CNNS.value)]),
    }
    for name, (data, jobs) in kinds.items():
        found = at_once(jobs, data, cost, device.device_kind)
        print(f"{name}: {found}", flush=True)
        result |= {f"{name}_{key}": value for key, value in found.items()}
    if jax.default_backend() != "cpu":  # which has a form of its own
        result |= forms(cifar, cost)
    print(json.dumps({k: _three_digits(v) for k, v in result.items()}))


def at_once(
    jobs: Sequence[population.Job], data: Dataset, cost: costs.CostModel, device: str
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
            len(data.train.y),
            len(data.validation.y),
            1,
        ).flops
        for one in jobs
    )
    try:
        peak = find(device).peak("bfloat16")
    except InputError:  # a device that the table does not have, such as a CPU
        peak = None
    return {
        "ce_per_s": len(jobs) / together,
        "alone_ce_per_s": 1 / alone,
        "vs_alone": len(jobs) * alone / together,
        "share_of_bfloat16_peak": flops / together / peak if peak else None,
    }


def epoch_seconds(
    jobs: Sequence[population.Job], programs: population.Programs
) -> float:
    """Of all jobs, with everything compiled; median of three."""
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        population.train(jobs, programs)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def forms(data: Dataset, cost: costs.CostModel) -> dict[str, float]:
    """Seconds of an epoch of one CNN population in each form, and those predicted."""
    found = {}
    jobs = [job(ONE, i) for i in range(CNNS.value)]
    chosen = plan.FORMS
    for form in chosen:
        plan.FORMS = (form,)
        programs = population.Programs(data, jax.random.key(0), cost=cost)
        seconds = epoch_seconds(jobs, programs)
        predicted = sum(
            costs.run_seconds(shape, len(jobs), programs.workload(1), cost)
            for shape in programs.shapes
            if isinstance(shape, shapes.Exact)
        )
        found |= {f"{form}_seconds": seconds, f"{form}_predicted_seconds": predicted}
    plan.FORMS = chosen
    return found


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
