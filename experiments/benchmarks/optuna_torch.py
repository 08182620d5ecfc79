"""The peer of `search_mlp`: Optuna's TPE and Hyperband over a plain PyTorch loop.

Runs in an environment of its own (pip install torch optuna), never in ours:

  python experiments/benchmarks/optuna_torch.py ROWS.npz SECONDS SEED THREADS

ROWS.npz holds x_train y_train x_val y_val (uint8 images, int labels) and the mean
and scale to normalise with. Rows are tensors kept in memory, Adam is fused, nothing
goes through a DataLoader. Prints one JSON object: candidate_epochs, seconds and
`curve`, the (seconds, best validation accuracy so far) after every epoch.
"""

import json
import sys
import time
from itertools import pairwise

import numpy as np
import optuna
import torch
from torch import nn

MAX_EPOCHS = 27
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def main(path: str, seconds: float, seed: int, threads: int) -> None:
    """Searches for `seconds` and prints what was reached when."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    file = np.load(path)
    tensors = {
        name: torch.from_numpy(
            (
                (file[name].reshape(len(file[name]), -1) - file["mean"]) * file["scale"]
            ).astype(np.float32)
        )
        for name in ("x_train", "x_val")
    }
    labels = {
        name: torch.from_numpy(file[name].astype(np.int64))
        for name in ("y_train", "y_val")
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    begin = time.perf_counter()
    curve: list[tuple[float, float]] = []
    best = 0.0

    def objective(trial: optuna.Trial) -> float:
        nonlocal best
        depth = trial.suggest_int("depth", 0, 3)
        widths = [
            trial.suggest_int(f"width_{i}", 20, 400, log=True) for i in range(depth)
        ]
        activation = trial.suggest_categorical("activation", list(ACTIVATIONS))
        dropout = trial.suggest_float("dropout", 0.0, 0.5)
        rate = trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
        decay = trial.suggest_float("weight_decay", 1e-6, 1e-3, log=True)
        batch = trial.suggest_categorical("batch_size", [32, 128, 512])
        layers: list[nn.Module] = []
        sizes = [tensors["x_train"].shape[1], *widths]
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
            layers.append(nn.Dropout(dropout))
        network = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
        optimiser = torch.optim.Adam(
            network.parameters(),
            lr=rate,
            weight_decay=0.0 if decay < 1e-5 else decay,
            fused=True,
        )
        loss = nn.CrossEntropyLoss()
        x, y = tensors["x_train"], labels["y_train"]
        accuracy = 0.0
        for epoch in range(MAX_EPOCHS):
            factor = 0.2 ** ((2 * epoch >= MAX_EPOCHS) + (4 * epoch >= 3 * MAX_EPOCHS))
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
            network.train()
            order = torch.randperm(len(x))
            for start in range(0, len(x) - batch + 1, batch):
                rows = order[start : start + batch]
                optimiser.zero_grad()
                loss(network(x[rows]), y[rows]).backward()
                optimiser.step()
                if time.perf_counter() - begin > seconds:
                    trial.study.stop()
                    raise optuna.TrialPruned
            network.eval()
            with torch.no_grad():
                hits = network(tensors["x_val"]).argmax(1) == labels["y_val"]
            accuracy = max(accuracy, hits.float().mean().item())
            best = max(best, accuracy)
            curve.append((time.perf_counter() - begin, best))
            trial.report(accuracy, epoch + 1)
            if trial.should_prune():
                raise optuna.TrialPruned
        return accuracy

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(1, MAX_EPOCHS, 3),
    )
    study.optimize(objective, timeout=seconds)
    print(
        json.dumps(
            {
                "candidate_epochs": len(curve),
                "seconds": time.perf_counter() - begin,
                "curve": curve,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
