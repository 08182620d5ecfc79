"""What a network looks like, as plain data that goes to JSON and back."""

import dataclasses
from itertools import pairwise
from typing import Any

from dnc_jax.errors import InputError
from dnc_jax.networks.activations import ACTIVATIONS


@dataclasses.dataclass(frozen=True)
class MLP:
    """A multilayer perceptron: `inputs -> hidden[0] -> ... -> outputs`.

    Attributes:
      inputs: features of one example after flattening.
      hidden: nodes of each hidden layer; empty for logistic regression.
      outputs: classes.
      activation: name of the function after each hidden layer.
      dropout: probability that a hidden node is dropped in training.

    Raises:
      InputError: a size below 1, an unknown activation, dropout outside [0, 1).
    """

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    activation: str = "relu"
    dropout: float = 0.0

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

    @property
    def sizes(self) -> tuple[int, ...]:
        """Nodes of every layer, the input and the output included."""
        return (self.inputs, *self.hidden, self.outputs)

    @property
    def junctions(self) -> tuple[tuple[int, int], ...]:
        """`(n_in, n_out)` of every junction, first to last."""
        return tuple(pairwise(self.sizes))

    def __str__(self) -> str:
        layers = "-".join(map(str, self.sizes))
        dropout = f" dropout {self.dropout:g}" if self.hidden and self.dropout else ""
        return f"{layers}{f' {self.activation}' if self.hidden else ''}{dropout}"


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
        return MLP(**{**fields, "hidden": tuple(fields["hidden"])})
    except (KeyError, TypeError) as error:
        raise InputError(f"not the description of an MLP: {error}") from error
