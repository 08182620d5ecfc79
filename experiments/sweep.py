r"""The same search for several weights of complexity; what is trained once is shared.

  python -m experiments.sweep --w_c=0,0.01,0.1,1,10
  python -m experiments.sweep --config=experiments/configs/mnist_mlp.py \
      --config.data.dir=DIR --workdir=runs/mnist_sweep

Each weight has a work folder of its own in the work folder, as experiments.search makes
it; the table of all is in sweep.csv. A trial that an earlier weight has made is scored
anew and not trained again. A sweep that was interrupted goes on where it stopped.
"""

import csv
import math
import pathlib
from typing import Any

import ml_collections
from absl import flags
from rich.table import Table

from dnc_jax.errors import InputError
from dnc_jax.report.folder import SUMMARY, shown
from dnc_jax.search import Candidate
from dnc_jax.training import processes
from experiments import job, launch

WEIGHTS = flags.DEFINE_list(
    "w_c", ["0", "0.01", "0.1", "1", "10"], "Weights of complexity, one search each."
)
# Of the table: its key in summary.json, its title, and how it is shown.
_COLUMNS = {
    "w_c": ("w_c", "{:g}"),
    "parameters": ("parameters", "{:,}"),
    "flops_per_example": ("FLOPs/ex.", "{:,}"),
    "best_val_accuracy": ("val.", ""),  # as its metric is
    "test_accuracy": ("test", ""),
    "candidate_epochs": ("epochs", "{:,}"),
    "search_seconds": ("seconds", "{:.1f}"),
}


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """One search for each weight, then the table."""
    out = launch.console()
    weights = asked()
    folders = [workdir / f"w_c-{weight:g}" for weight in weights]
    summaries: list[dict[str, Any]] = []
    for number, (weight, folder) in enumerate(zip(weights, folders, strict=True)):
        out.rule(f"w_c = {weight:g}")
        own: launch.Config = ml_collections.ConfigDict(config.to_dict())
        own.objective.w_c = weight
        job.run(own, folder, forks=folders[:number])
        if processes.is_first():  # the others may not see its files
            summaries.append(launch.read_json(folder / SUMMARY))
    if not processes.is_first():
        return
    with (workdir / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
        # Of one that was resumed, epochs and seconds are those of the last run.
        writer = csv.DictWriter(
            file, [*_COLUMNS, "resumed", "network"], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows({**one, "network": _network(one)} for one in summaries)
    out.print(table(summaries))
    out.print(f"{workdir}: sweep.csv, and a work folder for each weight", markup=False)


def asked() -> list[float]:
    """The weights that --w_c names.

    Raises:
      InputError: none, something else, or two of one work folder.
    """
    if "config.objective.w_c" in flags.FLAGS:  # defined where it is given
        raise InputError("--config.objective.w_c means nothing here; --w_c has weights")
    weights = [_weight(text) for text in WEIGHTS.value]
    if not weights:
        raise InputError("--w_c names no weight; --w_c=0,0.1,1 names three")
    if len({f"{weight:g}" for weight in weights}) < len(weights):
        raise InputError(
            f"--w_c: of {', '.join(WEIGHTS.value)} two have one work folder, which is "
            "named with six digits"
        )
    return weights


def table(summaries: list[dict[str, Any]]) -> Table:
    """What each weight found, one a row."""
    result = Table(title="The winner for each weight of complexity")
    for title, _ in _COLUMNS.values():
        result.add_column(title, justify="right", no_wrap=True)
    result.add_column("network", overflow="fold")
    for one in summaries:
        cells = (
            form.format(one[name]) if form else shown(one[name], one["metric"])
            for name, (_, form) in _COLUMNS.items()
        )
        result.add_row(*cells, _network(one))
    return result


def _network(summary: dict[str, Any]) -> str:
    return str(Candidate.from_json(summary["best"]).architecture)


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise InputError(f"--w_c: {text!r} is not a finite number >= 0")
    return weight


if __name__ == "__main__":
    launch.run(
        main,
        default_config="digits",
        on_interrupt="what was trained is kept; the same command goes on from there",
        several=True,
    )
