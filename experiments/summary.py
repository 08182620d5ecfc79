"""What a finished search says of itself: summary.json and the terminal."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console

from dnc_jax.footprint import Energy, carbon
from dnc_jax.report import terminal
from dnc_jax.search import Trial
from dnc_jax.search.run import (
    SearchResult,
    Winner,
)
from dnc_jax.training import machine
from dnc_jax.training.checkpoints import Network
from dnc_jax.training.data import Dataset
from dnc_jax.training.feed import EVALUATION_BATCH
from experiments import launch


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
        # Then seconds, epochs trained, FLOPs and energy are those of the last run.
        "resumed": result.forecast is None,
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
        and result.forecast.scored(
            result.search_seconds, result.attribution.joules, result.candidate_epochs
        ),
        "machine": machine.describe(),
        "ended_by": result.ended_by,
        "best": winner.trial.candidate.to_json(),
        "history": winner.history._asdict(),
        "confusion": confusion(winner.network, data),
        "labels": list(data.labels),
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
        terminal.say(out, line)
    if summary.get("resumed"):
        terminal.say(
            out,
            "  seconds, FLOPs and energy are those of the last run; timeline.jsonl has "
            "their sums over all runs, but for rungs that were cut off",
        )
    terminal.say(
        out,
        f"{workdir}: trials.sqlite, summary.json, report.html, and "
        f"dnc_jax.load('{workdir / 'best'}')",
    )
