"""Trials as files that pandas and TensorBoard read."""

import os
import pathlib
from collections.abc import Sequence

from dnc_jax.errors import load_tool
from dnc_jax.search import Trial
from dnc_jax.search.columns import table
from dnc_jax.search.trials import longest


def to_parquet(trials: Sequence[Trial], path: str | os.PathLike[str]) -> None:
    """Writes `report.table(trials)` as a Parquet file, a row for each trial.

    Raises:
      InputError: pandas is not installed.
    """
    pandas = load_tool("pandas", "pandas")
    load_tool("pyarrow", "pandas")
    pandas.DataFrame(table(trials)).to_parquet(path)


def to_tensorboard(trials: Sequence[Trial], folder: str | os.PathLike[str]) -> None:
    """Writes the curves of each candidate as a run of its own in `folder`.

    Scalars are val_loss and val_accuracy by epoch, and the score by epochs trained.

    Raises:
      InputError: tensorboardX is not installed.
    """
    writers = load_tool("tensorboardX", "tensorboard")
    for number, last in sorted(longest(trials).items()):
        rungs = [t for t in trials if t.candidate_id == number]
        with writers.SummaryWriter(
            str(pathlib.Path(folder) / f"candidate_{number:04d}")
        ) as run:
            run.add_text("candidate", str(last.candidate))
            for name in ("val_loss", "val_accuracy"):
                for epoch, value in enumerate(getattr(last, name), 1):
                    run.add_scalar(name, value, epoch)
            for trial in rungs:
                if trial.status == "done":
                    run.add_scalar("score", trial.score, trial.epochs)
