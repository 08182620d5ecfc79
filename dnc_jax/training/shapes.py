"""What a compiled program is specialised to: a `Shape`.

A network is trained padded, as a lane of a `Padded`, or as it is, in an `Exact`.
"""

from typing import NamedTuple, TypeAlias

from dnc_jax.networks import Architecture, network
from dnc_jax.networks.convolution import Form


class Padded(NamedTuple):
    """What the program of padded networks is specialised to.

    Attributes:
      lanes: networks side by side.
      hidden: padded nodes of each hidden layer.
      batch_size: rows a step, shared by all lanes.
    """

    lanes: int
    hidden: tuple[int, ...]
    batch_size: int

    def __str__(self) -> str:
        hidden = "-".join(map(str, self.hidden)) or "no hidden layer"
        return f"{self.lanes} x {hidden}, batch {self.batch_size}"


class Exact(NamedTuple):
    """What the program of unpadded networks is specialised to.

    Attributes:
      lanes: networks side by side.
      network: their structure, as `network.structure` gives it.
      batch_size: rows a step, shared by all lanes.
      form: of its convolutions, where the plan has chosen one; None is the device's.
    """

    lanes: int
    network: Architecture
    batch_size: int
    form: Form | None = None

    def __str__(self) -> str:
        return f"{self.lanes} x {sizes(self)}, batch {self.batch_size}"


Shape: TypeAlias = Padded | Exact


def sizes(shape: Shape) -> str:
    """What the program computes, for people."""
    if isinstance(shape, Exact):
        form = f", {shape.form} convolutions" if shape.form else ""
        return f"{network.describe(shape.network)}{form}"
    return "-".join(map(str, shape.hidden)) or "linear"
