"""The space of convolutional networks."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import ClassVar

from dnc_jax.errors import InputError, check_known, check_whole
from dnc_jax.networks import CNN, presets
from dnc_jax.search.dimensions import Choice, Dimension, Integer, Real
from dnc_jax.search.network_space import (
    NetworkSpace,
    at_least,
    check_step,
    hyperparameters,
)
from dnc_jax.search.space import Candidate, Values

_PRESET_HALVINGS = 3  # max-pools of Deep-n-Cheap's preset, at most


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
      dropout_first, dropout_rate: probabilities, of the first layer and of the others.
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

    _may_be_empty: ClassVar[tuple[str, ...]] = ("halvings",)
    _least: ClassVar[dict[str, float]] = {
        "depth": 1,
        "first_channels": 1,
        **NetworkSpace._least,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(1, outputs=self.outputs)
        if len(self.image) != 3:
            raise InputError(
                f"image must be (height, width, channels), got {self.image}; "
                "these data are no images, or lack the axis of channels: x[..., None]"
            )
        if self.max_channels < self.first_channels[1]:
            raise InputError(
                f"max_channels = {self.max_channels} must be at least that of "
                f"first_channels, {self.first_channels[1]}"
            )
        for how in self.downsampling:
            check_known(("pool", "stride"), downsampling=how)
        for name in ("batch_norm", "dropout"):
            if not all(0 <= value <= 1 for value in getattr(self, name)):
                raise InputError(
                    f"{name} must lie in [0, 1], got {getattr(self, name)}"
                )
        for name in ("dropout_rate", "dropout_first"):
            if not all(0 <= value < 1 for value in getattr(self, name)):
                raise InputError(
                    f"{name} must lie in [0, 1), got {getattr(self, name)}"
                )
        if any(distance < 0 or distance == 1 for distance in self.shortcuts):
            raise InputError(f"shortcuts must be 0 or at least 2, got {self.shortcuts}")
        check_step("first_channels", self.first_channels, self.channel_step)

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
            found[f"widening_{layer}"] = Real(0.0, 1.0, when=at_least(layer, high))
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
                found[f"density_{layer}"] = self._density(at_least(layer, high))
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
            hyperparameters(values),
        )


def _evenly(halvings: int, layers: int) -> tuple[bool, ...]:
    """Which layers halve the image, in equal distances, at most each but the last."""
    count = min(halvings, layers - 1)
    at = {number * layers // (count + 1) for number in range(1, count + 1)}
    return tuple(layer in at for layer in range(1, layers + 1))
