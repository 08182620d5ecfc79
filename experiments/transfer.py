r"""Takes the architectures that a search found to other data, and tunes their training.

  python -m experiments.transfer --source=runs/digits --config.data.name=rows.npz \
      --workdir=runs/rows

The best architectures of the search in the source folder get the inputs and outputs of
the new data; learning rate, weight decay and batch size are searched anew, in the
ranges of the config. The work folder is as experiments.search makes it.
"""

import pathlib

from absl import flags

from dnc_jax.errors import InputError
from dnc_jax.search import make_space
from dnc_jax.search.transfer import adapted, training_space
from dnc_jax.search.trials import ranking
from experiments import checks, job, launch

SOURCE = flags.DEFINE_string("source", None, "Work folder of the search to learn from.")
COUNT = flags.DEFINE_integer("count", 4, "How many of its best architectures to take.")


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """Reads the source, then searches how to train what it found."""
    if not SOURCE.value:
        raise InputError("name the search to learn from: --source=runs/digits")
    if COUNT.value < 1:
        raise InputError(f"--count must be >= 1, got {COUNT.value}")
    _, trials = job.stored_search(pathlib.Path(SOURCE.value))
    found = dict.fromkeys(t.candidate.architecture for t in ranking(trials))
    if not found:
        raise InputError(f"{SOURCE.value} holds no trial that did not diverge")
    best = list(found)[: COUNT.value]
    data = launch.load_data(config)
    out = launch.console()
    out.print(f"architectures of {SOURCE.value}:", markup=False)
    for one in best:
        out.print(f"  {one}", markup=False)
    space = training_space(
        [adapted(one, data) for one in best],
        checks.call(make_space, config, "space", data),
    )
    recorded = {"source": SOURCE.value, "architectures": [str(one) for one in best]}
    job.run(config, workdir, space=space, recorded=recorded)


if __name__ == "__main__":
    launch.run(
        main,
        default_config="digits",
        on_interrupt="what was trained is kept; the same command goes on from there",
        several=True,
    )
