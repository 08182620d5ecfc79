"""Deep-n-Cheap's rules for what a CNN has where, as functions of its channels.

Reference: S. Dey et al., "Deep-n-Cheap" (2020).
"""

import math
from collections.abc import Sequence

from dnc_jax.networks.architecture import CNN

_HALVED_BEYOND = (64, 128, 256)  # channels


def downsampled_layers(channels: Sequence[int]) -> tuple[bool, ...]:
    """Which layers halve the image: each before the first beyond 64, 128, 256 channels.

    >>> downsampled_layers((46, 51, 70, 114, 128, 208, 286, 371))
    (False, True, False, False, True, True, False, False)
    """
    beyond = {
        next((i for i, count in enumerate(channels) if count > limit), 0)
        for limit in _HALVED_BEYOND
    }
    return tuple(i + 1 in beyond for i in range(len(channels)))


def spread(layers: int, fraction: float) -> tuple[bool, ...]:
    """Which layers have what a fraction of them has, evenly, as late as possible.

    `count = ceil(fraction * layers)` of them: the layers `ceil(j * layers / count)` for
    j = 1 .. count, counted from 1.

    >>> spread(7, 0.5)
    (False, True, False, True, False, True, True)
    """
    # Less one part in 1e9: 0.28 * 25 is 7.000000000000001 in floating point.
    count = math.ceil(fraction * layers * (1 - 1e-9))
    chosen = {-(-j * layers // count) for j in range(1, count + 1)}
    return tuple(layer in chosen for layer in range(1, layers + 1))


def dropout_rates(
    layers: int, fraction: float = 1.0, *, first: float = 0.1, rest: float = 0.3
) -> tuple[float, ...]:
    """Dropout of each layer: on a `spread` fraction, `first` or `rest`, else 0.

    >>> dropout_rates(3)
    (0.1, 0.3, 0.3)
    """
    return tuple(
        (rest if layer else first) if has else 0.0
        for layer, has in enumerate(spread(layers, fraction))
    )


def shortcut_distance(layers: int) -> int:
    """Layers from one shortcut to the next: none (0) up to 8, 4 up to 14, then 2."""
    return 0 if layers <= 8 else 4 if layers <= 14 else 2


def preset(image: tuple[int, int, int], channels: tuple[int, ...], outputs: int) -> CNN:
    """The CNN that stage 1 of Deep-n-Cheap trains for these channels.

    Max-pools as in `downsampled_layers`, batch norm everywhere, `dropout_rates`, and
    shortcuts by depth.
    """
    return CNN(
        image,
        channels,
        outputs,
        downsampling=tuple("pool" if d else "" for d in downsampled_layers(channels)),
        batch_norm=(True,) * len(channels),
        dropout=dropout_rates(len(channels)),
        shortcuts=shortcut_distance(len(channels)),
    )
