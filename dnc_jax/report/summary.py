"""summary.json: what a finished search says of itself."""

import dataclasses
import os
import pathlib

import numpy as np

from dnc_jax.files import write_json
from dnc_jax.footprint import Energy, carbon
from dnc_jax.report import page
from dnc_jax.report.folder import BEST, SUMMARY, Summary
from dnc_jax.search.chunks import Chunks
from dnc_jax.search.objective import Objective
from dnc_jax.search.results import SearchResult, Winner
from dnc_jax.training import checkpoints, machine
from dnc_jax.training.checkpoints import Network
from dnc_jax.training.data import Dataset
from dnc_jax.training.feed import EVALUATION_BATCH

_UNCOUNTED = "no meter was given"


def summarise(
    result: SearchResult,
    winner: Winner,
    data: Dataset,
    objective: Objective | None = None,
    *,
    seed: int,
    energy: Energy | None = None,
    grid: carbon.Grid | None = None,
    total_seconds: float | None = None,
) -> Summary:
    """What was found and what it took.

    Args:
      result: of the search.
      winner: of `retrain`.
      data, objective, seed: as both had them.
      energy: of both, as `Meter.energy` gives it; None is unavailable.
      grid: that the energy came from, for its emissions.
      total_seconds: with reading data and what else there was; None is those of search
        and winner.
    """
    cost, seconds = winner.trial.complexity, result.search_seconds + winner.seconds
    if energy is None:
        energy = Energy(None, "unavailable", _UNCOUNTED, (), seconds, 0.0, None)
    return {
        "best_val_accuracy": winner.best_val_accuracy,
        "best_val_loss": winner.best_val_loss,
        "test_accuracy": winner.test_accuracy,
        "test_loss": winner.test_loss,
        "parameters": cost.parameters,
        "flops_per_example": cost.flops_per_example,
        "score": winner.score,
        "candidates": len({t.candidate_id for t in result.trials}),
        "candidate_epochs": result.candidate_epochs,
        "search_seconds": result.search_seconds,
        "compile_seconds": result.compile_seconds,
        "seed": int(seed),
        "complete": result.complete,
        "resumed": result.forecast is None,
        "train_epochs": len(winner.history.train_loss),
        "retrain_seconds": winner.seconds,
        "total_seconds": seconds if total_seconds is None else total_seconds,
        "data": data.name,
        "metric": data.metric,
        "performance": (objective or Objective()).performance,
        "w_c": (objective or Objective()).w_c,
        "energy": energy.to_json(),
        "attribution": result.attribution._asdict(),
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


def finish(
    workdir: str | os.PathLike[str], winner: Winner, summary: Summary
) -> pathlib.Path:
    """Ends a search in the folder of its store: network, summary.json, report.html.

    What the search kept there to go on with is removed, unless a budget ended it.

    Args:
      workdir: has the search's trials.sqlite.
      winner: whose network is saved in `best/`.
      summary: of `summarise`.

    Returns:
      The path of report.html.

    Raises:
      InputError: `best/` is something else than a network, or there is no search.
      OSError: the folder cannot be written.
    """
    folder = pathlib.Path(workdir)
    checkpoints.save(folder / BEST, winner.network)
    write_json(folder / SUMMARY, summary)
    report = page.write(folder)
    tidy(folder, summary)
    return report


def tidy(folder: pathlib.Path, summary: Summary) -> None:
    """A search that has ended has its report, and nothing to go on with.

    One that a budget ended keeps that: it goes on where the budget is raised.
    """
    if not (folder / page.REPORT).exists():
        page.write(folder)
    if summary["complete"]:
        Chunks(folder).remove()


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
