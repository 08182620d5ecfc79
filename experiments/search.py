"""Searches for a network that is good and cheap, trains the best and tests it once.

  python -m experiments.search
  python -m experiments.search --config=experiments/configs/mnist_mlp.py \
      --config.data.dir=DIR --config.objective.w_c=0.1 --workdir=runs/mnist_small

The work folder receives trials.sqlite, best/, pareto.html and summary.json. A search
that was interrupted goes on where it stopped; a finished one is shown again.
"""

import contextlib
import json
import pathlib
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from dnc_jax.errors import InputError
from dnc_jax.footprint import Assumed, Energy, Meter, carbon, find
from dnc_jax.report import plots, terminal
from dnc_jax.search import Constraints, MLPSpace, Objective, Store, Trial
from dnc_jax.search.budget import Budget
from dnc_jax.search.forecast import calibration, machine
from dnc_jax.search.run import SearchResult, Winner, retrain, search
from dnc_jax.search.strategies import halving
from dnc_jax.search.units import Units
from dnc_jax.training import checkpoints
from experiments import launch


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """One search from data to saved network."""
    begin = time.perf_counter()
    out = terminal.console()
    objective = Objective(**config.objective)
    grid = carbon.grid(config.energy.region, config.energy.intensity, config.energy.pue)
    budget = Budget(**config.budget, grid=grid)
    assumed = Assumed.checked(config.energy.tdp_watts, config.energy.utilisation)
    if config.train.epochs < 1:
        raise InputError(f"train.epochs must be >= 1, got {config.train.epochs}")
    out.print(f"dnc_jax: reading {config.data.name}", markup=False)
    data = launch.load_data(config)
    rows = len(data.train.y)
    constraints = Constraints(**config.constraints)
    space = constraints.limited(
        MLPSpace(data.inputs, data.outputs, **config.space).limited_to(rows)
    )
    strategy = halving(space, **config.search)
    out.print(f"{data}; results go to {workdir}", markup=False)
    fresh = not workdir.exists()
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        Store(workdir / "trials.sqlite", config.to_dict()) as store,
        nothing_left_if_refused(workdir, store, fresh),
    ):
        summary_path = workdir / "summary.json"
        if summary_path.exists():
            out.print(f"{workdir} holds this search, finished:", markup=False)
            show(out, json.loads(summary_path.read_text()), store.trials(), workdir)
            return
        with (
            Meter(
                find(), idle_seconds=config.energy.idle_seconds, assumed=assumed
            ) as meter,
            terminal.ProgressReport(
                out, strategy.candidate_epochs, data.metric
            ) as progress,
        ):
            result = search(
                space,
                data,
                objective,
                strategy,
                seed=config.seed,
                store=store,
                folder=workdir,
                constraints=constraints,
                read_joules=meter.joules if meter.available else None,
                budget=budget,
                meter=meter,
                calibration=calibration(
                    summaries(workdir.parent), assumed.watts if assumed else 0.0
                ),
                callback=progress,
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
                callback=progress,
            )
    checkpoints.save(workdir / "best", winner.network)
    plots.pareto(result.trials, winner).write_html(workdir / "pareto.html")
    summary = summarise(
        config,
        data.metric,
        result,
        winner,
        meter.energy(result.flops + winner.flops),
        grid,
        time.perf_counter() - begin,
    )
    partial = workdir / "summary.json.partial"
    partial.write_text(json.dumps(summary, indent=2) + "\n")
    partial.rename(summary_path)
    Units(workdir).remove()
    show(out, summary, result.trials, workdir)


@contextlib.contextmanager
def nothing_left_if_refused(
    workdir: pathlib.Path, store: Store, fresh: bool
) -> Iterator[None]:
    """Removes a work folder that was made for input that turned out to be unusable."""
    try:
        yield
    except InputError:
        if fresh and not store.trials():
            shutil.rmtree(workdir)
        raise


def summaries(folder: pathlib.Path) -> Iterator[Any]:
    """What earlier runs beside this one left; a damaged file is passed over."""
    for path in sorted(folder.glob("*/summary.json")):
        with contextlib.suppress(OSError, ValueError):
            yield json.loads(path.read_text())


def summarise(
    config: launch.Config,
    metric: str,
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
        "metric": metric,
        "w_c": config.objective.w_c,
        "energy": energy.to_json(),
        "attribution": result.attribution.to_json(),
        "emissions": carbon.emissions(energy.joules, grid).to_json() if grid else None,
        "forecast": result.forecast
        and result.forecast.scored(result.search_seconds, result.attribution.joules),
        "machine": machine(),
        "ended_by": result.ended_by,
        "best": winner.trial.candidate.to_json(),
    }


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
        f"{workdir}: trials.sqlite, summary.json, pareto.html, and "
        f"dnc_jax.load('{workdir / 'best'}')",
        markup=False,
    )


if __name__ == "__main__":
    launch.run(
        main,
        default_config="digits",
        on_interrupt="what was trained is kept; the same command goes on from there",
    )
