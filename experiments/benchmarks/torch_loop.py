"""A plain PyTorch loop over the same networks; run by `population.py`, needs torch.

Reads a JSON object on standard input and prints one: {"mlps": [{hidden, activation,
dropout, learning_rate, weight_decay, batch_size}, ...], "rows", "validation_rows"}
gives the seconds of one epoch of each, {"cnn": {channels, pools, batch_size, steps}}
the seconds of a step. Data are random tensors in memory, Adam is the fused one.
"""

import json
import statistics
import sys
import time
from typing import Any

import torch
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def mlp(one: dict[str, Any]) -> nn.Sequential:
    """The network that is described."""
    layers: list[nn.Module] = []
    width = 784
    for hidden in one["hidden"]:
        layers += [nn.Linear(width, hidden), ACTIVATIONS[one["activation"]]()]
        layers += [nn.Dropout(one["dropout"])] if one["dropout"] else []
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, 10))


def epoch(one: dict[str, Any], x: Any, y: Any, validation_rows: int) -> float:
    """Seconds of one epoch of training, and of validation."""
    begin = time.perf_counter()
    network, loss = mlp(one), nn.CrossEntropyLoss()
    adam = torch.optim.Adam(
        network.parameters(),
        lr=one["learning_rate"],
        weight_decay=one["weight_decay"],
        fused=True,
    )
    order, size = torch.randperm(len(y)), one["batch_size"]
    for start in range(0, len(y) - size + 1, size):
        rows = order[start : start + size]
        adam.zero_grad()
        loss(network(x[rows]), y[rows]).backward()
        adam.step()
    network.eval()
    with torch.no_grad():
        (network(x[:validation_rows]).argmax(1) == y[:validation_rows]).sum().item()
    return time.perf_counter() - begin


def cnn(one: dict[str, Any]) -> float:
    """Seconds of a training step."""
    layers: list[nn.Module] = []
    width = 3
    for channels, pool in zip(one["channels"], one["pools"], strict=True):
        layers.append(nn.Conv2d(width, channels, 3, padding=1))
        layers += [nn.MaxPool2d(2)] if pool else []
        layers.append(nn.ReLU())
        width = channels
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    form: Any = {"memory_format": torch.channels_last}
    network, loss = nn.Sequential(*layers).to(**form), nn.CrossEntropyLoss()
    adam = torch.optim.Adam(network.parameters(), fused=True)
    x = torch.randn(one["batch_size"], 3, 32, 32).to(**form)
    y = torch.randint(0, 10, (one["batch_size"],))
    times = []
    for _ in range(one["steps"] + 3):
        begin = time.perf_counter()
        adam.zero_grad()
        loss(network(x), y).backward()
        adam.step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[3:])


def main() -> None:
    """Measures what is asked."""
    asked = json.loads(sys.stdin.read())
    if "cnn" in asked:
        print(json.dumps({"step_seconds": cnn(asked["cnn"])}))
        return
    x, y = torch.rand(asked["rows"], 784), torch.randint(0, 10, (asked["rows"],))
    validation = asked["validation_rows"]
    epoch(asked["mlps"][0], x, y, validation)
    times = [epoch(one, x, y, validation) for one in asked["mlps"]]
    print(json.dumps({"seconds": sum(times)}))


if __name__ == "__main__":
    main()
