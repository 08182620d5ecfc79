r"""Searches for a network that is good and cheap, trains the best and tests it once.

  python -m experiments.search
  python -m experiments.search --config=experiments/configs/mnist_mlp.py \
      --config.data.dir=DIR --config.objective.w_c=0.1 --workdir=runs/mnist_small

The work folder receives trials.sqlite, best/, report.html and summary.json. A search
that was interrupted goes on where it stopped; a finished one is shown again. With
--fork=DIR trials of the search in DIR are taken over where this one asks for the same:
another objective, a wider space or more candidates without training all of it again.
"""

import pathlib

from absl import flags

from experiments import job, launch

FORK = flags.DEFINE_string(
    "fork",
    None,
    "Work folder of another search over the same data, whose trials are not repeated.",
)


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """One search from data to saved network."""
    if FORK.value:
        fork = pathlib.Path(FORK.value)
        job.run(config, workdir, forks=[fork], recorded={"fork": FORK.value})
    else:
        job.run(config, workdir)


def cli() -> None:
    """The command `dnc-search`."""
    launch.run(
        main,
        default_config="digits",
        on_interrupt="what was trained is kept; the same command goes on from there",
        several=True,
    )


if __name__ == "__main__":
    cli()
