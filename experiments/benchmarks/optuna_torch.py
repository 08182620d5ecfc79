"""Optuna's TPE and Hyperband over a plain PyTorch loop: a peer of our searches.

That of `search_mlp`, and of the table of frameworks.

Runs in an environment of its own (pip install torch optuna), never in ours:

  python experiments/benchmarks/optuna_torch.py search ROWS.npz SECONDS SEED
  python experiments/benchmarks/optuna_torch.py replay ROWS.npz CANDIDATES.json

ROWS.npz holds x_train y_train x_val y_val (uint8 images, int labels) and the mean
and scale to normalise with. Rows are tensors kept in memory, Adam is fused, nothing
goes through a DataLoader. `search` prints one JSON object: candidate_epochs, seconds,
`curve`, the (seconds, best validation accuracy so far) after every epoch, and the
`best` network, tested where ROWS.npz holds x_test and y_test too.
`replay` trains each candidate for one epoch and prints the seconds of all.
"""

import json
import pathlib
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import optuna
import torch
from torch import nn

MAX_EPOCHS = 27  # the last rung of configs/mnist_mlp.py
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class Rows:
    """The data as normalised float tensors."""

    def __init__(self, path: str) -> None:
        file = np.load(path)

        def features(name: str) -> torch.Tensor:
            flat = file[name].reshape(len(file[name]), -1)
            scaled = (flat - file["mean"]) * file["scale"]
            return torch.from_numpy(scaled.astype(np.float32))

        def labels(name: str) -> torch.Tensor:
            return torch.from_numpy(file[name].astype(np.int64))

        self.x_train, self.x_val = features("x_train"), features("x_val")
        self.y_train, self.y_val = labels("y_train"), labels("y_val")
        self.test = (features("x_test"), labels("y_test")) if "x_test" in file else None


class Training:
    """One network with its optimiser."""

    def __init__(
        self,
        rows: Rows,
        hidden: list[int],
        activation: str,
        dropout: float,
        rate: float,
        decay: float,
        batch: int,
    ) -> None:
        layers: list[nn.Module] = []
        sizes = [rows.x_train.shape[1], *hidden]
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
            layers.append(nn.Dropout(dropout))
        self.rows, self.rate, self.batch = rows, rate, batch
        self.network = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=rate, weight_decay=decay, fused=True
        )
        self.loss = nn.CrossEntropyLoss()

    def epoch(self, factor: float, out_of_time: Callable[[], bool]) -> float | None:
        """Trains an epoch and validates; None if time ran out on the way."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        x, y, batch = self.rows.x_train, self.rows.y_train, self.batch
        self.network.train()
        order = torch.randperm(len(x))
        for start in range(0, len(x) - batch + 1, batch):
            rows = order[start : start + batch]
            self.optimiser.zero_grad()
            self.loss(self.network(x[rows]), y[rows]).backward()
            self.optimiser.step()
            if out_of_time():
                return None
        return self.accuracy(self.rows.x_val, self.rows.y_val)

    def accuracy(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """In inference."""
        self.network.eval()
        with torch.no_grad():
            hits = self.network(x).argmax(1) == y
        return hits.float().mean().item()

    def describe(self, rows: Rows) -> dict[str, object]:
        """What it is as it stands, tested if there are rows for that."""
        linear = [one for one in self.network if isinstance(one, nn.Linear)]
        sizes = [linear[0].in_features, *(layer.out_features for layer in linear)]
        return {
            "architecture": "-".join(map(str, sizes)),
            "batch_size": self.batch,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "test_accuracy": self.accuracy(*rows.test) if rows.test else None,
        }


def search(path: str, seconds: float, seed: int) -> dict[str, object]:
    """Searches for `seconds` and says what was reached when."""
    torch.manual_seed(seed)
    rows = Rows(path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    begin = time.perf_counter()
    curve: list[tuple[float, float]] = []
    found: dict[str, object] = {}

    def out_of_time() -> bool:
        return time.perf_counter() - begin > seconds

    def objective(trial: optuna.Trial) -> float:
        depth = trial.suggest_int("depth", 0, 3)
        widths = [
            trial.suggest_int(f"width_{i}", 20, 400, log=True) for i in range(depth)
        ]
        decay = trial.suggest_float("weight_decay", 1e-6, 1e-3, log=True)
        training = Training(
            rows,
            widths,
            trial.suggest_categorical("activation", list(ACTIVATIONS)),
            trial.suggest_float("dropout", 0.0, 0.5),
            trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True),
            0.0 if decay < 1e-5 else decay,
            trial.suggest_categorical("batch_size", [32, 128, 512]),
        )
        best = 0.0
        for epoch in range(MAX_EPOCHS):
            late = (2 * epoch >= MAX_EPOCHS) + (4 * epoch >= 3 * MAX_EPOCHS)
            epoch_begin = time.perf_counter()
            accuracy = training.epoch(0.2**late, out_of_time)
            if accuracy is None:
                trial.study.stop()
                raise optuna.TrialPruned
            best = max(best, accuracy)
            before = curve[-1][1] if curve else 0.0
            now = time.perf_counter()
            curve.append((now - begin, max(best, before)))
            if accuracy > before:
                found.update(
                    training.describe(rows),
                    val_accuracy=accuracy,
                    seconds_per_epoch=now - epoch_begin,
                )
            trial.report(best, epoch + 1)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(1, MAX_EPOCHS, 3),
    )
    study.optimize(objective, timeout=seconds)
    return {
        "candidate_epochs": len(curve),
        "seconds": time.perf_counter() - begin,
        "curve": curve,
        "best": found,
    }


def replay(path: str, candidates: str) -> dict[str, object]:
    """Trains each candidate of the file for one epoch."""
    rows = Rows(path)
    begin = time.perf_counter()
    for candidate in json.loads(pathlib.Path(candidates).read_text()):
        network = candidate["architecture"]
        training = Training(
            rows,
            network["hidden"],
            network["activation"],
            network["dropout"],
            candidate["learning_rate"],
            candidate["weight_decay"],
            candidate["batch_size"],
        )
        training.epoch(1.0, lambda: False)
    return {"seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    if sys.argv[1] == "search":
        print(json.dumps(search(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))))
    else:
        print(json.dumps(replay(sys.argv[2], sys.argv[3])))
