r"""Trains one network; a sparse one, fixed before, beside its dense twin.

  python -m experiments.train --config=experiments/configs/sparse_mnist.py \
      --config.data.dir=DIR --workdir=runs/sparse_mnist
  python -m experiments.train --config=experiments/configs/cnn.py \
      --config.data.dir=DIR --workdir=runs/cnn

The work folder gets `best/` (what `dnc_jax.load` reads) and `summary.json`.
"""

import dataclasses
import functools
import json
import pathlib
import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from dnc_jax.errors import InputError
from dnc_jax.files import write_json
from dnc_jax.footprint import Meter, complexity, find, training_work
from dnc_jax.footprint.roofline import (
    Roofline,
    Saving,
    measured_peak,
    roofline,
    saving,
)
from dnc_jax.networks import CNN, MLP, Architecture, Sparsity
from dnc_jax.networks.network import patterns as draw_patterns
from dnc_jax.report.folder import BEST, SUMMARY, TRIALS, shown
from dnc_jax.training import Hyperparameters, checkpoints, feed, trainer
from dnc_jax.training.data import Dataset
from experiments import checks, launch, profiling


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """Trains, tests, saves and compares."""
    out = launch.console()
    hyperparameters = Hyperparameters(
        config.train.learning_rate, config.train.weight_decay, config.train.batch_size
    )
    data = launch.load_data(config, augment=config.train.augment)
    network = architecture(config, data)
    summary_path = workdir / SUMMARY
    recorded = json.loads(config.to_json())
    if (
        summary_path.exists()
        and launch.read_json(summary_path).get("config") != recorded
    ):
        raise InputError(
            f"{workdir} holds a run of another config; choose another --workdir"
        )
    if (workdir / TRIALS).exists():
        raise InputError(f"{workdir} holds a search; choose another --workdir")
    launch.check_folder(workdir)
    checkpoints.check_place(workdir / BEST)
    workdir.mkdir(parents=True, exist_ok=True)
    runs = {"sparse" if network.sparsity else "network": network}
    if config.twin and network.sparsity:
        runs["dense twin"] = dataclasses.replace(network, sparsity=())
    summary: dict[str, Any] = {"config": recorded, "metric": data.metric}
    peak = measured_peak()
    with profiling.Trace(workdir) as trace:
        for name, one in runs.items():
            out.print(f"{name}: {one}", markup=False)
            trace.begin()
            trained, summary[name] = train(
                config, one, hyperparameters, data, peak, out, trace
            )
            if one is network:
                checkpoints.save(workdir / BEST, trained)
    twin = len(runs) > 1
    if twin:
        summary["saving"] = saved(summary).to_json()
    write_json(summary_path, summary)
    out.print(table({name: summary[name] for name in runs}, data.metric))
    if config.train.epochs == 1:
        out.print("One epoch: its seconds are those of compiling too.")
    for name in runs:
        place = Roofline(**summary[name]["roofline"])
        out.print(f"{name}: {place}", markup=False)
    if twin:
        out.print(str(saved(summary)), markup=False)
    out.print(
        f"{workdir}: summary.json and dnc_jax.load('{workdir / BEST}')", markup=False
    )


def architecture(config: launch.Config, data: Dataset) -> Architecture:
    """The network that the config describes: a CNN where it has channels."""
    make: Any = even_cnn if "channels" in config.network else nearest_mlp
    return checks.call(make, config, "network", data)


def even_cnn(
    data: Dataset,
    *,
    channels: tuple[int, ...],
    downsampling: tuple[str, ...],
    activation: str,
    batch_norm: bool,
    dropout: float,
    shortcuts: int,
) -> CNN:
    """A dense CNN whose layers differ in channels and down-sampling only."""
    if data.train.x.ndim != 4:
        raise InputError(
            f"{data.name}: a CNN needs images [N, height, width, channels], got "
            f"examples of shape {data.train.x.shape[1:]}"
        )
    height, width, colours = data.train.x.shape[1:]
    return CNN(
        (height, width, colours),
        tuple(channels),
        data.outputs,
        activation,
        tuple(downsampling),
        (batch_norm,) * len(channels),
        (float(dropout),) * len(channels),
        shortcuts,
    )


def nearest_mlp(
    data: Dataset,
    *,
    hidden: tuple[int, ...],
    activation: str,
    dropout: float,
    densities: tuple[float, ...],
    block_inputs: tuple[int, ...],
    block_outputs: tuple[int, ...],
    families: tuple[str, ...],
) -> MLP:
    """An MLP with the possible densities that are nearest, junction by junction."""
    sizes = (data.inputs, *hidden, data.outputs)
    names = ("densities", "block_inputs", "block_outputs", "families")
    fields: list[Any] = [densities, block_inputs, block_outputs, families]
    if {len(field) for field in fields} != {len(sizes) - 1}:
        raise InputError(
            f"network.{', '.join(names)} have {list(map(len, fields))} entries; the "
            f"network has {len(sizes) - 1} junctions"
        )
    sparsity = tuple(
        Sparsity.nearest(density, n_in, n_out, (b_in, b_out), family)
        if density != 1
        else None
        for (n_in, n_out), density, b_in, b_out, family in zip(
            pairwise(sizes), *fields, strict=True
        )
    )
    return MLP(
        data.inputs,
        tuple(hidden),
        data.outputs,
        activation,
        dropout,
        sparsity if any(sparsity) else (),
    )


def train(
    config: launch.Config,
    network: Architecture,
    hyperparameters: Hyperparameters,
    data: Dataset,
    peak: float,
    out: Console,
    trace: profiling.Trace,
) -> tuple[checkpoints.Network, dict[str, Any]]:
    """The trained network and its entry in summary.json."""
    pattern_key, key, order_key = jax.random.split(jax.random.key(config.seed), 3)
    patterns = draw_patterns(pattern_key, network)
    epochs = config.train.epochs

    def on_epoch(epoch: int, accuracy: float) -> None:
        trace.on_epoch([accuracy])
        found = f"validation {data.metric} {shown(accuracy, data.metric)}"
        out.print(f"  epoch {epoch}/{epochs}: {found}")

    try:
        with Meter(find()) as meter:
            trained, history = trainer.train(
                key,
                network,
                hyperparameters,
                data,
                order_key=order_key,
                epochs=epochs,
                patterns=patterns,
                on_epoch=on_epoch,
            )
    except FloatingPointError as error:
        raise InputError(str(error)) from error
    limit = feed.limit(data)
    test = trainer.evaluate(trained, network, data.test, data.view, limit)
    cost = complexity(network)
    rows = data.rows
    batch_size = hyperparameters.batch_size
    energy = meter.energy(
        training_work(network, batch_size, *rows, epochs=epochs).flops
    )
    # The first epoch compiles.
    seconds = statistics.median(history.seconds[1:] or history.seconds)
    place = roofline(
        training_work(network, batch_size, rows[0], 0, epochs=1),
        seconds,
        # Before and after: what else runs on the machine comes and goes.
        max(peak, measured_peak()),
        examples=rows[0] - rows[0] % min(batch_size, rows[0]),  # full batches
        # Of the whole run: validation and compiling are in it.
        joules=energy.joules and energy.joules / epochs,
    )
    summary = {
        "val_accuracy": max(history.val_accuracy),
        "test_accuracy": float(test.accuracy),
        "density": network.density,
        "parameters": cost.parameters,
        "flops_per_example": cost.flops_per_example,
        "seconds_per_epoch": seconds,
        "first_epoch_seconds": history.seconds[0],
        "energy": energy.to_json(),
        "roofline": place.to_json(),
        "patterns": [p and p.describe()._asdict() for p in patterns],
    }
    return (
        checkpoints.Network.trained_on(data, network, hyperparameters, trained),
        summary,
    )


def saved(summary: dict[str, Any]) -> Saving:
    """What the sparse network takes less than its dense twin."""
    runs = summary["sparse"], summary["dense twin"]
    flops, seconds, energies = (
        [run[key] for run in runs]
        for key in ("flops_per_example", "seconds_per_epoch", "energy")
    )
    joules = [energy["joules"] for energy in energies]
    return saving(tuple(flops), tuple(seconds), tuple(joules))


def table(runs: dict[str, dict[str, Any]], metric: str) -> Table:
    """The runs side by side."""
    result = Table(title=f"FLOPs of one example, {metric}, seconds of an epoch")
    score = functools.partial(shown, metric=metric)
    columns: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
        ("density", "density", "{:.2%}".format),
        ("parameters", "parameters", "{:,}".format),
        ("FLOPs", "flops_per_example", "{:,}".format),
        ("val.", "val_accuracy", score),
        ("test", "test_accuracy", score),
        ("s/epoch", "seconds_per_epoch", "{:.3f}".format),
    )
    result.add_column("network")
    for title, _, _ in columns:
        result.add_column(title, justify="right")
    for name, run in runs.items():
        result.add_row(name, *(form(run[key]) for _, key, form in columns))
    return result


if __name__ == "__main__":
    launch.run(
        main,
        default_config="sparse_mnist",
        on_interrupt="nothing was saved; the same command starts again",
    )
