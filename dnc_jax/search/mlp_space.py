"""The space of multilayer perceptrons."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from dnc_jax.errors import InputError, check_known, check_whole
from dnc_jax.networks import MLP
from dnc_jax.search.dimensions import Choice, Dimension, Integer, Real
from dnc_jax.search.network_space import (
    NetworkSpace,
    at_least,
    check_step,
    fitting,
    hyperparameters,
)
from dnc_jax.search.space import Candidate, Values
from dnc_jax.sparse import FAMILIES


@dataclasses.dataclass(frozen=True)
class MLPSpace(NetworkSpace):
    """Multilayer perceptrons and how to train them; pairs are inclusive ranges.

    Attributes:
      inputs, outputs: given by the data.
      depth: hidden layers.
      width: nodes of a hidden layer, each layer its own, log-uniform: what a
        network costs spans orders of magnitude, and small ones are wanted too.
      activations: one for the whole network.
      dropout: of every hidden layer, uniform.
      width_step: widths are multiples of it; 8 or 16 let sparse junctions have larger
        blocks.
      first_family: of the first junction's pattern where it is not `family`: of
        images, "windows".

    And those of `NetworkSpace`, by keyword.

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
    width_step: int = 1
    first_family: str = ""

    _least: ClassVar[dict[str, float]] = {
        "depth": 0,
        "width": 1,
        "dropout": 0,
        **NetworkSpace._least,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(1, inputs=self.inputs, outputs=self.outputs)
        if self.dropout[1] >= 1:
            raise InputError(f"dropout must be < 1, got {self.dropout[1]}")
        check_step("width", self.width, self.width_step)
        if self.first_family:
            check_known(FAMILIES, first_family=self.first_family)
            # Refused now, not at the first candidate: inputs that are no image.
            fitting(self.first_family, 0.5, self.inputs, self.width[0])

    def describe(self) -> Mapping[str, Dimension]:
        """`depth`, `width_1` ..., `activation`, `dropout`, densities, training."""
        low, high = self.depth
        found: dict[str, Dimension] = {"depth": Integer(low, high)}
        for layer in range(1, high + 1):
            found[f"width_{layer}"] = Integer(
                self.width[0],
                self.width[1],
                log=True,
                step=self.width_step,
                when=at_least(layer, high),
            )
        found["activation"] = Choice(self.activations, when=at_least(1, high))
        found["dropout"] = Real(
            self.dropout[0], self.dropout[1], when=at_least(1, high)
        )
        if self.densities != (1.0,):
            for junction in range(1, high + 2):
                found[f"density_{junction}"] = self._density(
                    at_least(junction - 1, high)
                )
        return found | self.training_dimensions

    def build(self, values: Values) -> Candidate:
        """The network and its hyperparameters."""
        layers = range(1, values["depth"] + 1)
        hidden = tuple(values[f"width_{layer}"] for layer in layers)
        sizes = (self.inputs, *hidden, self.outputs)
        density = [
            values.get(f"density_{junction}", 1.0) for junction in range(1, len(sizes))
        ]
        return Candidate(
            MLP(
                self.inputs,
                hidden,
                self.outputs,
                values.get("activation", "relu"),
                values.get("dropout", 0.0),
                self._sparsity(sizes, density, self.first_family),
            ),
            hyperparameters(values),
        )
