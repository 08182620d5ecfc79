"""What a search may vary: candidates, and the spaces they are drawn from."""

import dataclasses
from typing import Any

import jax
import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.networks import MLP, Architecture, from_json, to_json
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.training import Hyperparameters
from dnc_jax.typing import Key


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An architecture with the hyperparameters to train it."""

    architecture: Architecture
    hyperparameters: Hyperparameters

    def __str__(self) -> str:
        h = self.hyperparameters
        return (
            f"{self.architecture}, lr {h.learning_rate:g}, "
            f"decay {h.weight_decay:g}, batch {h.batch_size}"
        )

    def to_json(self) -> dict[str, Any]:
        """A dict that `json.dumps` takes and `Candidate.from_json` reads."""
        return {
            "architecture": to_json(self.architecture),
            **dataclasses.asdict(self.hyperparameters),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> "Candidate":
        """The candidate that `to_json` described."""
        fields = dict(data)
        architecture = from_json(fields.pop("architecture"))
        return Candidate(architecture, Hyperparameters(**fields))


@dataclasses.dataclass(frozen=True)
class MLPSpace:
    """Multilayer perceptrons and how to train them; pairs are inclusive ranges.

    Attributes:
      inputs, outputs: given by the data.
      depth: hidden layers.
      width: nodes of a hidden layer, each layer its own, log-uniform: what a
        network costs spans orders of magnitude, and small ones are wanted too.
      activations: one for the whole network.
      dropout: of every hidden layer, uniform.
      learning_rate: log-uniform.
      weight_decay: log-uniform; values in its lowest decade mean 0.
      batch_sizes: choices. Each is compiled for by itself, and with the learning
        rate tuned, neighbours in powers of two are hardly told apart; so few.

    Raises:
      InputError: a range with lower > upper or an impossible value.

    Reference: S. Dey et al., "Deep-n-Cheap" (2020), MLP search space; depth up to 3.
    """

    inputs: int
    outputs: int
    depth: tuple[int, ...] = (0, 3)
    width: tuple[int, ...] = (20, 400)
    activations: tuple[str, ...] = ("relu", "tanh", "sigmoid")
    dropout: tuple[float, ...] = (0.0, 0.5)
    learning_rate: tuple[float, ...] = (1e-5, 1e-1)
    weight_decay: tuple[float, ...] = (1e-6, 1e-3)
    batch_sizes: tuple[int, ...] = (32, 128, 512)

    def __post_init__(self) -> None:
        limits = {
            "depth": 0,
            "width": 1,
            "dropout": 0,
            "learning_rate": 1e-12,
            "weight_decay": 1e-12,
        }
        for name, least in limits.items():
            pair = getattr(self, name)
            if len(pair) != 2:
                raise InputError(f"space.{name} must be (lower, upper), got {pair}")
            if not pair[0] <= pair[1]:
                raise InputError(
                    f"space.{name}: lower {pair[0]} > upper {pair[1]}; swap them"
                )
            if pair[0] < least:
                raise InputError(f"space.{name} must be >= {least}, got {pair[0]}")
        if self.dropout[1] >= 1:
            raise InputError(f"space.dropout must be < 1, got {self.dropout[1]}")
        if not self.activations or not self.batch_sizes:
            raise InputError("space.activations and space.batch_sizes must not be ()")
        for name in self.activations:
            if name not in ACTIVATIONS:
                raise InputError(
                    f"space.activations: unknown {name!r}; known: "
                    f"{', '.join(ACTIVATIONS)}"
                )
        if min(self.batch_sizes) < 1:
            raise InputError(
                f"space.batch_sizes must be >= 1, got {min(self.batch_sizes)}"
            )

    def largest(self) -> MLP:
        """The network with the most parameters: what complexity is relative to.

        Widest first and last layers are not all: where `inputs * outputs` is large,
        a network without hidden layers may have more parameters than one with.
        """
        widest = [
            MLP(self.inputs, (self.width[1],) * depth, self.outputs)
            for depth in range(self.depth[0], self.depth[1] + 1)
        ]
        return max(widest, key=lambda net: sum(a * b for a, b in net.junctions))

    def limited_to(self, rows: int) -> "MLPSpace":
        """The space with batches of at most `rows`, the size of the training set."""
        sizes = tuple(dict.fromkeys(min(size, rows) for size in self.batch_sizes))
        return dataclasses.replace(self, batch_sizes=sizes)

    def sample(self, key: Key, count: int) -> list[Candidate]:
        """`count` candidates drawn independently. Consumes `key`."""
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        return [self._draw(rng) for _ in range(count)]

    def _draw(self, rng: np.random.Generator) -> Candidate:
        depth = int(rng.integers(self.depth[0], self.depth[1] + 1))
        widths = [_log_integer(rng, self.width) for _ in range(depth)]
        activation = str(rng.choice(self.activations))
        dropout = round(float(rng.uniform(self.dropout[0], self.dropout[1])), 3)
        rate = _log_uniform(rng, self.learning_rate)
        decay = _log_uniform(rng, self.weight_decay)
        if decay < 10 * self.weight_decay[0]:
            decay = 0.0
        batch_size = int(rng.choice(self.batch_sizes))
        return Candidate(
            MLP(
                self.inputs,
                tuple(widths),
                self.outputs,
                activation if depth else "relu",
                dropout if depth else 0.0,
            ),
            Hyperparameters(rate, decay, batch_size),
        )


def _log_integer(rng: np.random.Generator, bounds: tuple[int, ...]) -> int:
    # Each integer k gets the log-share of [k - 1/2, k + 1/2), so both ends are whole.
    low, high = bounds[0] - 0.5, bounds[1] + 0.5
    value = round(10 ** float(rng.uniform(np.log10(low), np.log10(high))))
    return min(max(value, bounds[0]), bounds[1])


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, ...]) -> float:
    value = 10 ** rng.uniform(*np.log10(bounds))
    # Three digits are all that matters, and all that a person wants to read.
    return float(f"{value:.3g}")
