"""Layers of a network as Flax source code, and their variables by Flax path."""

from collections import Counter

import numpy as np

from dnc_jax.networks.patterns import Patterns
from dnc_jax.sparse import Pattern
from dnc_jax.training.checkpoints import Network
from dnc_jax.typing import Params, Statistics


class Layers:
    """Collects a network's layers in the order in which its source calls them.

    Attributes:
      arrays: variables of all layers so far, as `params.Dense_0.kernel`.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._counts: Counter[str] = Counter()

    def has(self, kind: str) -> bool:
        """Whether there is a layer of this kind."""
        return self._counts[kind] > 0

    def dense(self, junction: Params, pattern: Pattern | None) -> str:
        """The source of a fully connected layer, sparse if it has a pattern."""
        nodes = len(junction["bias"])
        if pattern:
            self._sparse("Sparse", junction, pattern)
            return f"Sparse({nodes}, {pattern.block_edges}, {pattern.block})"
        self._weights("Dense", junction)
        return f"nn.Dense({nodes})"

    def convolution(
        self, junction: Params, pattern: Pattern | None, stride: int
    ) -> str:
        """The source of a 3x3 convolution, sparse between channels with a pattern."""
        channels, step = len(junction["bias"]), f", {stride}" if stride > 1 else ""
        if pattern:
            self._sparse("SparseConv", junction, pattern)
            return (
                f"SparseConv({channels}, {pattern.block_edges}, {pattern.block}{step})"
            )
        self._weights("Conv", junction)
        return f"nn.Conv({channels}, (3, 3){step})"

    def batch_norm(self, junction: Params, running: Statistics) -> str:
        """The source of a batch norm."""
        name = self._named("BatchNorm")
        self.arrays |= {
            f"params.{name}.scale": np.asarray(junction["scale"]),
            f"params.{name}.bias": np.asarray(junction["offset"]),
            f"batch_stats.{name}.mean": np.asarray(running["mean"]),
            f"batch_stats.{name}.var": np.asarray(running["variance"]),
        }
        return "norm()"

    def _sparse(self, kind: str, junction: Params, pattern: Pattern) -> None:
        name = self._weights(kind, junction)
        sources = np.asarray(pattern.sources)
        numbers = np.arange(sources.size).reshape(sources.shape)
        edges = numbers if pattern.edges_in is None else pattern.edges_in
        self.arrays[f"pattern.{name}.sources"] = sources
        self.arrays[f"pattern.{name}.edges"] = np.asarray(edges, np.int32)

    def _weights(self, kind: str, junction: Params) -> str:
        name = self._named(kind)
        self.arrays[f"params.{name}.kernel"] = np.asarray(junction["weight"])
        self.arrays[f"params.{name}.bias"] = np.asarray(junction["bias"])
        return name

    def _named(self, kind: str) -> str:
        """The name that Flax gives to the next layer of this kind."""
        self._counts[kind] += 1
        return f"{kind}_{self._counts[kind] - 1}"


def patterns_of(network: Network) -> Patterns:
    """Of each junction, None for a dense one."""
    return network.patterns or (None,) * len(network.architecture.junctions)


def dropout(rate: float) -> list[str]:
    """The line of a dropout, if there is one."""
    return [f"x = nn.Dropout({rate}, deterministic=not train)(x)"] if rate else []
