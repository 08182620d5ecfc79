"""What a network looks like, as plain data that goes to JSON and back."""

import dataclasses
from itertools import pairwise
from typing import Any

from dnc_jax.errors import InputError
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.sparse import families


@dataclasses.dataclass(frozen=True)
class Sparsity:
    """How the pattern of one junction is drawn, before training.

    Attributes:
      density: kept fraction of the edges, one that the family allows.
      block: `(b_in, b_out)`, the nodes that an edge of the pattern joins.
      family: "structured", "balanced" or "random"; see `dnc_jax.sparse`.
    """

    density: float
    block: tuple[int, int] = (1, 1)
    family: str = "structured"

    def edges(self, n_in: int, n_out: int) -> int:
        """Edges between the nodes of a junction.

        Raises:
          InputError: the family does not allow this density for this junction.
        """
        return families.edge_count(
            self.family, n_in, n_out, density=self.density, block=self.block
        )


@dataclasses.dataclass(frozen=True)
class MLP:
    """A multilayer perceptron: `inputs -> hidden[0] -> ... -> outputs`.

    Attributes:
      inputs: features of one example after flattening.
      hidden: nodes of each hidden layer; empty for logistic regression.
      outputs: classes.
      activation: name of the function after each hidden layer.
      dropout: probability that a hidden node is dropped in training.
      sparsity: of each junction, None for a dense one; empty if all are dense.

    Raises:
      InputError: a size below 1, an unknown activation, dropout outside [0, 1), an
        impossible density.
    """

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    activation: str = "relu"
    dropout: float = 0.0
    sparsity: tuple[Sparsity | None, ...] = ()

    def __post_init__(self) -> None:
        if min(self.sizes) < 1:
            raise InputError(f"every layer needs at least 1 node, got {self.sizes}")
        if self.activation not in ACTIVATIONS:
            raise InputError(
                f"unknown activation {self.activation!r}; known: "
                f"{', '.join(ACTIVATIONS)}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.sparsity and len(self.sparsity) != len(self.junctions):
            raise InputError(
                f"sparsity describes {len(self.sparsity)} junctions, the network has "
                f"{len(self.junctions)}"
            )
        _ = self.edges  # refuses a density that a junction cannot have

    @property
    def sizes(self) -> tuple[int, ...]:
        """Nodes of every layer, the input and the output included."""
        return (self.inputs, *self.hidden, self.outputs)

    @property
    def junctions(self) -> tuple[tuple[int, int], ...]:
        """`(n_in, n_out)` of every junction, first to last."""
        return tuple(pairwise(self.sizes))

    @property
    def edges(self) -> tuple[int, ...]:
        """Weights of every junction, first to last."""
        sparsity = self.sparsity or (None,) * len(self.junctions)
        return tuple(
            one.edges(n_in, n_out) if one else n_in * n_out
            for one, (n_in, n_out) in zip(sparsity, self.junctions, strict=True)
        )

    @property
    def density(self) -> float:
        """Net density: all edges over all that there could be."""
        return sum(self.edges) / sum(n_in * n_out for n_in, n_out in self.junctions)

    def __str__(self) -> str:
        layers = "-".join(map(str, self.sizes))
        dropout = f" dropout {self.dropout:g}" if self.hidden and self.dropout else ""
        activation = f" {self.activation}" if self.hidden else ""
        kept = [f"{one.density:.3g}" if one else "1" for one in self.sparsity]
        density = f" density {'/'.join(kept)}" if kept else ""
        return f"{layers}{activation}{dropout}{density}"


Architecture = MLP


def to_json(architecture: Architecture) -> dict[str, Any]:
    """The architecture as a dict that `json.dumps` takes and `from_json` reads."""
    return {"kind": "mlp", **dataclasses.asdict(architecture)}


def from_json(data: dict[str, Any]) -> Architecture:
    """The architecture that `to_json` described.

    Raises:
      InputError: the kind is unknown, or a field is missing or not one of its own.
    """
    fields = dict(data)
    kind = fields.pop("kind", None)
    if kind != "mlp":
        raise InputError(f"unknown kind of architecture {kind!r}; known: mlp")
    try:
        fields["hidden"] = tuple(fields["hidden"])
        fields["sparsity"] = tuple(
            one and Sparsity(**{**one, "block": tuple(one["block"])})
            for one in fields.get("sparsity", ())
        )
        return MLP(**fields)
    except (KeyError, TypeError) as error:
        raise InputError(f"not the description of an MLP: {error}") from error
