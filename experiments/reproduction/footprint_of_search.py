"""Energy and CO2e of training one network, with tuning, and with architecture search.

  python -m experiments.reproduction.footprint_of_search --config.data.dir=DIR

The first table of Strubell et al., for MLPs on MNIST: one training of a fixed network;
the same with a search over its learning rate, weight decay and batch size; and with a
search over its architecture too. Energy is measured where there is a counter, estimated
where config.energy.tdp_watts is assumed, else empty. The work folder gets `tuning` and
`search`, the work folders of the two searches, and CSV, plots.html and tables.md.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections

from dnc_jax.files import write_json
from dnc_jax.footprint import Energy, Meter, carbon, complexity, find, training_work
from dnc_jax.footprint.carbon import GRAMS_PER_POUND, JOULES_PER_KWH
from dnc_jax.networks import MLP
from dnc_jax.training import Hyperparameters, feed, trainer
from experiments import job, launch
from experiments.reproduction import record
from experiments.reproduction.record import Row
from experiments.reproduction.study import Study, chart, whole_search

# Pounds of CO2e in table 1 of Strubell et al. (2019), as the talk shows it.
PUBLISHED = {
    "NLP pipeline, one model": 39.0,
    "NLP pipeline, with tuning and experimentation": 78_468.0,
    "Transformer (big), one model": 192.0,
    "Transformer (big), with architecture search": 626_155.0,
}
ONE, TUNED, SEARCHED = "one model", "with tuning", "with architecture search"
NOTES = (
    "Ours are MLPs on MNIST, theirs models of language: the factors over one model can "
    "be compared, not the amounts. Their kWh are their pounds over 0.954 lb/kWh.",
    "What is estimated is the seconds times an assumed power of the processor, on "
    "a machine with other work; FLOPs, those of the networks trained, are not.",
)


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """Trains once, tunes, searches, then writes the table."""
    study_ = Study(config, workdir)
    model = config.model
    network_config: Any = ml_collections.ConfigDict(config.to_dict())
    del network_config.model
    costs = {ONE: _one(config, workdir)}
    for name, folder, own in (
        (TUNED, "tuning", pinned(network_config, model)),
        (SEARCHED, "search", network_config),
    ):
        study_.out.rule(name)
        job.run(own, workdir / folder)
        summary = whole_search(workdir / folder)
        costs[name] = {
            "energy": summary["energy"],
            "test_accuracy": summary["test_accuracy"],
            "parameters": summary["parameters"],
        }
    grid = launch.grid(config)
    rows = table(costs, grid)
    study_.table("cost", "One model, with tuning, with architecture search", rows)
    study_.table(record.FINDINGS, record.CAPTION, findings({"cost": rows}))
    figure = chart("Over one model", "", "factor")
    figure.add_bar(x=[row["what"] for row in rows], y=[row["factor"] for row in rows])
    figure.update_yaxes(type="log")
    study_.figure(figure)
    factors = {name: str(one) for name, one in grid._asdict().items()} if grid else {}
    study_.finish("What a search takes", NOTES, factors=factors)


def pinned(config: launch.Config, model: launch.Config) -> launch.Config:
    """The search over the training of one architecture alone."""
    own: Any = ml_collections.ConfigDict(config.to_dict())
    own.space.depth = (len(model.hidden),) * 2
    own.space.width = (min(model.hidden), max(model.hidden))
    own.space.activations = ("relu",)
    own.space.dropout = (0.0, 0.0)
    return own


def _one(config: launch.Config, workdir: pathlib.Path) -> dict[str, Any]:
    """What training the model once took, kept in one.json."""
    path = workdir / "one.json"
    if path.exists():
        return launch.read_json(path)
    data = launch.load_data(config)
    model, epochs = config.model, config.train.epochs
    network = MLP(data.inputs, tuple(model.hidden), data.outputs)
    how = Hyperparameters(model.learning_rate, 0.0, model.batch_size)
    key, order_key = jax.random.split(jax.random.key(config.seed))
    assumed = launch.assumed_power(config)
    rows = data.rows
    with Meter(find(), assumed=assumed) as meter:
        trained, _ = trainer.train(
            key, network, how, data, order_key=order_key, epochs=epochs
        )
    work = training_work(network, how.batch_size, *rows, epochs=epochs)
    limit = feed.limit(data)
    test = trainer.evaluate(trained, network, data.test, data.view, limit)
    one = {
        "energy": meter.energy(work.flops).to_json(),
        "test_accuracy": float(test.accuracy),
        "parameters": complexity(network).parameters,
    }
    write_json(path, one)
    return one


def table(
    costs: Mapping[str, Mapping[str, Any]], grid: carbon.Grid | None
) -> list[dict[str, str]]:
    """Our rows, then the published ones. A factor is over the first row of its model.

    Where our energy is unavailable factors are of FLOPs.
    """
    rows = []
    first = Energy.from_json(costs[ONE]["energy"])
    for name, one in costs.items():
        energy = Energy.from_json(one["energy"])
        grams = carbon.emissions(energy.joules, grid).grams_co2e if grid else None
        rows.append(
            {
                "what": f"MLP on MNIST, {name}",
                "kind": energy.kind,
                "kWh": _number(energy.joules and energy.joules / JOULES_PER_KWH),
                "lb CO2e": _number(grams and grams / GRAMS_PER_POUND),
                "factor": _number(_factor(energy, first)),
                "seconds": f"{energy.seconds:.0f}",
                "FLOPs": _number(energy.flops),
                "test accuracy %": f"{100 * one['test_accuracy']:.2f}",
                "parameters": f"{one['parameters']}",
            }
        )
    for name, pounds in PUBLISHED.items():
        one = "NLP pipeline" if name.startswith("NLP") else "Transformer (big)"
        rows.append(
            {
                "what": name,
                "kind": "published",
                "kWh": _number(pounds / carbon.STRUBELL_POUNDS_PER_KWH),
                "lb CO2e": f"{pounds:g}" if pounds < 1e5 else f"{pounds:.0f}",
                "factor": _number(pounds / PUBLISHED[f"{one}, one model"]),
                **dict.fromkeys(
                    ("seconds", "FLOPs", "test accuracy %", "parameters"), ""
                ),
            }
        )
    return rows


def _factor(energy: Energy, first: Energy) -> float | None:
    if energy.joules is not None and first.joules:
        return energy.joules / first.joules
    if energy.flops is not None and first.flops:
        return energy.flops / first.flops
    return None


def findings(tables: Mapping[str, Sequence[Row]]) -> list[dict[str, str]]:
    """The talk's message against the table, as it is printed."""
    rows = {row["what"]: row for row in tables["cost"]}
    pairs = (
        (TUNED, "NLP pipeline, with tuning and experimentation"),
        (SEARCHED, "Transformer (big), with architecture search"),
    )
    result = []
    for name, published in pairs:
        ours = float(rows[f"MLP on MNIST, {name}"]["factor"] or math.nan)
        theirs = float(rows[published]["factor"])
        result.append(
            record.finding(
                f"a model {name} takes thousands of times one training",
                f"{ours:g} times (published: {theirs:g})",
                None if math.isnan(ours) else ours >= 1000,
            )
        )
    return result


def _number(value: float | None) -> str:
    """Three digits; empty for None, which is not 0."""
    return "" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    launch.run(
        main,
        default_config="footprint_of_search",
        on_interrupt="the same command goes on where it stopped",
    )
