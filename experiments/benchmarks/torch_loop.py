"""A plain PyTorch loop over the same networks; run by `population.py`, needs torch.

Reads a JSON object on standard input and prints one: {"mlps": [{hidden, activation,
dropout, learning_rate, weight_decay, batch_size}, ...], "rows", "validation_rows"}
gives the seconds of one epoch of each, {"cnns": [{batch_size, activation, shortcuts
(pairs of layers, [from, to)), and of each layer channels, pools, strides, batch_norm
and dropout}, ...], "steps"} the seconds of a training step of each. Data are random
tensors in memory, Adam is the fused one. On a GPU, where {"device": "cuda"} asks for
it, matrix products are of TF32, as JAX's are.
"""

import json
import statistics
import sys
import time
from typing import Any

import torch
from torch import nn

PARTS = 5  # of so many steps the median counts, and a GPU is waited for after each
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def wait(device: str) -> None:
    """Until the device has done all it was told to."""
    if device == "cuda":
        torch.cuda.synchronize()


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
    """Seconds of one epoch of training, and of validation, where the data lie."""
    begin = time.perf_counter()
    network, loss = mlp(one).to(x.device), nn.CrossEntropyLoss()
    adam = torch.optim.Adam(
        network.parameters(),
        lr=one["learning_rate"],
        weight_decay=one["weight_decay"],
        fused=True,
    )
    order, size = torch.randperm(len(y), device=x.device), one["batch_size"]
    for start in range(0, len(y) - size + 1, size):
        rows = order[start : start + size]
        adam.zero_grad()
        loss(network(x[rows]), y[rows]).backward()
        adam.step()
    network.eval()
    with torch.no_grad():
        (network(x[:validation_rows]).argmax(1) == y[:validation_rows]).sum().item()
    return time.perf_counter() - begin


class Cnn(nn.Module):
    """The network that is described: as `dnc_jax.networks.CNN`, in NCHW."""

    def __init__(self, one: dict[str, Any]) -> None:
        super().__init__()
        width = 3
        self.pools, self.shortcuts = one["pools"], dict(one["shortcuts"])
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        self.dropouts = nn.ModuleList()
        layers = (one[n] for n in ("channels", "strides", "batch_norm", "dropout"))
        for channels, stride, norm, rate in zip(*layers, strict=True):
            self.convolutions.append(
                nn.Conv2d(width, channels, 3, padding=1, stride=stride)
            )
            self.norms.append(nn.BatchNorm2d(channels) if norm else nn.Identity())
            self.dropouts.append(nn.Dropout(rate) if rate else nn.Identity())
            width = channels
        self.activate = ACTIVATIONS[one["activation"]]()
        self.head = nn.Linear(width, 10)

    def forward(self, x: Any) -> Any:
        """Logits of a batch."""
        kept, end = x, -1
        for layer, convolution in enumerate(self.convolutions):
            if layer in self.shortcuts:
                kept, end = x, self.shortcuts[layer] - 1
            x = convolution(x)
            if self.pools[layer]:
                x = nn.functional.max_pool2d(x, 2, ceil_mode=True)
            x = self.norms[layer](x)
            if layer == end:
                while kept.shape[2] > x.shape[2]:
                    kept = nn.functional.avg_pool2d(kept, 2, ceil_mode=True)
                missing = x.shape[1] - kept.shape[1]
                x = x + nn.functional.pad(kept, (0, 0, 0, 0, 0, missing))
            x = self.dropouts[layer](self.activate(x))
        return self.head(x.mean((2, 3)))


def cnn(one: dict[str, Any], steps: int, device: str) -> float:
    """Seconds of a training step."""
    form: Any = {"memory_format": torch.channels_last}
    network, loss = Cnn(one).to(device, **form), nn.CrossEntropyLoss()
    adam = torch.optim.Adam(network.parameters(), fused=True)
    x = torch.randn(one["batch_size"], 3, 32, 32).to(device, **form)
    y = torch.randint(0, 10, (one["batch_size"],), device=device)

    def train(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            adam.zero_grad()
            loss(network(x), y).backward()
            adam.step()
        wait(device)
        return (time.perf_counter() - begin) / count

    train(3)
    return statistics.median(train(max(1, steps // PARTS)) for _ in range(PARTS))


def main() -> None:
    """Measures what is asked."""
    asked = json.loads(sys.stdin.read())
    device = asked.get("device", "cpu")
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    if "cnns" in asked:
        times = [cnn(one, asked["steps"], device) for one in asked["cnns"]]
        print(json.dumps({"step_seconds": times}))
        return
    x = torch.rand(asked["rows"], 784, device=device)
    y = torch.randint(0, 10, (asked["rows"],), device=device)
    validation = asked["validation_rows"]
    epoch(asked["mlps"][0], x, y, validation)
    times = [epoch(one, x, y, validation) for one in asked["mlps"]]
    print(json.dumps({"seconds": sum(times)}))


if __name__ == "__main__":
    main()
