"""What a network looks like, as plain data that goes to JSON and back."""

import dataclasses
import math
from itertools import pairwise
from typing import Any, NamedTuple

from dnc_jax import sparse
from dnc_jax.errors import InputError, check_known, check_whole
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.plain import make_plain, plain


@dataclasses.dataclass(frozen=True)
class Sparsity:
    """How the pattern of one junction is drawn, before training.

    Attributes:
      density: kept fraction of the edges, one that the family allows.
      block: `(b_in, b_out)`, the nodes that an edge of the pattern joins.
      family: one of `sparse.FAMILIES`.

    Raises:
      InputError: the block is no pair of whole numbers, at least 1.
    """

    density: float
    block: tuple[int, int] = (1, 1)
    family: str = "structured"

    def __post_init__(self) -> None:
        make_plain(self, Sparsity)
        if not isinstance(self.block, tuple) or len(self.block) != 2:
            raise InputError(f"block must be (b_in, b_out), got {self.block!r}")
        for side in self.block:
            check_whole(1, block=side)

    @staticmethod
    def nearest(
        density: float,
        n_in: int,
        n_out: int,
        block: tuple[int, int] = (1, 1),
        family: str = "structured",
    ) -> "Sparsity":
        """Of a junction, with the density nearest to this one that the family allows.

        >>> Sparsity.nearest(0.3, 3, 6)
        Sparsity(density=0.3333333333333333, block=(1, 1), family='structured')

        Args:
          density: wanted; the nearest one may be 1.
          n_in, n_out: nodes of the junction.
          block, family: as the attributes.

        Raises:
          InputError: an unknown family, or blocks that it or the junction cannot have.
        """
        edges = sparse.edge_count(
            family, n_in, n_out, density=density, block=block, nearest=True
        )
        return Sparsity(edges / (n_in * n_out), block, family)

    def edges(self, n_in: int, n_out: int) -> int:
        """Edges between the nodes of a junction.

        Raises:
          InputError: the family does not allow this density for this junction.
        """
        return sparse.edge_count(
            self.family, n_in, n_out, density=self.density, block=self.block
        )


def _check_common(network: Any) -> None:
    """Of what networks of every kind have."""
    check_known(ACTIVATIONS, activation=network.activation)
    sparsity = network.sparsity
    if not isinstance(sparsity, tuple) or not all(
        one is None or isinstance(one, Sparsity) for one in sparsity
    ):
        raise InputError(
            "sparsity must be a tuple with a Sparsity, or None, for each junction, as "
            f"(Sparsity(0.25), None), got {sparsity!r}"
        )
    if sparsity and len(sparsity) != len(network.junctions):
        raise InputError(
            f"sparsity describes {len(sparsity)} junctions, the network has "
            f"{len(network.junctions)}, that to the outputs included"
        )
    _ = network.edges  # refuses a density that a junction cannot have


@dataclasses.dataclass(frozen=True)
class MLP:
    """A multilayer perceptron: `inputs -> hidden[0] -> ... -> outputs`.

    Attributes:
      inputs: features of one example after flattening.
      hidden: nodes of each hidden layer; empty for logistic regression.
      outputs: classes, or numbers to predict.
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
        make_plain(self, MLP)
        check_whole(1, inputs=self.inputs, outputs=self.outputs)
        for nodes in self.hidden:
            check_whole(1, hidden=nodes)
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), got {self.dropout}")
        _check_common(self)

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
        density = f" density {_densities(self.sparsity)}" if self.sparsity else ""
        return f"{layers}{activation}{dropout}{density}"


class Convolution(NamedTuple):
    """One layer of a CNN, beside its channels.

    Attributes:
      stride: 1 or 2.
      pool: whether a 2 x 2 max-pool follows.
      batch_norm: whether it has one.
      dropout: probability that an activation is dropped in training.
    """

    stride: int
    pool: bool
    batch_norm: bool
    dropout: float

    def halved(self, image: tuple[int, int]) -> tuple[int, int]:
        """`(height, width)` of what the layer gives of such an image, rounded up."""
        if self.stride == 1 and not self.pool:
            return image
        return -(-image[0] // 2), -(-image[1] // 2)


@dataclasses.dataclass(frozen=True)
class CNN:
    """A plain convolutional network: 3x3 convolutions, then one linear head.

    Each layer is a convolution with SAME padding and a bias, max-pool, batch norm,
    activation, dropout, in this order, each where the network has it; after the last
    layer come the mean over the image and a fully connected junction.

    A shortcut spans two layers; the first one starts at the network's second layer.
    What goes into its first layer is added before its second's activation, brought to
    size without parameters: an average over 2 x 2 pixels for each down-sampling, and
    zeros as further channels.

    Attributes:
      image: `(height, width, channels)` of one example.
      channels: after each convolution.
      outputs: classes, or numbers to predict.
      activation: name of the function in each layer.
      downsampling: how the image is halved (rounded up) in each layer: "stride" of the
        convolution, "pool" for a 2 x 2 max-pool after it, "" not at all; empty if none.
      batch_norm: of each layer, whether it has one; empty if none has.
      dropout: of each layer, the probability that an activation is dropped in
        training; empty if all are 0.
      shortcuts: layers from one shortcut to the next, at least 2; 0 for none.
      sparsity: of each convolution, then of the head, None for a dense one; empty if
        all are dense. A convolution's patterns are between channels.

    Raises:
      InputError: no layer, a size below 1, unknown names, a probability outside [0, 1),
        a field that describes another number of layers, a shortcut to fewer channels,
        an impossible density.

    Reference: S. Dey et al., "Deep-n-Cheap" (2020).
    """

    image: tuple[int, int, int]
    channels: tuple[int, ...]
    outputs: int
    activation: str = "relu"
    downsampling: tuple[str, ...] = ()
    batch_norm: tuple[bool, ...] = ()
    dropout: tuple[float, ...] = ()
    shortcuts: int = 0
    sparsity: tuple[Sparsity | None, ...] = ()

    def __post_init__(self) -> None:
        make_plain(self, CNN)
        if not self.channels:
            raise InputError("a CNN needs at least one convolution, got channels ()")
        if len(self.image) != 3:
            raise InputError(
                f"an image is (height, width, channels), got {tuple(self.image)}"
            )
        check_whole(1, outputs=self.outputs)
        for name in ("image", "channels"):
            for size in getattr(self, name):
                check_whole(1, **{name: size})
        for name in ("downsampling", "batch_norm", "dropout"):
            if len(getattr(self, name)) not in (0, len(self.channels)):
                raise InputError(
                    f"{name} describes {len(getattr(self, name))} layers, the network "
                    f"has {len(self.channels)} convolutions"
                )
        if unknown := set(self.downsampling) - {"", "stride", "pool"}:
            raise InputError(
                f"unknown downsampling {min(unknown)!r}; known: '', stride, pool"
            )
        if not all(0 <= rate < 1 for rate in self.dropout):
            raise InputError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.shortcuts < 0 or self.shortcuts == 1:
            raise InputError(
                f"shortcuts must be 0 or at least 2 layers apart, got {self.shortcuts}"
            )
        for first in self.shortcut_starts:
            if self.channels[first + 1] < self.channels[first - 1]:
                raise InputError(
                    f"a shortcut leads from {self.channels[first - 1]} to "
                    f"{self.channels[first + 1]} channels; it can only add channels"
                )
        _check_common(self)

    @property
    def inputs(self) -> int:
        """Numbers of one example."""
        return math.prod(self.image)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Channels of the image and after every convolution, then the outputs."""
        return (self.image[2], *self.channels, self.outputs)

    @property
    def junctions(self) -> tuple[tuple[int, int], ...]:
        """`(n_in, n_out)` channels of every convolution, then of the head."""
        return tuple(pairwise(self.sizes))

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """What each layer has, where an empty field says the same of all."""
        count = len(self.channels)
        fields = zip(
            self.downsampling or ("",) * count,
            self.batch_norm or (False,) * count,
            self.dropout or (0.0,) * count,
            strict=True,
        )
        return tuple(
            Convolution(1 + (how == "stride"), how == "pool", norm, rate)
            for how, norm, rate in fields
        )

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """`(height, width)` of what each convolution computes, before a max-pool."""
        size, grids = self.image[:2], []
        for one in self.convolutions:
            halved = one.halved(size)
            grids.append(size if one.pool else halved)
            size = halved
        return tuple(grids)

    @property
    def shortcut_starts(self) -> tuple[int, ...]:
        """The first layer of every shortcut, counted from 0."""
        if not self.shortcuts:
            return ()
        return tuple(range(1, len(self.channels) - 1, self.shortcuts))

    @property
    def edges(self) -> tuple[int, ...]:
        """Weights of every junction; a convolution has 9 for each pair of channels."""
        sparsity = self.sparsity or (None,) * len(self.junctions)
        taps = (9,) * len(self.channels) + (1,)
        return tuple(
            count * (one.edges(n_in, n_out) if one else n_in * n_out)
            for count, one, (n_in, n_out) in zip(
                taps, sparsity, self.junctions, strict=True
            )
        )

    @property
    def density(self) -> float:
        """Net density: all weights over all that there could be."""
        return sum(self.edges) / sum(dataclasses.replace(self, sparsity=()).edges)

    def __str__(self) -> str:
        layers = [
            f"{channels}{'/2' * (one.stride > 1)}{'p' * one.pool}"
            for channels, one in zip(self.channels, self.convolutions, strict=True)
        ]
        parts = [
            f"{'x'.join(map(str, self.image))}-{'-'.join(layers)}-{self.outputs}",
            self.activation,
        ]
        if any(self.batch_norm):
            every = all(self.batch_norm)
            flags = "".join(str(int(flag)) for flag in self.batch_norm)
            parts.append("batch norm" if every else f"batch norm {flags}")
        if any(self.dropout):
            rates = [f"{rate:g}" for rate in self.dropout]
            parts.append(f"dropout {'/'.join(rates)}")
        if self.shortcut_starts:
            parts.append(f"shortcuts every {self.shortcuts}")
        if self.sparsity:
            parts.append(f"density {_densities(self.sparsity)}")
        return " ".join(parts)


Architecture = MLP | CNN


def _densities(sparsity: tuple[Sparsity | None, ...]) -> str:
    """Of each junction, with the family where that is no usual one."""
    usual = ("structured", "balanced")
    return "/".join(
        f"{one.density:.3g}" + f" {one.family}" * (one.family not in usual)
        if one
        else "1"
        for one in sparsity
    )


def to_json(architecture: Architecture) -> dict[str, Any]:
    """The architecture as a dict that `json.dumps` takes and `from_json` reads."""
    kind = type(architecture).__name__.lower()
    return {"kind": kind, **dataclasses.asdict(architecture)}


def from_json(data: dict[str, Any]) -> Architecture:
    """The architecture that `to_json` described.

    Raises:
      InputError: the kind is unknown, or a field is missing or not one of its own.
    """
    kinds: dict[str, type[MLP] | type[CNN]] = {"mlp": MLP, "cnn": CNN}
    fields = {name: plain(value) for name, value in data.items()}
    kind = fields.pop("kind", None)
    check_known(kinds, kind=kind)
    try:
        fields["sparsity"] = tuple(
            one and Sparsity(**{**one, "block": plain(one["block"])})
            for one in fields.get("sparsity", ())
        )
        return kinds[kind](**fields)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"not the description of {'an MLP' if kind == 'mlp' else 'a CNN'}: {error}"
        ) from error
