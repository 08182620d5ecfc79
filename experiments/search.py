r"""Searches for a network that is good and cheap, trains the best and tests it once.

  python -m experiments.search
  python -m experiments.search --config=experiments/configs/mnist_mlp.py \
      --config.data.dir=DIR --config.objective.w_c=0.1 --workdir=runs/mnist_small

The work folder receives trials.sqlite, best/, report.html and summary.json. A search
that was interrupted goes on where it stopped; a finished one is shown again. With
--fork=DIR trials of the search in DIR are taken over where this one asks for the same:
another objective, a wider space or more candidates without training all of it again.
"""

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console

from dnc_jax.errors import InputError
from dnc_jax.footprint import Assumed, Energy, Meter, carbon, find
from dnc_jax.report import page, terminal
from dnc_jax.report.live import Reporter
from dnc_jax.search import Constraints, Objective, Store, Trial, make_space
from dnc_jax.search.budget import Budget
from dnc_jax.search.forecast import calibration, machine
from dnc_jax.search.run import (
    Callbacks,
    SearchResult,
    Winner,
    check,
    retrain,
    search,
)
from dnc_jax.search.strategies import make
from dnc_jax.search.trials import read
from dnc_jax.search.units import Units
from dnc_jax.training import checkpoints, processes
from dnc_jax.training.checkpoints import Network
from dnc_jax.training.data import Dataset
from dnc_jax.training.trainer import EVALUATION_BATCH
from experiments import checks, launch

FORK = flags.DEFINE_string(
    "fork",
    None,
    "Work folder of another search over the same data, whose trials are not repeated.",
)


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """One search from data to saved network."""
    begin = time.perf_counter()
    out = launch.console()
    objective = checks.call(Objective, config, "objective")
    grid = carbon.grid(config.energy.region, config.energy.intensity, config.energy.pue)
    budget = Budget(**config.budget, grid=grid)
    assumed = Assumed.checked(config.energy.tdp_watts, config.energy.utilisation)
    if config.train.epochs < 1:
        raise InputError(f"train.epochs must be >= 1, got {config.train.epochs}")
    out.print(f"dnc_jax: reading {config.data.name}", markup=False)
    data = launch.load_data(config)
    rows = len(data.train.y)
    constraints = checks.call(Constraints, config, "constraints")
    space = constraints.limited(checks.call(make_space, config, "space", data))
    strategy = checks.call(make, config, "search", space)
    out.print(f"{data}; results go to {workdir}", markup=False)
    recorded, prior = config.to_dict(), []
    if FORK.value:
        recorded["fork"] = FORK.value
        prior = prior_trials(pathlib.Path(FORK.value), config)
    meter = Meter(find(), idle_seconds=config.energy.idle_seconds, assumed=assumed)
    learned = calibration(summaries(workdir.parent), assumed.watts if assumed else 0.0)
    check(
        space,
        data,
        objective,
        strategy,
        seed=config.seed,
        constraints=constraints,
        budget=None if workdir.exists() else budget,
        meter=meter,
        calibration=learned,
        read_joules=meter.joules if meter.available else None,
    )
    if not processes.is_first():
        # It trains its share; process 0 reads, writes and reports.
        if not processes.from_first(None):
            search(
                space,
                data,
                objective,
                strategy,
                seed=config.seed,
                prior=prior,
                constraints=constraints,
                # Energy is capped by process 0, which counts it.
                budget=dataclasses.replace(budget, watt_hours=0.0, grams_co2e=0.0),
                calibration=learned,
            )
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with Store(workdir / "trials.sqlite", recorded) as store:
        summary_path = workdir / "summary.json"
        if processes.from_first(summary_path.exists()):
            out.print(f"{workdir} holds this search, finished:", markup=False)
            show(out, launch.read_json(summary_path), store.trials(), workdir)
            return
        with (
            meter,
            terminal.ProgressReport(
                out, strategy.candidate_epochs, data.metric
            ) as progress,
        ):
            reporter = Reporter(
                workdir,
                (rows, len(data.validation.y)),
                lambda: meter.energy().joules,
            )
            callback = Callbacks(progress, reporter)
            result = search(
                space,
                data,
                objective,
                strategy,
                seed=config.seed,
                store=store,
                folder=workdir,
                prior=prior,
                constraints=constraints,
                read_joules=meter.joules if meter.available else None,
                budget=budget,
                meter=meter,
                calibration=learned,
                callback=callback,
            )
            winner = retrain(
                result,
                space,
                data,
                objective,
                seed=config.seed,
                epochs=config.train.epochs,
                refit=config.train.refit,
                folder=workdir,
                callback=callback,
            )
        checkpoints.save(workdir / "best", winner.network)
        summary = summarise(
            config,
            data,
            result,
            winner,
            meter.energy(result.flops + winner.flops),
            grid,
            time.perf_counter() - begin,
        )
        partial = workdir / "summary.json.partial"
        partial.write_text(json.dumps(summary, indent=2) + "\n")
        partial.rename(summary_path)
        page.write(workdir)
        Units(workdir).remove()
        show(out, summary, result.trials, workdir)


def prior_trials(folder: pathlib.Path, config: launch.Config) -> list[Trial]:
    """Trials of the search in `folder`, which saw the same rows.

    Raises:
      InputError: there is no search, or of other data or another seed, which chooses
        the validation rows.
    """
    stored, trials = read(folder / "trials.sqlite")
    wanted = json.loads(json.dumps(config.to_dict()))
    for name in ("data", "seed"):
        if stored.get(name) != wanted[name]:
            raise InputError(
                f"--fork={folder}: its {name} is {stored.get(name)}, this search's is "
                f"{wanted[name]}; trials of other rows say nothing about these"
            )
    return trials


def summaries(folder: pathlib.Path) -> Iterator[Any]:
    """What earlier runs beside this one left; a damaged file is passed over."""
    for path in sorted(folder.glob("*/summary.json")):
        with contextlib.suppress(OSError, ValueError):
            yield json.loads(path.read_text())


def summarise(
    config: launch.Config,
    data: Dataset,
    result: SearchResult,
    winner: Winner,
    energy: Energy,
    grid: carbon.Grid | None,
    total_seconds: float,
) -> dict[str, Any]:
    """The contents of summary.json."""
    cost = winner.trial.complexity
    return {
        "best_val_accuracy": winner.best_val_accuracy,
        "test_accuracy": winner.test_accuracy,
        "parameters": cost.parameters,
        "flops_per_example": cost.flops_per_example,
        "score": winner.score,
        "candidates": len({t.candidate_id for t in result.trials}),
        "candidate_epochs": result.candidate_epochs,
        "search_seconds": result.search_seconds,
        "compile_seconds": result.compile_seconds,
        "seed": config.seed,
        "complete": result.complete,
        "train_epochs": config.train.epochs,
        "retrain_seconds": winner.seconds,
        "total_seconds": total_seconds,
        "data": config.data.name,
        "metric": data.metric,
        "w_c": config.objective.w_c,
        "energy": energy.to_json(),
        "attribution": result.attribution.to_json(),
        "emissions": carbon.emissions(energy.joules, grid).to_json() if grid else None,
        "forecast": result.forecast
        and result.forecast.scored(result.search_seconds, result.attribution.joules),
        "machine": machine(),
        "ended_by": result.ended_by,
        "best": winner.trial.candidate.to_json(),
        "history": winner.history._asdict(),
        "confusion": confusion(winner.network, data),
        "programs": {k: dataclasses.asdict(v) for k, v in result.programs.items()},
    }


def confusion(network: Network, data: Dataset) -> list[list[int]] | None:
    """Test examples by true and by predicted class: [C, C]; None in regression."""
    if data.task == "regression":
        return None
    x, y = data.test
    batches = range(0, len(y), EVALUATION_BATCH)
    logits = [np.asarray(network(x[i : i + EVALUATION_BATCH])) for i in batches]
    matrix = np.zeros((data.outputs, data.outputs), np.int64)
    np.add.at(matrix, (y, np.concatenate(logits).argmax(-1)), 1)
    return matrix.tolist()


def show(
    out: Console,
    summary: dict[str, Any],
    trials: Sequence[Trial],
    workdir: pathlib.Path,
) -> None:
    """Prints what was found and where it lies."""
    out.print(terminal.best_table(trials, metric=summary["metric"]))
    out.print(terminal.front_table(trials))
    for line in terminal.summary_lines(summary):
        out.print(line, markup=False)
    out.print(
        f"{workdir}: trials.sqlite, summary.json, report.html, and "
        f"dnc_jax.load('{workdir / 'best'}')",
        markup=False,
    )


def cli() -> None:
    """The command `dnc-search`."""
    launch.run(
        main,
        default_config="digits",
        on_interrupt="what was trained is kept; the same command goes on from there",
    )


if __name__ == "__main__":
    cli()
