"""Writes what a work folder holds in the forms of other tools.

  python -m experiments.export --workdir=runs/digits --network=exported
  python -m experiments.export --workdir=runs/digits --optuna=sqlite:///optuna.db
  python -m experiments.export --workdir=runs/digits --parquet=trials.parquet
  python -m experiments.export --workdir=runs/digits --tensorboard=logs

--network writes the winner as a folder that runs without dnc_jax.
"""

from absl import flags

import dnc_jax
from dnc_jax import interchange
from dnc_jax.errors import InputError
from dnc_jax.report import Run, read
from dnc_jax.report.folder import BEST
from experiments import launch

WORKDIR = flags.DEFINE_string("workdir", None, "Work folder of a search.")
NETWORK = flags.DEFINE_string("network", None, "New folder of the winner.")
OPTUNA = flags.DEFINE_string("optuna", None, "Storage of a study named like workdir.")
PARQUET = flags.DEFINE_string("parquet", None, "File of the trials.")
TENSORBOARD = flags.DEFINE_string("tensorboard", None, "Folder of a run a candidate.")


def main() -> None:
    """Writes all that is asked for."""
    asked = [NETWORK, OPTUNA, PARQUET, TENSORBOARD]
    if WORKDIR.value is None or not any(flag.value for flag in asked):
        raise InputError("name --workdir=DIR and what to write; see --help")
    write(read(WORKDIR.value))


def write(run: Run) -> None:
    """Writes, and says where."""
    if NETWORK.value:
        print(dnc_jax.export(dnc_jax.load(run.folder / BEST), NETWORK.value))
    if OPTUNA.value:
        study = interchange.to_study(
            run.trials, run.folder.resolve().name, OPTUNA.value
        )
        print(f"study {study.study_name} in {OPTUNA.value}")
    if PARQUET.value:
        interchange.to_parquet(run.trials, PARQUET.value)
        print(PARQUET.value)
    if TENSORBOARD.value:
        interchange.to_tensorboard(run.trials, TENSORBOARD.value)
        print(TENSORBOARD.value)


if __name__ == "__main__":
    launch.run_flags(main)
