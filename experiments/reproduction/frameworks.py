r"""The talk's comparison of frameworks: same data, same seconds, same machine.

  experiments/frameworks/install.sh ENVIRONMENTS
  python -m experiments.reproduction.frameworks --environments=ENVIRONMENTS \
      --config.data.dir=DIR

Each framework is run in an environment of its own, one after the other, on the same
48,000 training, 12,000 validation and 10,000 test rows of MNIST, once for each of
`networks` seeds. One that is not installed, or fails, says so in its row. The work
folder gets ours-0/, the work folder of our search with seed 0, a JSON file for each
search of another, CSV and tables.md; what is there is not run again.
"""

import json
import pathlib
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from dnc_jax.errors import InputError
from dnc_jax.files import write_json
from dnc_jax.search import Candidate
from dnc_jax.training.data import Dataset
from experiments import job, launch
from experiments.configs import mnist_mlp
from experiments.reproduction import record
from experiments.reproduction.record import Row
from experiments.reproduction.study import Study, whole_search

ENVIRONMENTS = flags.DEFINE_string(
    "environments", "", "Folder of the frameworks' environments, see install.sh."
)
EXPERIMENTS = pathlib.Path(__file__).parents[1]
PEERS: dict[str, tuple[str, ...]] = {
    "optuna": ("benchmarks/optuna_torch.py", "search"),
    "keras_tuner": ("frameworks/keras_tuner_mlp.py",),
    "autokeras": ("frameworks/autokeras_images.py",),
    "autogluon": ("frameworks/autogluon_tabular.py",),
}
NAMES = {
    "ours": "dnc_jax",
    "optuna": "Optuna + PyTorch",
    "keras_tuner": "KerasTuner",
    "autokeras": "AutoKeras",
    "autogluon": "AutoGluon",
}
# The talk's table: CNNs on CIFAR-10 with augmentation, on a V100. Framework, hours,
# architecture, seconds per epoch, batch size, best validation accuracy in per cent.
PUBLISHED = (
    ("ProxylessNAS-G", 96, "537 conv", 429, 64, 93.22),
    ("Auto-Keras, default", 14.33, "ResNet-20 v2", 33, 32, 74.89),
    ("AutoGluon, default", 3, "ResNet-20 v1", 37, 64, 88.6),
    ("AutoGluon, extended", 101, "ResNet-56 v1", 46, 64, 91.22),
    ("Auto-PyTorch, tiny cs", 6.17, "30 conv", 39, 64, 87.81),
    ("Auto-PyTorch, full cs", 6.13, "41 conv", 31, 106, 86.37),
    ("Deep-n-Cheap, w_c 0", 29.17, "14 conv", 10, 120, 93.74),
    ("Deep-n-Cheap, w_c 0.1", 19.23, "8 conv", 4, 459, 91.89),
    ("Deep-n-Cheap, w_c 10", 16.23, "4 conv", 3, 256, 83.82),
)
# Points of accuracy that decide nothing: of two searches once each, where alone the
# 10,000 test rows leave a standard error of 0.2 (at 98 %).
CLOSE = 0.3
NOTES = (
    "The talk compares CNNs on CIFAR-10 on a V100, in hours; here it is MNIST in "
    "minutes, and each framework has the space it comes with (KerasTuner and Optuna: "
    "ours, of MLPs). Our row counts the training of the winner after the search as "
    "search too. Joules are left empty where nothing counts them.",
    "At quick settings each searches once, and one seed says little; ours and Optuna's "
    "of three are compared by search_mlp in experiments/benchmarks/README.md.",
    "Auto-PyTorch and ProxylessNAS were not run: theirs are the published rows.",
)


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """Runs every framework, then writes the tables."""
    unknown = [name for name in config.frameworks if name not in NAMES]
    if unknown or "ours" not in config.frameworks:
        raise InputError(
            f"frameworks must be ours and some of {', '.join(PEERS)}, got "
            f"{', '.join(config.frameworks) or 'none'}"
        )
    study_ = Study(config, workdir)
    data = launch.load_data(config)
    rows_file = workdir / "rows.npz"
    save(data, rows_file)
    rows = []
    for name in config.frameworks:
        study_.out.rule(NAMES[name])
        run = ours if name == "ours" else peer
        for seed in study_.seeds:
            found = run(name, seed, config, workdir)
            rows.append(row(NAMES[name], seed, found))
    rows_file.unlink()
    study_.table("measured", "Here, on MNIST, one after the other", rows)
    study_.table("published", "Published, on CIFAR-10 (V100)", published())
    study_.table(record.FINDINGS, record.CAPTION, findings({"measured": rows}))
    study_.finish("Frameworks side by side", NOTES)


def save(data: Dataset, path: pathlib.Path) -> None:
    """The rows for the frameworks."""
    arrays = {
        f"{letter}_{name}": getattr(split, letter)
        for name, split in zip(
            ("train", "val", "test"),
            (data.train, data.validation, data.test),
            strict=True,
        )
        for letter in "xy"
    }
    np.savez(path, mean=data.mean, scale=data.scale, **arrays)


def ours(
    name: str, seed: int, config: launch.Config, workdir: pathlib.Path
) -> dict[str, Any]:
    """The default search within the seconds, the training of the winner included."""
    own: Any = mnist_mlp.get_config()
    own.update(ml_collections.ConfigDict({"seed": seed, "data": config.data}))
    own.search.update(config.search)
    own.train.epochs, own.train.refit = config.train.epochs, False
    # A fifth of the time is kept for training the winner.
    own.budget.seconds = 0.8 * config.seconds
    folder = workdir / f"{name}-{seed}"
    job.run(own, folder)
    summary = whole_search(folder)
    best = Candidate.from_json(summary["best"])
    return {
        "architecture": str(best.architecture),
        "batch_size": best.hyperparameters.batch_size,
        "parameters": summary["parameters"],
        "val_accuracy": summary["best_val_accuracy"],
        "test_accuracy": summary["test_accuracy"],
        "search_seconds": summary["total_seconds"],
        "seconds_per_epoch": statistics.median(summary["history"]["seconds"]),
        "joules": summary["energy"]["joules"],
    }


def peer(
    name: str, seed: int, config: launch.Config, workdir: pathlib.Path
) -> dict[str, Any]:
    """What the driver of a framework prints, kept in a file of its name and seed."""
    path = workdir / f"{name}-{seed}.json"
    if path.exists():
        return launch.read_json(path)
    environment = pathlib.Path(ENVIRONMENTS.value) / name
    python = environment / "bin" / "python"
    if not ENVIRONMENTS.value or not python.exists():
        return {"architecture": "not installed"}
    script, *command = PEERS[name]
    begin = time.perf_counter()
    arguments = (workdir / "rows.npz", config.seconds, seed)
    process = subprocess.run(
        [python, EXPERIMENTS / script, *command, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    path.with_suffix(".log").write_text(process.stderr)
    if process.returncode:
        last = (process.stderr.strip() or "no output").splitlines()[-1]
        return {"architecture": f"failed: {last[:80]}"}
    found = json.loads(process.stdout.strip().splitlines()[-1])
    found = {**found, **found.pop("best", {})}
    found.setdefault("search_seconds", time.perf_counter() - begin)
    write_json(path, found)
    return found


def row(name: str, seed: int, found: Mapping[str, Any]) -> dict[str, str]:
    """A line of the table; what a framework does not say is left empty."""

    def cell(key: str, form: str, factor: float = 1) -> str:
        value = found.get(key)
        return "" if value is None else form.format(value * factor)

    return {
        "framework": found.get("framework", name),
        "seed": str(seed),
        "search seconds": cell("search_seconds", "{:.0f}"),
        "architecture": found["architecture"],
        "seconds per epoch": cell("seconds_per_epoch", "{:.2f}"),
        "batch size": cell("batch_size", "{}"),
        "best validation %": cell("val_accuracy", "{:.2f}", 100),
        "test %": cell("test_accuracy", "{:.2f}", 100),
        "parameters": cell("parameters", "{}"),
        "joules": cell("joules", "{:.0f}"),
    }


def published() -> list[dict[str, str]]:
    """The talk's rows."""
    columns = (
        "framework",
        "search hours",
        "architecture",
        "seconds per epoch",
        "batch size",
        "best validation %",
    )
    return [
        dict(zip(columns, (str(cell) for cell in line), strict=True))
        for line in PUBLISHED
    ]


def findings(tables: Mapping[str, Sequence[Row]]) -> list[dict[str, str]]:
    """The talk's message against the medians of the table, as it is printed."""
    tested: dict[str, list[float]] = {}
    for one in tables["measured"]:
        if one["test %"]:
            tested.setdefault(one["framework"], []).append(float(one["test %"]))
    medians = {name: statistics.median(values) for name, values in tested.items()}
    seeds = "one seed" if max(map(len, tested.values())) == 1 else "medians"
    mine = medians.pop(NAMES["ours"])
    return [
        record.finding(
            f"ours tests better than {name} after as many seconds",
            f"{mine:.2f} % against {other:.2f} % ({seeds})",
            mine > other if round(abs(mine - other), 2) > CLOSE else None,
        )
        for name, other in medians.items()
    ]


if __name__ == "__main__":
    launch.run(
        main,
        default_config="frameworks",
        on_interrupt="the same command goes on with the next framework",
    )
