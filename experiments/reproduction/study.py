"""Networks of many points and seeds trained together, and what comes of them."""

import json
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import plotly.graph_objects as go
from rich.table import Table

from dnc_jax.errors import InputError, check_whole
from dnc_jax.files import write_json
from dnc_jax.networks import MLP, Architecture
from dnc_jax.report.folder import SUMMARY
from dnc_jax.report.plots import COLOURS
from dnc_jax.training import Hyperparameters, population
from dnc_jax.training.data import Dataset, Split, joined
from dnc_jax.training.jobs import Job, Outcome
from dnc_jax.training.programs import Programs
from experiments import launch
from experiments import train as single
from experiments.reproduction import record
from experiments.reproduction.record import Row

BLOCK = 4  # nodes to a side of the family "block"
SURE = 2  # standard errors beyond which a difference is no accident


class Point(NamedTuple):
    """A network to train with every seed.

    Attributes:
      name: of its own in the study; the work folder knows finished networks by it.
    """

    name: str
    network: Architecture
    hyperparameters: Hyperparameters


class Mean(NamedTuple):
    """Test accuracy over seeds, in per cent."""

    mean: float
    error: float  # standard error of the mean

    @property
    def cells(self) -> dict[str, str]:
        """As in a table."""
        return {
            "test accuracy %": f"{self.mean:.2f}",
            "standard error": f"{self.error:.2f}",
        }


def whole_search(folder: pathlib.Path) -> dict[str, Any]:
    """The summary of a search that ran in one go: of another, seconds are missing.

    Raises:
      InputError: it was interrupted, or its summary is damaged.
    """
    summary = launch.read_json(folder / SUMMARY)
    if summary["resumed"]:
        raise InputError(
            f"the search in {folder} was interrupted, and its seconds and energy are "
            "those of the last run alone; remove the folder and start again"
        )
    return summary


class Study:
    """A work folder in which points are trained once and tables are left.

    Args:
      config: with `seed`, `train.epochs` and perhaps `networks`: seeds of a point.
      workdir: is made; goes on where the same config was interrupted.

    Raises:
      InputError: an impossible value, or the folder of another config.
    """

    def __init__(self, config: launch.Config, workdir: pathlib.Path) -> None:
        networks = config.get("networks", 1)
        check_whole(1, networks=networks)
        self.config, self.folder = config, workdir
        self.seeds = list(range(config.seed, config.seed + networks))
        self.out = launch.console()
        self._tables: dict[str, str] = {}
        self._figures: list[go.Figure] = []
        recorded = json.loads(config.to_json())
        path = workdir / "config.json"
        if path.exists() and launch.read_json(path) != recorded:
            raise InputError(
                f"{workdir} holds a study of another config; choose another --workdir"
            )
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, recorded)

    def train(
        self, points: Sequence[Point], data: Dataset, epochs: int = 0
    ) -> list[Mean]:
        """Test accuracies after the last epoch, all points and seeds at once.

        Trained on the training and the validation rows; nothing is selected. Seed s
        gives a network its weights and patterns; the rows come in one order for all.

        Args:
          points: with names of their own.
          data: of all of them.
          epochs: instead of those of the config.
        """
        epochs = epochs or self.config.train.epochs
        path = self.folder / "runs.csv"
        runs = record.read_csv(path) if path.exists() else []
        done = {
            (run["point"], int(run["seed"])): float(run["test_accuracy"])
            for run in runs
        }
        missing = [
            (point, seed)
            for point in points
            for seed in self.seeds
            if (point.name, seed) not in done
        ]

        def keep(members: Sequence[int], outcomes: Sequence[Outcome]) -> None:
            for member, outcome in zip(members, outcomes, strict=True):
                point, seed = missing[member]
                if outcome.diverged:
                    raise InputError(
                        f"{point.name}, seed {seed}: the loss is no longer finite "
                        f"after {len(outcome.val_accuracy)} epochs; lower "
                        "train.learning_rate"
                    )
                done[point.name, seed] = outcome.val_accuracy[-1]
                run = {
                    "point": point.name,
                    "seed": str(seed),
                    "test_accuracy": str(outcome.val_accuracy[-1]),
                    "core_seconds": f"{outcome.seconds:.2f}",
                }
                runs.append(run)
                record.write_csv(path, runs)
            self.out.print(f"{len(done)} networks trained", markup=False)

        if missing:
            programs = Programs(examined(data), order(self.config))
            population.train(jobs(missing, epochs), programs, on_chunk=keep)
        return [mean([done[p.name, seed] for seed in self.seeds]) for p in points]

    def table(self, name: str, caption: str, rows: Sequence[Row]) -> None:
        """Writes name.csv and prints it; it will be in RESULTS.md."""
        record.write_csv(self.folder / f"{name}.csv", rows)
        self._tables[name] = caption
        shown = Table(title=caption)
        for column in rows[0]:
            shown.add_column(column)
        for row in rows:
            shown.add_row(*row.values())
        self.out.print(shown)

    def figure(self, figure: go.Figure) -> None:
        """One more on the page plots.html."""
        self._figures.append(figure)

    def finish(self, title: str, notes: Sequence[str], **more: Any) -> None:
        """Writes run.json, tables.md and plots.html.

        Args:
          title: of the study.
          notes: sentences on what differs from the authors' own experiment.
          **more: further entries of run.json.
        """
        about = record.about(self.config, self.seeds)
        run = {"title": title, **about, "notes": list(notes), "tables": self._tables}
        write_json(self.folder / "run.json", {**run, **more})
        (self.folder / "tables.md").write_text(record.section(self.folder))
        for number, figure in enumerate(self._figures):
            with (self.folder / "plots.html").open("a" if number else "w") as page:
                page.write(figure.to_html(full_html=False, include_plotlyjs=not number))
        self.out.print(f"{self.folder}: tables.md, CSV, plots.html", markup=False)


def point(
    config: launch.Config, network: MLP, name: str, decay: float | None = None
) -> Point:
    """A network with the training of the config.

    Args:
      config: of a study.
      network: to train.
      name: that tells the point from all others.
      decay: None is the config's weight decay times the root of the net density: fewer
        weights need less of it.
    """
    train = config.train
    scaled = train.weight_decay * math.sqrt(network.density)
    how = Hyperparameters(
        train.learning_rate, scaled if decay is None else decay, train.batch_size
    )
    return Point(name, network, how)


def jobs(networks: Sequence[tuple[Point, int]], epochs: int) -> list[Job]:
    """Points with their seeds, to train from scratch."""
    return [
        Job(p.network, p.hyperparameters, jax.random.key(seed), 0, epochs, epochs)
        for p, seed in networks
    ]


def order(config: launch.Config) -> Any:
    """The key of the order of the rows, no network's own."""
    return jax.random.fold_in(jax.random.key(config.seed), 2**20)


def mean(accuracies: Sequence[float]) -> Mean:
    """Of fractions; of a single one the standard error is unknown: NaN."""
    count = len(accuracies)
    error = math.nan
    if count > 1:
        error = 100 * statistics.stdev(accuracies) / math.sqrt(count)
    return Mean(100 * statistics.fmean(accuracies), error)


def examined(data: Dataset) -> Dataset:
    """The data to train on all rows but the test rows, and to be tested on these."""
    rows = joined(data.train, data.validation)
    return data._replace(train=rows, validation=data.test)


def padded(data: Dataset, inputs: int) -> Dataset:
    """The data with zeros, on the right, up to so many features, scaled as one.

    Raises:
      InputError: the data has more.
    """
    if data.inputs > inputs:
        raise InputError(
            f"{data.name} has {data.inputs} features, the network takes {inputs}"
        )
    return features(data, lambda x: np.pad(x, ((0, 0), (0, inputs - data.inputs))))


def features(data: Dataset, function: Any) -> Dataset:
    """The data with `function` of its flattened examples, [N, D] to [N, D'].

    All features are normalised by one mean and one scale, those of the training rows.
    """
    splits = [
        Split(np.expand_dims(function(np.reshape(x, (len(x), -1))), 2), y)
        for x, y in (data.train, data.validation, data.test)
    ]
    x = np.asarray(splits[0].x)
    centre, spread = x.mean(dtype=np.float64), x.std(dtype=np.float64)
    return data._replace(
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        mean=np.array([centre], np.float32),
        scale=np.array([1 / spread], np.float32),
    )


def mlp(
    data: Dataset,
    hidden: Sequence[int],
    densities: Sequence[float],
    family: str = "structured",
) -> MLP:
    """An MLP of one family of patterns with the possible densities that are nearest.

    The family "block" is the balanced one over blocks of up to 4 x 4 nodes: as large as
    they divide the layers.
    """
    sizes = (data.inputs, *hidden, data.outputs)
    blocks = [math.gcd(BLOCK, n) if family == "block" else 1 for n in sizes]
    return single.nearest_mlp(
        data,
        hidden=tuple(hidden),
        activation="relu",
        dropout=0.0,
        densities=tuple(densities),
        block_inputs=tuple(blocks[:-1]),
        block_outputs=tuple(blocks[1:]),
        families=(("balanced" if family == "block" else family),) * len(densities),
    )


def chart(title: str, x: str, y: str, *, log: bool = False) -> go.Figure:
    """An empty figure in the report's style."""
    figure = go.Figure()
    figure.update_layout(
        title=title,
        xaxis={"title": x, "type": "log" if log else "linear"},
        yaxis={"title": y},
        template="plotly_white",
        colorway=COLOURS,
    )
    return figure


def line(
    figure: go.Figure, name: str, x: Sequence[float], means: Sequence[Mean]
) -> None:
    """Means with their standard errors against `x`."""
    figure.add_scatter(
        x=list(x),
        y=[one.mean for one in means],
        error_y={"type": "data", "array": [one.error for one in means]},
        mode="lines+markers",
        name=name,
    )


def accuracy(row: Mapping[str, str]) -> float:
    """The mean that `Mean.cells` wrote, in per cent."""
    return float(row["test accuracy %"])


def read_mean(row: Mapping[str, str]) -> Mean:
    """What `Mean.cells` wrote, as far as it was rounded."""
    return Mean(accuracy(row), float(row["standard error"]))


def apart(one: Mean, other: Mean) -> float:
    """Difference of two means, in standard errors of it."""
    return (one.mean - other.mean) / math.hypot(one.error, other.error, 1e-9)
