"""How large the weights of a fully connected network are, junction by junction.

  python -m experiments.reproduction.weights --config.data.dir=DIR

Weights of every seed before and after training: the share of them below a tenth of
their junction's largest, and histograms. The work folder gets CSV (histogram.csv is not
among the tables), plots.html and tables.md.
"""

import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.networks import mlp
from dnc_jax.training import population
from dnc_jax.training.data import Dataset
from dnc_jax.training.programs import Programs
from dnc_jax.training.trainer import keys_of
from experiments import launch
from experiments.reproduction import record, study
from experiments.reproduction.record import Row
from experiments.reproduction.study import Study

SMALL = 0.1  # of the junction's largest weight
BINS = 50
HALF = 50  # per cent: more is most
NOTES = (
    "The share of small weights depends on the one largest, so the share before "
    "training stands beside it: of normally distributed weights many are small too.",
)


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """Trains the networks, then counts their weights."""
    study_ = Study(config, workdir)
    data = launch.load_data(config)
    rows: list[dict[str, str]] = []
    histograms: list[dict[str, str]] = []
    for layers in config.layers:
        own = study.examined(study.padded(data, layers[0]))
        before, after = trained(study_, own, layers[1:-1])
        name = "-".join(map(str, layers))
        rows += shares(name, before, after)
        histograms += histogram(study_, name, after)
    record.write_csv(workdir / "histogram.csv", histograms)
    study_.table("shares", "Weights below a tenth of their junction's largest", rows)
    study_.table(record.FINDINGS, record.CAPTION, findings({"shares": rows}))
    study_.finish("Most weights of a trained network are small", NOTES)


def trained(
    study_: Study, data: Dataset, hidden: Sequence[int]
) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:
    """Magnitudes of the weights before and after, [junctions][seeds]."""
    config = study_.config
    network = study.mlp(data, hidden, (1.0,) * (len(hidden) + 1))
    point = study.point(config, network, str(network))
    jobs = study.jobs([(point, seed) for seed in study_.seeds], config.train.epochs)
    outcomes = population.train(jobs, Programs(data, study.order(config)))
    if any(one is None or one.diverged for one in outcomes):
        raise InputError(f"{network}: the loss diverged; lower train.learning_rate")
    fresh = [mlp.init(keys_of(jax.random.key(s))[0], network) for s in study_.seeds]
    ends = [one.snapshot.params for one in outcomes if one and one.snapshot]

    def magnitudes(networks: Sequence[Sequence[Mapping[str, np.ndarray]]]) -> list:
        junctions = zip(*networks, strict=True)
        return [[np.abs(one["weight"]) for one in junction] for junction in junctions]

    return magnitudes(fresh), magnitudes(ends)


def shares(
    layers: str,
    before: Sequence[Sequence[np.ndarray]],
    after: Sequence[Sequence[np.ndarray]],
) -> list[dict[str, str]]:
    """A row for each junction: means over the seeds."""
    rows = []
    for number, (fresh, ends) in enumerate(zip(before, after, strict=True), 1):
        small = study.mean([share(weights) for weights in ends])
        rows.append(
            {
                "layers": layers,
                "junction": f"{number}",
                "weights": f"{ends[0].size}",
                "small %": f"{small.mean:.1f}",
                "standard error": f"{small.error:.1f}",
                "small before training %": (
                    f"{study.mean([share(weights) for weights in fresh]).mean:.1f}"
                ),
                "mean magnitude": f"{np.mean([w.mean() for w in ends]):.4f}",
                "before training": f"{np.mean([w.mean() for w in fresh]):.4f}",
            }
        )
    return rows


def share(weights: np.ndarray) -> float:
    """Of the weights below a tenth of the largest."""
    return float((weights < SMALL * weights.max()).mean())


def histogram(
    study_: Study, layers: str, after: Sequence[Sequence[np.ndarray]]
) -> list[dict[str, str]]:
    """Shares of weights by magnitude, all seeds together; also drawn."""
    chart = study.chart(f"{layers}, trained", "weight over the largest", "share")
    rows = []
    for number, ends in enumerate(after, 1):
        scaled = np.concatenate([(w / w.max()).ravel() for w in ends])
        counts, edges = np.histogram(scaled, BINS, (0.0, 1.0))
        parts = counts / counts.sum()
        chart.add_scatter(
            x=edges[:-1], y=parts, line={"shape": "hv"}, name=f"junction {number}"
        )
        rows += [
            {
                "layers": layers,
                "junction": f"{number}",
                "from": f"{edge:.2f}",
                "share": f"{part:.6f}",
            }
            for edge, part in zip(edges, parts, strict=False)
        ]
    study_.figure(chart)
    return rows


def findings(tables: Mapping[str, Sequence[Row]]) -> list[dict[str, str]]:
    """The talk's motivation against the table, as it is printed."""
    rows = tables["shares"]
    result = []
    for layers, own in record.groups(rows, "layers").items():
        weights = np.array([float(row["weights"]) for row in own])
        small = np.array([float(row["small %"]) for row in own])
        whole = (weights * small).sum() / weights.sum()
        errors = np.array([float(row["standard error"]) for row in own])
        error = np.linalg.norm(weights * errors) / weights.sum()
        first, last = own[0], own[-1]
        result += [
            record.finding(
                f"{layers}: most weights are small",
                f"{whole:.1f} % of all are below a tenth of the largest, "
                f"standard error {error:.1f}",
                whole > HALF if abs(whole - HALF) > study.SURE * error else None,
            ),
            record.finding(
                f"{layers}: the first junction has more small weights than the last",
                f"{first['small %']} % against {last['small %']} %",
                float(first["small %"]) > float(last["small %"]),
            ),
        ]
    return result


if __name__ == "__main__":
    launch.run(
        main,
        default_config="weights",
        on_interrupt="nothing was saved; the same command starts again",
    )
