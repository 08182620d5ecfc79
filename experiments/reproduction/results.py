"""Writes RESULTS.md from the tables under experiments/results, and takes in new ones.

  python -m experiments.reproduction.results --take=runs/weights,runs/trends
  python -m experiments.reproduction.results

A study's tables are copied from its work folder, with its run.json; RESULTS.md is made
of these files alone.
"""

import pathlib
import shutil

from absl import flags

from dnc_jax.errors import InputError
from experiments import launch
from experiments.reproduction import record

TAKE = flags.DEFINE_list("take", [], "Work folders of finished studies to take in.")
ROOT = pathlib.Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "results", ROOT / "RESULTS.md"
STUDIES = (  # in the order of the page
    "weights",
    "density_sweep",
    "cifar_head",
    "trends",
    "large_sparse_small_dense",
    "wc_sweep",
    "wc_sweep_cnn",
    "frameworks",
    "footprint_of_search",
)
HEAD = """# Results

Results of the papers on pre-defined sparsity and Deep-n-Cheap, reproduced. Each
chapter is one command; DIR is a TFDS data directory with mnist and cifar10. The tables
are the CSV files under `results/`; `python -m experiments.reproduction.results` writes
this page from them alone.

No accelerator was at hand: all chapters have the quick settings of their configs, which
end in minutes on two cores. With `--config=experiments/configs/NAME.py:full` a command
runs at the authors' lengths.
{missing}"""


def main() -> None:
    """Copies what is to be taken, then writes the page."""
    for folder in map(pathlib.Path, TAKE.value):
        take(folder)
    PAGE.write_text(page(RESULTS), encoding="utf-8")
    print(PAGE)


def take(folder: pathlib.Path) -> None:
    """Copies run.json and the tables of a study into experiments/results.

    Raises:
      InputError: the folder holds no finished study of a known name.
    """
    if not (folder / "run.json").exists():
        raise InputError(f"{folder} holds no finished study: it has no run.json")
    if folder.resolve().name not in STUDIES:
        raise InputError(
            f"{folder}: name the folder after its study, one of {', '.join(STUDIES)}"
        )
    target = RESULTS / folder.resolve().name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    tables = launch.read_json(folder / "run.json")["tables"]
    for name in ("run.json", *(f"{table}.csv" for table in tables)):
        shutil.copyfile(folder / name, target / name)


def page(results: pathlib.Path) -> str:
    """RESULTS.md: the head, then a chapter for each study that has been taken in."""
    folders = [results / name for name in STUDIES if (results / name).exists()]
    left = [f"`{name}`" for name in STUDIES if not (results / name).exists()]
    missing = f"\nNot run yet: {', '.join(left)}.\n" if left else ""
    head = HEAD.format(missing=missing)
    return "\n".join([head, *map(record.section, folders)]).rstrip() + "\n"


if __name__ == "__main__":
    launch.run_flags(main)
