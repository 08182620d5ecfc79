"""Three trends attributed to the authors, tested on MNIST with structured patterns.

  python -m experiments.reproduction.trends --config.data.dir=DIR

(a) later junctions need more density than earlier ones: the same number of edges,
divided between two junctions in several ways. (c) redundant inputs tolerate lower
density: pixels against their leading principal components. (e) less L2 is needed the
sparser the network: a grid of both. (b) is large_sparse_small_dense, (d) is in
density_sweep. The work folder gets CSV, plots.html and tables.md; a study that was
interrupted goes on where it stopped.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.training.data import Dataset
from experiments import launch
from experiments.reproduction import record, study
from experiments.reproduction.record import Row
from experiments.reproduction.study import Mean, Study

HIDDEN, INPUTS = 100, 800
NOTES = (
    "The trends are attributed to the papers from memory, whose text was not at hand: "
    "they are hypotheses, and the layers and densities are ours.",
    "Two accuracies count as different if they are more than two standard errors of "
    "their difference apart.",
)


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """Trains the networks of all three, then writes the tables and the plots."""
    study_ = Study(config, workdir)
    data = launch.load_data(config)
    wide = study.padded(data, INPUTS)
    tables = {
        "junctions": junctions(study_, wide),
        "inputs": inputs(study_, wide, components(data, config.components)),
        "decay": decays(study_, wide),
    }
    captions = {
        "junctions": "(a) As many edges, divided differently",
        "inputs": "(c) Redundant inputs and others",
        "decay": "(e) L2 penalty and density",
    }
    for name, rows in tables.items():
        study_.table(name, captions[name], rows)
    study_.table(record.FINDINGS, record.CAPTION, findings(tables))
    study_.finish("Trends of pre-defined sparsity on MNIST", NOTES)


def junctions(study_: Study, data: Dataset) -> list[dict[str, str]]:
    """(a) A row for each way to divide the edges."""
    ways = [way for budget in study_.config.junctions for way in budget]
    networks = [study.mlp(data, (HIDDEN, HIDDEN), way) for way in ways]
    means = study_.train(
        [study.point(study_.config, network, f"(a) {network}") for network in networks],
        data,
    )
    rows = []
    for way, network, one in zip(ways, networks, means, strict=True):
        first, second, _ = (f"{100 * density:g}" for density in way)
        rows.append(
            {
                "edges": f"{sum(network.edges)}",
                "junction 1 %": first,
                "junction 2 %": second,
                **one.cells,
            }
        )
    chart = study.chart("(a)", "density of junction 2 in %", "test accuracy %")
    for edges, own in record.groups(rows, "edges").items():
        at = [float(row["junction 2 %"]) for row in own]
        study.line(chart, f"{edges} edges", at, list(map(study.read_mean, own)))
    study_.figure(chart)
    return rows


def inputs(study_: Study, wide: Dataset, few: Dataset) -> list[dict[str, str]]:
    """(c) A row for each input and density of the first junction."""
    chart = study.chart("(c)", "density of junction 1 in %", "points lost", log=True)
    rows = []
    for name, data in (("pixels", wide), ("components", few)):
        networks = [
            study.mlp(data, (HIDDEN,), (density, 1.0))
            for density in study_.config.first
        ]
        points = [
            study.point(study_.config, one, f"(c) {name} {one}") for one in networks
        ]
        means = study_.train(points, data)
        dense = means[int(np.argmax([one.density for one in networks]))]
        for network, one in zip(networks, means, strict=True):
            first = network.edges[0] / math.prod(network.junctions[0])
            rows.append(
                {
                    "inputs": f"{data.inputs} {name}",
                    "junction 1 %": f"{100 * first:g}",
                    **one.cells,
                    "points lost": f"{dense.mean - one.mean:.2f}",
                }
            )
        lost = [Mean(dense.mean - one.mean, one.error) for one in means]
        study.line(chart, name, [100 * one.density for one in networks], lost)
    study_.figure(chart)
    return rows


def decays(study_: Study, data: Dataset) -> list[dict[str, str]]:
    """(e) A row for each density and L2 penalty."""
    config = study_.config
    pairs = [(way, decay) for way in config.densities for decay in config.decays]
    networks = [study.mlp(data, (HIDDEN,), way) for way, _ in pairs]
    points = [
        study.point(study_.config, network, f"(e) {network} L2 {decay:g}", decay)
        for network, (_, decay) in zip(networks, pairs, strict=True)
    ]
    rows = [
        {
            "net density %": f"{100 * network.density:.1f}",
            "L2": f"{decay:g}",
            **one.cells,
        }
        for network, (_, decay), one in zip(
            networks, pairs, study_.train(points, data), strict=True
        )
    ]
    chart = study.chart("(e)", "L2", "test accuracy %")
    for density, own in record.groups(rows, "net density %").items():
        means = list(map(study.read_mean, own))
        study.line(chart, f"{density} %", list(range(len(own))), means)
    chart.update_xaxes(
        tickvals=list(range(len(config.decays))),
        ticktext=[f"{decay:g}" for decay in config.decays],
    )
    study_.figure(chart)
    return rows


def components(data: Dataset, count: int) -> Dataset:
    """The data as its leading principal components, those of the training rows.

    Raises:
      InputError: more components than features.
    """
    from sklearn.decomposition import PCA

    if not 1 <= count <= data.inputs:
        raise InputError(
            f"components must lie in 1 .. {data.inputs} (the features of {data.name}), "
            f"got {count}"
        )
    fitted = PCA(count, svd_solver="covariance_eigh").fit(
        np.reshape(data.train.x, (len(data.train.y), -1)).astype(np.float32)
    )
    return study.features(
        data, lambda x: fitted.transform(x.astype(np.float32)).astype(np.float32)
    )


def findings(tables: Mapping[str, Sequence[Row]]) -> list[dict[str, str]]:
    """The trends against the tables, as they are printed."""
    return [
        *_later(tables["junctions"]),
        *_redundant(tables["inputs"]),
        *_penalty(tables["decay"]),
    ]


def _later(rows: Sequence[Row]) -> list[dict[str, str]]:
    """(a) Is the best division one with a denser second junction?"""
    result = []
    for edges, own in record.groups(rows, "edges").items():
        best = max(own, key=study.accuracy)
        even = min(own, key=lambda r: abs(math.log(_first(r) / _second(r))))
        errors = study.apart(study.read_mean(best), study.read_mean(even))
        result.append(
            record.finding(
                f"(a) {edges} edges: a later junction denser than the earlier one is "
                "better than densities as equal as tried",
                f"best {best['junction 1 %']} and {best['junction 2 %']} %: "
                f"{study.accuracy(best):.2f} %; most equal {even['junction 1 %']} and "
                f"{even['junction 2 %']} %: {study.accuracy(even):.2f} %; "
                f"{errors:+.1f} standard errors",
                _second(best) > _first(best) if errors > study.SURE else None,
            )
        )
    return result


def _redundant(rows: Sequence[Row]) -> list[dict[str, str]]:
    """(c) Do pixels lose less than components at an equal density?"""
    (pixels, many), (others, few) = record.groups(rows, "inputs").items()
    result = []
    for one, other in zip(many, few, strict=True):
        density = one["junction 1 %"]
        lost = [float(row["points lost"]) for row in (one, other)]
        if not any(lost):
            continue  # the dense networks, against which the others lose
        errors = (lost[1] - lost[0]) / math.hypot(
            float(one["standard error"]), float(other["standard error"]), 1e-9
        )
        result.append(
            record.finding(
                f"(c) {pixels} lose less than {others} at density {density} %",
                f"{lost[0]:.2f} points against {lost[1]:.2f}, {errors:+.1f} standard "
                "errors",
                errors > 0 if abs(errors) > study.SURE else None,
            )
        )
    return result


def _penalty(rows: Sequence[Row]) -> list[dict[str, str]]:
    """(e) Is the best penalty of a sparser network no larger?"""
    groups = record.groups(rows, "net density %")
    best = {density: max(own, key=study.accuracy) for density, own in groups.items()}
    sparsest, densest = (groups[end(best, key=float)] for end in (min, max))
    ends = [max(own, key=study.accuracy) for own in (sparsest, densest)]
    penalties = [float(row["L2"]) for row in ends]
    # The penalty of the one, tried on the other: is it really worse?
    gains = [
        study.apart(study.read_mean(end), study.read_mean(row))
        for end, own, other in zip(ends, (sparsest, densest), ends[::-1], strict=True)
        for row in own
        if row["L2"] == other["L2"]
    ]
    return [
        record.finding(
            "(e) the sparser the network, the less L2 is best",
            ", ".join(f"{row['L2']} at {density} %" for density, row in best.items())
            + f"; the ends differ by {max(gains):.1f} standard errors at most",
            penalties[0] < penalties[1] if max(gains) > study.SURE else None,
        )
    ]


def _first(row: Row) -> float:
    return float(row["junction 1 %"])


def _second(row: Row) -> float:
    return float(row["junction 2 %"])


if __name__ == "__main__":
    launch.run(
        main,
        default_config="trends",
        on_interrupt="the same command goes on with what is not trained yet",
    )
