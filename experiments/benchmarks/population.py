"""Training a population against a plain PyTorch loop over the same candidates.

  python -m experiments.benchmarks.population --peer_python=PYTHON

PYTHON is an interpreter with torch (`torch_loop.py` runs in it). The two sides take
turns, each in a fresh process on all cores, on random data of MNIST's and CIFAR-10's
sizes: only time is measured. Ratios above 1 say that we are faster; each is the median
of the repeats. The last line is a JSON object.
"""

import json
import pathlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from dnc_jax.networks import MLP, cnn
from dnc_jax.search import make_space
from dnc_jax.training import (
    Hyperparameters,
    compilation,
    costs,
    engines,
    exact,
    grouping,
    machine,
    plan,
    population,
    shapes,
)
from experiments.benchmarks.common import (
    LARGE,
    described,
    pictures,
    run_json,
    torch_json,
    train_seconds,
)
from experiments.configs import mnist_mlp

PEER = flags.DEFINE_string("peer_python", None, "Python with torch.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Turns of each side.")
CANDIDATES = flags.DEFINE_integer("candidates", 64, "Sampled MLPs.")
PLOT = flags.DEFINE_string("plot", None, "Picture of how time grows: a PNG or SVG.")
ROWS = flags.DEFINE_integer("rows", 48_000, "Training rows of an MLP.")

BATCH, STEPS = 64, 20
CNN_TURNS = 5  # of each repeat: these steps are the quickest, and vary most
RUNGS = (1, 3, 9, 27)


def jobs_of(mlps: Sequence[dict[str, Any]]) -> list[population.Job]:
    """One epoch of each."""
    return [
        population.Job(
            MLP(784, tuple(one["hidden"]), 10, one["activation"], one["dropout"]),
            Hyperparameters(
                one["learning_rate"], one["weight_decay"], one["batch_size"]
            ),
            jax.random.key(i),
            0,
            1,
            1,
        )
        for i, one in enumerate(mlps)
    ]


def train_mlps(asked: dict[str, Any]) -> dict[str, Any]:
    """Seconds of one epoch of all, at first and with all programs compiled."""
    compilation.keep(asked["cache"])
    programs = population.Programs(
        pictures(asked["rows"], (28, 28, 1)),
        jax.random.key(0),
        cost=costs.CostModel(**asked["constants"]),
    )
    first, steady = train_seconds(jobs_of(asked["mlps"]), programs, turns=2)
    return {
        "first": first,
        "steady": steady,
        "seconds": programs.seconds._asdict(),
    }


def waste(asked: dict[str, Any]) -> dict[str, Any]:
    """FLOPs executed over useful ones: of the first rung, and of a whole halving.

    Of the whole, over several draws of the networks that survive a rung.
    """
    cost = costs.CostModel(**asked["constants"])
    networks: Any = [
        (job.architecture, job.hyperparameters.batch_size)
        for job in jobs_of(asked["mlps"])
    ]
    firsts, wholes = [], []
    for seed in range(5):
        rng, alive, ready = random.Random(seed), networks, set()
        executed, useful, before = 0.0, 0.0, 0
        for number, rung in enumerate(RUNGS):
            work = costs.Workload(784, 10, asked["rows"], rung - before)
            # As a search plans: ahead, each later rung taking as many epochs in all.
            ahead = grouping.planned_epochs(
                rung - before, [(rung - before) * len(RUNGS[number:])]
            )
            groups = plan.make(alive, work._replace(epochs=ahead), ready, cost)
            ready |= {group.shape for group in groups}
            done, needed = (
                work.epochs
                * sum(
                    costs.useful_multiply_adds(network) * (work.rows // batch * batch)
                    for network, batch in networks
                )
                for networks in (_executed(groups), alive)
            )
            executed, useful = executed + done, useful + needed
            firsts += [done / needed] if not before else []
            alive, before = rng.sample(alive, max(1, len(alive) // 3)), rung
        wholes.append(executed / useful)
    return {"first": statistics.mean(firsts), "whole": statistics.mean(wholes)}


def _executed(groups: Sequence[plan.Group]) -> list[tuple[MLP, int]]:
    """The networks that the programs compute, padded, with their batch sizes."""
    return [
        (MLP(784, group.shape.hidden, 10), group.shape.batch_size)
        for group in groups
        for _ in range(len(plan.chunks(group)) * group.shape.lanes)
        if isinstance(group.shape, shapes.Padded)
    ]


def constants(asked: dict[str, Any]) -> dict[str, Any]:
    """Of the cost model, as a search measures them once on a machine."""
    del asked
    return machine.measure()[0]._asdict()


def train_cnn(asked: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a step, as the population runs it or with XLA's own gradients.

    Of one network by itself, or a network's share where all workers train one each.
    """
    steps = asked["steps"]
    programs = population.Programs(
        pictures(steps * BATCH, (32, 32, 3)), jax.random.key(0)
    )
    if asked["naive"]:

        def naive(x: Any, weight: Any, stride: int, form: Any) -> jax.Array:
            axes = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(
                jnp.asarray(x), weight, (stride,) * 2, "SAME", dimension_numbers=axes
            )

        cnn.convolution = naive
        compilation.fast_convolutions = dict
    job = population.Job(
        LARGE, Hyperparameters(batch_size=BATCH), jax.random.key(0), 0, 1, 1
    )
    shape = shapes.Exact(1, LARGE, BATCH)
    state = exact.pack([engines.fresh(job)], shape)
    settings = exact.settings([job], shape)
    program, _, settings = programs.get(shape, [(state, settings)])

    def train() -> float:
        state, times = exact.pack([engines.fresh(job)], shape), []
        for turn in range(2 if asked["naive"] else 6):
            begin = time.perf_counter()
            state = program.train(state, settings, np.float32(1), turn)
            times.append((time.perf_counter() - begin) / steps)
        return statistics.median(times[1:])

    at_once = programs.workers if asked["together"] else 1
    with ThreadPoolExecutor(at_once) as pool:
        found = list(pool.map(lambda _: train(), range(at_once)))
    return {"step_seconds": statistics.mean(found) / at_once}


def stream(asked: dict[str, Any]) -> dict[str, Any]:
    """Seconds of one epoch of all MLPs from rows on the device, and from a stream."""
    data = pictures(asked["rows"], (28, 28, 1))
    limit = (data.train.x.nbytes + data.train.y.nbytes) // 4
    kinds = {"resident": data, "streamed": data._replace(resident_bytes=limit)}
    programs = {
        kind: population.Programs(one, jax.random.key(0)) for kind, one in kinds.items()
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(4):
        for kind, one in programs.items():
            times[kind] += train_seconds(jobs_of(asked["mlps"]), one, turns=1)
    return {kind: statistics.median(values[1:]) for kind, values in times.items()}


def slope(asked: dict[str, Any]) -> dict[str, Any]:
    """How the time of compiled programs grows: the exponent of candidates and rows."""
    one = {
        "hidden": [64, 64],
        "activation": "relu",
        "dropout": 0.0,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "batch_size": 128,
    }

    def seconds(candidates: int, rows: int) -> float:
        programs = population.Programs(pictures(rows, (28, 28, 1)), jax.random.key(0))
        return min(train_seconds(jobs_of([one] * candidates), programs, turns=4)[1:])

    by_candidates = {n: seconds(n, 4_000) for n in (16, 64, 256)}
    by_rows = {n: seconds(16, n) for n in (10_000, 25_000, 60_000)}
    return {
        name: {"seconds": points, "exponent": _exponent(points)}
        for name, points in (("candidates", by_candidates), ("rows", by_rows))
    }


def _exponent(points: dict[int, float]) -> float:
    x, y = (np.log(list(values)) for values in (points.keys(), points.values()))
    return float(np.polyfit(x, y, 1)[0])


def draw(growth: dict[str, Any], path: pathlib.Path) -> None:
    """Seconds against candidates and against rows, both axes logarithmic."""
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, shared_yaxes=True)
    for column, (name, found) in enumerate(growth.items(), start=1):
        counts = [int(count) for count in found["seconds"]]
        seconds = list(found["seconds"].values())
        linear = [seconds[0] * count / counts[0] for count in counts]
        figure.add_scatter(
            x=counts,
            y=linear,
            line={"dash": "dot", "color": "gray"},
            name="in proportion",
            showlegend=column == 1,
            row=1,
            col=column,
        )
        figure.add_scatter(
            x=counts,
            y=seconds,
            line={"color": "#0072b2"},
            name="measured",
            showlegend=column == 1,
            row=1,
            col=column,
        )
        title = f"{name}: seconds grow with power {found['exponent']:.2f}"
        figure.update_xaxes(type="log", tickvals=counts, title=title, col=column)
    ticks = [step * 10.0**power for power in range(-3, 4) for step in (1, 2, 5)]
    figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{t:g}" for t in ticks])
    figure.update_yaxes(title="seconds of an epoch of all", col=1)
    figure.update_layout(template="plotly_white", margin_t=20)
    figure.update_layout(legend={"orientation": "h", "y": 1.12})
    figure.write_image(path, width=800, height=350, scale=2)


WORKERS = {
    "constants": constants,
    "waste": waste,
    "mlps": train_mlps,
    "cnn": train_cnn,
    "stream": stream,
    "slope": slope,
}


def _ours(kind: str, **asked: Any) -> dict[str, Any]:
    return run_json([sys.executable, "-m", __spec__.name, kind], asked)


def _torch(**asked: Any) -> dict[str, Any]:
    return torch_json(str(PEER.value), **asked)


def sampled(count: int) -> list[dict[str, Any]]:
    """MLPs of the space of configs/mnist_mlp.py, seed 0."""
    data = pictures(1_000, (28, 28, 1))
    space = make_space(data, **mnist_mlp.get_config().space)
    return [
        described(one.architecture, one.hyperparameters)
        for one in space.sample(jax.random.key(0), count)
    ]


def _mlp_ratios(mlps: list[dict[str, Any]], found: dict[str, Any]) -> dict[str, float]:
    asked = {"mlps": mlps, "rows": ROWS.value, "constants": found}
    with tempfile.TemporaryDirectory() as cache:
        first = _ours("mlps", cache=cache, **asked)
        peer = _torch(validation_rows=ROWS.value // 4, **asked)["seconds"]
        second = _ours("mlps", cache=cache, **asked)
    print(f"  torch {peer:.1f} s, first {first}, second {second}", flush=True)
    return {
        "steady": peer / min(first["steady"], second["steady"]),
        "first": peer / first["first"],
        "second": peer / second["first"],
    }


def main(argv: Sequence[str]) -> None:
    """Runs both sides in turn; as a worker, one run of ours."""
    if len(argv) > 1:
        print(json.dumps(WORKERS[argv[1]](json.loads(sys.stdin.read()))))
        return
    if not PEER.value:
        raise app.UsageError("--peer_python=PYTHON is needed, a Python with torch")
    small = {**sampled(1)[0], "hidden": [64] * 3, "dropout": 0.0, "batch_size": 128}
    small |= {"activation": "relu"}
    ratios: dict[str, list[float]] = {}

    def add(**values: float) -> None:
        for name, value in values.items():
            ratios.setdefault(name, []).append(value)

    large = described(LARGE, Hyperparameters(batch_size=BATCH))
    found = _ours("constants")
    print(f"  {found}", flush=True)
    padding = _ours(
        "waste", mlps=sampled(CANDIDATES.value), rows=ROWS.value, constants=found
    )
    add(padding_waste=padding["whole"], padding_waste_of_first_rung=padding["first"])
    for _ in range(REPEATS.value):
        rung = _mlp_ratios(sampled(CANDIDATES.value), found)
        add(
            mlp_sampled_vs_torch=rung["steady"],
            mlp_rung1_vs_torch=rung["first"],
            mlp_rung1_second_run_vs_torch=rung["second"],
        )
        add(small_mlp_vs_torch=_mlp_ratios([small] * 8, found)["steady"])
        alone: list[float] = []
        for _ in range(CNN_TURNS):
            ours, together = (
                _ours("cnn", naive=False, steps=STEPS, together=both)["step_seconds"]
                for both in (False, True)
            )
            (peer,) = _torch(cnns=[large], steps=STEPS)["step_seconds"]
            print(
                f"  CNN step: ours {ours}, of several {together}, torch {peer}",
                flush=True,
            )
            alone.append(ours)
            add(cnn_vs_torch=peer / ours, cnns_together_vs_torch=peer / together)
        naive = _ours("cnn", naive=True, steps=2, together=False)["step_seconds"]
        print(f"  CNN step of the naive scan: {naive}", flush=True)
        add(cnn_vs_naive_scan=naive / statistics.median(alone))
        fed = _ours("stream", mlps=sampled(CANDIDATES.value), rows=ROWS.value)
        print(f"  seconds of {fed}", flush=True)
        add(streamed_vs_resident=fed["resident"] / fed["streamed"])
    growth = _ours("slope")
    print(json.dumps(growth), flush=True)
    if PLOT.value:
        draw(growth, pathlib.Path(PLOT.value))
    result = {name: round(statistics.median(v), 3) for name, v in ratios.items()}
    result |= {
        f"growth_with_{name}": round(points["exponent"], 3)
        for name, points in growth.items()
    }
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
