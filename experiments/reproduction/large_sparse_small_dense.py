"""A large sparse network against a small dense one of as many parameters.

  python -m experiments.reproduction.large_sparse_small_dense --config.data.dir=DIR

For each small dense network, 800-N-10, sparse ones with several times the hidden nodes
and at most as many parameters. Accuracies first, then seconds and joules of an epoch of
each by itself; these are measured anew each time, and nothing else should run then:
--nocosts leaves them out, and the same command without it trains nothing again. Tests
trend (b). The work folder gets CSV, plots.html and tables.md.
"""

import pathlib
from collections.abc import Mapping, Sequence

import jax
from absl import flags

from dnc_jax.errors import InputError
from dnc_jax.footprint import Meter, complexity, find
from dnc_jax.networks import MLP
from dnc_jax.training.data import Dataset
from dnc_jax.training.timing import epoch_cost
from experiments import launch
from experiments.reproduction import record, study
from experiments.reproduction.record import Row
from experiments.reproduction.study import Point, Study

COSTS = flags.DEFINE_bool("costs", True, "Measure an epoch of each by itself.")
INPUTS = 800
NOTES = (
    "The sparse networks have at most as many parameters as the dense one: as many "
    "edges to a hidden node as fit, and all from it.",
    "The best of the sparse networks is compared, which favours them a little.",
    "With ten hidden nodes and the quick learning rate the seeds differ much.",
)
MEASURED = (
    "Seconds are of an epoch of training by itself on this machine, the median of five "
    "stretches of 40 steps; joules are left empty where nothing counts them."
)
NOT_MEASURED = (
    "Seconds and joules were not measured in this run: the machine had other work."
)


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """Trains all networks, times them, then writes the table and the plot."""
    study_ = Study(config, workdir)
    data = study.padded(launch.load_data(config), INPUTS)
    pairs = [
        (small, network)
        for small in config.small
        for network in networks(data, small, config.times, config.family)
    ]
    points = [study.point(config, network, str(network)) for _, network in pairs]
    means = study_.train(points, data)
    rows = []
    for (small, network), point, one in zip(pairs, points, means, strict=True):
        seconds, joules = costs(point, data) if COSTS.value else ("", "")
        cost = complexity(network)
        rows.append(
            {
                "dense twin": f"{small} nodes",
                "hidden nodes": f"{network.hidden[0]}",
                "net density %": f"{100 * network.density:.1f}",
                "parameters": f"{cost.parameters}",
                "FLOPs per example": f"{cost.flops_per_example}",
                **one.cells,
                "seconds per epoch": seconds,
                "joules per epoch": joules,
            }
        )
    study_.table("accuracy", "As many parameters, large and sparse or small", rows)
    study_.table(record.FINDINGS, record.CAPTION, findings({"accuracy": rows}))
    chart = study.chart(
        "large sparse, small dense", "parameters", "test accuracy %", log=True
    )
    for times in (1, *config.times):
        own = [
            row
            for row, (small, network) in zip(rows, pairs, strict=True)
            if network.hidden[0] == times * small
        ]
        name = f"{times} x the nodes" if times > 1 else "dense"
        at = [float(row["parameters"]) for row in own]
        study.line(chart, name, at, list(map(study.read_mean, own)))
    study_.figure(chart)
    costs_note = MEASURED if COSTS.value else NOT_MEASURED
    study_.finish(
        "Large sparse networks against small dense ones", [*NOTES, costs_note]
    )


def networks(data: Dataset, small: int, times: Sequence[int], family: str) -> list[MLP]:
    """The dense network, then the sparse ones with at most its parameters.

    Raises:
      InputError: a sparse one would have no edge to a hidden node.
    """
    dense = study.mlp(data, (small,), (1.0, 1.0))
    result = [dense]
    for factor in times:
        hidden = factor * small
        # Of a hidden node: its edges to the outputs, and a bias; and the outputs' own.
        rest = hidden * (data.outputs + 1) + data.outputs
        fan_in = (complexity(dense).parameters - rest) // hidden
        if fan_in < 1:
            raise InputError(
                f"{hidden} hidden nodes need more parameters than {dense} has; use "
                "smaller config.times"
            )
        densities = (fan_in / data.inputs, 1.0)
        result.append(study.mlp(data, (hidden,), densities, family))
    return result


def costs(point: Point, data: Dataset) -> tuple[str, str]:
    """Seconds and joules of an epoch by itself; empty where nothing counts joules."""
    with Meter(find()) as meter:
        cost = epoch_cost(
            jax.random.key(0),
            point.network,
            point.hyperparameters,
            study.examined(data),
            meter.joules if meter.available else None,
        )
    joules = "" if cost.joules is None else f"{cost.joules:.2f}"
    return f"{cost.seconds:.3f}", joules


def findings(tables: Mapping[str, Sequence[Row]]) -> list[dict[str, str]]:
    """Trend (b) against the table, as it is printed."""
    rows = tables["accuracy"]
    result = []
    for dense, *sparse in record.groups(rows, "dense twin").values():
        best = max(sparse, key=lambda row: float(row["test accuracy %"]))
        errors = study.apart(study.read_mean(best), study.read_mean(dense))
        measured = (
            f"{best['hidden nodes']} nodes at {best['net density %']} %: "
            f"{best['test accuracy %']} %, dense {dense['test accuracy %']} %, "
            f"{errors:+.1f} standard errors"
        )
        if best["seconds per epoch"]:
            measured += (
                f"; {best['seconds per epoch']} s an epoch against "
                f"{dense['seconds per epoch']} s"
            )
        result.append(
            record.finding(
                f"(b) of {dense['parameters']} parameters, a large sparse network is "
                "better than a small dense one",
                measured,
                errors > 0 if abs(errors) > study.SURE else None,
            )
        )
    return result


if __name__ == "__main__":
    launch.run(
        main,
        default_config="large_sparse_small_dense",
        on_interrupt="the same command goes on with what is not trained yet",
    )
