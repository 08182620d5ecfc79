"""The spaces of MLPs and CNNs."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from dnc_jax.errors import InputError
from dnc_jax.networks import CNN, MLP, Sparsity, presets
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.search.dimensions import Choice, Dimension, Integer, Real
from dnc_jax.search.space import Candidate, Space, Values
from dnc_jax.sparse import FAMILIES, edge_count
from dnc_jax.training import Hyperparameters

_WIDEST_BLOCK = 64  # outputs that share inputs: beyond that nothing gets faster


def fitting(family: str, density: float, n_in: int, n_out: int) -> Sparsity | None:
    """A possible pattern of about this density, in blocks that run fast.

    As many neighbouring outputs share their inputs, up to 64, as leaves every input in
    at least one edge and the density within a tenth of what is asked for, if any do.

    Returns:
      None for a dense junction, which the nearest possible density may be.

    >>> fitting("balanced", 0.1, 784, 192)
    Sparsity(density=0.09948979591836735, block=(1, 16), family='balanced')
    """
    if density == 1:
        return None
    best: tuple[float, Sparsity | None] = (math.inf, None)
    widest = min(n_out, _WIDEST_BLOCK) if FAMILIES[family].blocks else 1
    for side in range(widest, 0, -1):
        if n_out % side or (side > 1 and density * (n_out // side) < 1):
            continue
        block = (1, side)
        edges = edge_count(
            family, n_in, n_out, density=density, block=block, nearest=True
        )
        kept = edges / (n_in * n_out)
        error = abs(kept / density - 1)
        if error < best[0]:
            best = (error, Sparsity(kept, block, family) if kept < 1 else None)
        if error <= 0.1:
            break
    return best[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSpace(Space):
    """What spaces of networks share: how these are trained, and how sparse they are.

    Attributes:
      learning_rate: log-uniform.
      weight_decay: log-uniform; values in its lowest decade mean 0.
      batch_sizes: choices. Each is compiled for by itself, and with the learning
        rate tuned, neighbours in powers of two are hardly told apart; so few.
      any_batch_size: every whole number from the least to the largest of them instead.
      densities: choices for every junction but a CNN's first; 1 is dense. What a
        junction cannot have becomes what it can, in blocks that run fast.
      family: of the sparse patterns, one of `dnc_jax.sparse.FAMILIES`.
    """

    learning_rate: tuple[float, ...] = (1e-5, 1e-1)
    weight_decay: tuple[float, ...] = (1e-6, 1e-3)
    batch_sizes: tuple[int, ...] = (32, 128, 512)
    any_batch_size: bool = False
    densities: tuple[float, ...] = (1.0,)
    family: str = "balanced"

    # Lower limits of the fields that are ranges.
    _least: ClassVar[dict[str, float]] = {"learning_rate": 1e-12, "weight_decay": 1e-12}

    def __post_init__(self) -> None:
        for name, least in self._least.items():
            pair = getattr(self, name)
            if len(pair) != 2:
                raise InputError(f"space.{name} must be (lower, upper), got {pair}")
            if not pair[0] <= pair[1]:
                raise InputError(
                    f"space.{name}: lower {pair[0]} > upper {pair[1]}; swap them"
                )
            if pair[0] < least:
                raise InputError(f"space.{name} must be >= {least}, got {pair[0]}")
        for field in dataclasses.fields(self):
            if getattr(self, field.name) == () and field.name != "halvings":
                raise InputError(f"space.{field.name} must not be ()")
        for name in getattr(self, "activations", ()):
            if name not in ACTIVATIONS:
                raise InputError(
                    f"space.activations: unknown {name!r}; known: "
                    f"{', '.join(ACTIVATIONS)}"
                )
        if min(self.batch_sizes) < 1:
            raise InputError(
                f"space.batch_sizes must be >= 1, got {min(self.batch_sizes)}"
            )
        if not all(0 < density <= 1 for density in self.densities):
            raise InputError(
                f"space.densities must lie in (0, 1], got {self.densities}"
            )
        if self.family not in FAMILIES:
            raise InputError(
                f"space.family: unknown {self.family!r}; known: {', '.join(FAMILIES)}"
            )

    def limited_to(self, rows: int) -> "NetworkSpace":
        """The space with batches of at most `rows`, the size of the training set."""
        sizes = tuple(dict.fromkeys(min(size, rows) for size in self.batch_sizes))
        return dataclasses.replace(self, batch_sizes=sizes)

    def to_json(self) -> dict[str, Any]:
        """A dict that `json.dumps` takes and `from_json` reads: the fields."""
        kind = type(self).__name__.removesuffix("Space").lower()
        return {"kind": kind, **dataclasses.asdict(self)}

    @property
    def training_dimensions(self) -> dict[str, Dimension]:
        """Those of how a network is trained."""
        sizes = sorted(self.batch_sizes)
        return {
            "learning_rate": Real(
                self.learning_rate[0], self.learning_rate[1], log=True
            ),
            "weight_decay": Real(
                self.weight_decay[0],
                self.weight_decay[1],
                log=True,
                zero_below=10 * self.weight_decay[0],
            ),
            "batch_size": Integer(sizes[0], sizes[-1])
            if self.any_batch_size
            else Choice(tuple(dict.fromkeys(self.batch_sizes))),
        }

    def _density(self, when: tuple[str, tuple[int, ...]] | None = None) -> Choice:
        return Choice(tuple(dict.fromkeys(self.densities)), when=when)

    def _sparsity(
        self, sizes: Sequence[int], densities: Sequence[float]
    ) -> tuple[Sparsity | None, ...]:
        """For each junction between these sizes."""
        fitted = tuple(
            fitting(self.family, density, n_in, n_out)
            for density, (n_in, n_out) in zip(densities, pairwise(sizes), strict=True)
        )
        return fitted if any(fitted) else ()


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

    _least: ClassVar[dict[str, float]] = {
        "depth": 0,
        "width": 1,
        "dropout": 0,
        **NetworkSpace._least,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropout[1] >= 1:
            raise InputError(f"space.dropout must be < 1, got {self.dropout[1]}")
        _check_step("width", self.width, self.width_step)

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
                when=_at_least(layer, high),
            )
        found["activation"] = Choice(self.activations, when=_at_least(1, high))
        found["dropout"] = Real(
            self.dropout[0], self.dropout[1], when=_at_least(1, high)
        )
        if self.densities != (1.0,):
            for junction in range(1, high + 2):
                found[f"density_{junction}"] = self._density(
                    _at_least(junction - 1, high)
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
                self._sparsity(sizes, density),
            ),
            _hyperparameters(values),
        )


@dataclasses.dataclass(frozen=True)
class CNNSpace(NetworkSpace):
    """Convolutional networks and how to train them; pairs are inclusive ranges.

    Attributes:
      image: `(height, width, channels)`, given by the data.
      outputs: given by the data.
      depth: convolutions.
      first_channels: of the first convolution.
      max_channels: of any. A layer has from as many channels as the one before to
        twice as many.
      channel_step: channels are multiples of it.
      activations: one for the whole network.
      downsampling: of each halving of the image, "stride", "pool" or both.
      halvings: how many there may be, spread evenly over the layers; if empty, one
        before the first layer beyond 64, 128 and 256 channels.
      batch_norm: fractions of the layers that have it.
      dropout: fractions of the layers that have it.
      dropout_rate, dropout_first: probabilities, of the first layer and of the others.
      shortcuts: layers from one to the next; 0 is none.

    And those of `NetworkSpace`, by keyword.

    Raises:
      InputError: a range with lower > upper or an impossible value.

    Reference: S. Dey et al., "Deep-n-Cheap" (2020), CNN search space.
    """

    image: tuple[int, ...]
    outputs: int
    depth: tuple[int, ...] = (4, 16)
    first_channels: tuple[int, ...] = (16, 64)
    max_channels: int = 512
    channel_step: int = 1
    activations: tuple[str, ...] = ("relu", "tanh", "sigmoid")
    downsampling: tuple[str, ...] = ("pool", "stride")
    halvings: tuple[int, ...] = ()
    batch_norm: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    dropout: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    dropout_rate: tuple[float, ...] = (0.15, 0.3, 0.45)
    dropout_first: tuple[float, ...] = (0.1, 0.2)
    shortcuts: tuple[int, ...] = (0, 4, 2)

    _least: ClassVar[dict[str, float]] = {
        "depth": 1,
        "first_channels": 1,
        **NetworkSpace._least,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.image) != 3:
            raise InputError(
                f"space.image must be (height, width, channels), got {self.image}; "
                "these data are no images"
            )
        if self.max_channels < self.first_channels[1]:
            raise InputError(
                f"space.max_channels = {self.max_channels} must be at least that of "
                f"space.first_channels, {self.first_channels[1]}"
            )
        if unknown := set(self.downsampling) - {"pool", "stride"}:
            raise InputError(
                f"space.downsampling: unknown {min(unknown)!r}; known: pool, stride"
            )
        for name in ("batch_norm", "dropout", "dropout_rate", "dropout_first"):
            if not all(0 <= value <= 1 for value in getattr(self, name)):
                raise InputError(
                    f"space.{name} must lie in [0, 1], got {getattr(self, name)}"
                )
        if any(distance < 0 or distance == 1 for distance in self.shortcuts):
            raise InputError(
                f"space.shortcuts must be 0 or at least 2, got {self.shortcuts}"
            )
        _check_step("first_channels", self.first_channels, self.channel_step)

    def describe(self) -> Mapping[str, Dimension]:
        """Named as the fields; `widening_2` ... is 0 for no more channels, 1 for twice.

        `downsampling_1` ... is the kind of the first halving of the image, and so on.
        """
        low, high = self.depth
        found: dict[str, Dimension] = {
            "depth": Integer(low, high),
            "channels_1": Integer(
                self.first_channels[0], self.first_channels[1], step=self.channel_step
            ),
        }
        for layer in range(2, high + 1):
            found[f"widening_{layer}"] = Real(0.0, 1.0, when=_at_least(layer, high))
        found["activation"] = Choice(self.activations)
        if self.halvings:
            found["halvings"] = Choice(self.halvings)
        for number in range(1, max(self.halvings, default=_PRESET_HALVINGS) + 1):
            found[f"downsampling_{number}"] = Choice(self.downsampling)
        found["batch_norm"] = Choice(self.batch_norm)
        found["dropout"] = Choice(self.dropout)
        some = ("dropout", tuple(fraction for fraction in self.dropout if fraction))
        found["dropout_rate"] = Choice(self.dropout_rate, when=some)
        found["dropout_first"] = Choice(self.dropout_first, when=some)
        found["shortcuts"] = Choice(self.shortcuts)
        if self.densities != (1.0,):
            for layer in range(2, high + 1):
                found[f"density_{layer}"] = self._density(_at_least(layer, high))
            found["density_head"] = self._density()
        return found | self.training_dimensions

    def channels(self, values: Values) -> tuple[int, ...]:
        """Of each convolution."""
        channels = [values["channels_1"]]
        for layer in range(2, values["depth"] + 1):
            least = channels[-1]
            most = max(least, min(2 * least, self.max_channels))
            wider = least + int(values[f"widening_{layer}"] * (most + 1 - least))
            wider = min(wider, most) // self.channel_step * self.channel_step
            channels.append(max(least, wider))
        return tuple(channels)

    def build(self, values: Values) -> Candidate:
        """The network and its hyperparameters."""
        channels = self.channels(values)
        depth = len(channels)
        if "halvings" in values:
            halved = _evenly(values["halvings"], depth)
        else:
            halved = presets.downsampled_layers(channels)
        number = itertools.count(1)
        sizes = (self.image[2], *channels, self.outputs)
        density = [
            1.0,
            *(values.get(f"density_{layer}", 1.0) for layer in range(2, depth + 1)),
            values.get("density_head", 1.0),
        ]
        return Candidate(
            CNN(
                (self.image[0], self.image[1], self.image[2]),
                channels,
                self.outputs,
                values["activation"],
                tuple(
                    values[f"downsampling_{next(number)}"] if half else ""
                    for half in halved
                ),
                presets.spread(depth, values["batch_norm"]),
                presets.dropout_rates(
                    depth,
                    values["dropout"],
                    first=values.get("dropout_first", 0.0),
                    rest=values.get("dropout_rate", 0.0),
                ),
                values["shortcuts"],
                self._sparsity(sizes, density),
            ),
            _hyperparameters(values),
        )


_PRESET_HALVINGS = 3


def _evenly(halvings: int, layers: int) -> tuple[bool, ...]:
    """Which layers halve the image, in equal distances, at most each but the last."""
    count = min(halvings, layers - 1)
    at = {number * layers // (count + 1) for number in range(1, count + 1)}
    return tuple(layer in at for layer in range(1, layers + 1))


def _at_least(least: int, most: int) -> tuple[str, tuple[int, ...]] | None:
    return ("depth", tuple(range(least, most + 1))) if least else None


def _check_step(name: str, ends: Sequence[int], step: int) -> None:
    if step < 1 or any(end % step for end in ends):
        raise InputError(
            f"space.{name} = {tuple(ends)} must be multiples of space."
            f"{'width' if name == 'width' else 'channel'}_step = {step}"
        )


def _hyperparameters(values: Values) -> Hyperparameters:
    return Hyperparameters(
        values["learning_rate"], values["weight_decay"], values["batch_size"]
    )
