"""Patterns over images: each output sees one window of neighbouring pixels."""

import math

import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.sparse.families import check_density, from_lists, generator_of
from dnc_jax.sparse.pattern import Pattern, grid
from dnc_jax.typing import Key


def windows(
    key: Key,
    image: tuple[int, int, int],
    n_out: int,
    *,
    window: tuple[int, int],
    group: int = 1,
) -> Pattern:
    """Local receptive fields: an output sees one window of the image, all channels.

    The windows lie within the image and are spread over it: their corners are drawn
    without replacement as long as there are unused ones.

    Args:
      key: consumed.
      image: (height, width, channels) of the input, flattened in this order.
      n_out: nodes.
      window: (height, width).
      group: so many neighbouring outputs share one window.

    Raises:
      InputError: a window larger than the image, or a group that does not divide
        n_out.
    """
    height, width, channels = image
    rows, columns = height - window[0] + 1, width - window[1] + 1
    if min(window) < 1 or rows < 1 or columns < 1:
        raise InputError(f"a window of {window} does not fit in an image of {image}")
    n_in = height * width * channels
    _, blocks_out = grid(n_in, n_out, (1, group))
    generator = generator_of(key)
    corners = np.concatenate(
        [
            generator.permutation(rows * columns)
            for _ in range(-(-blocks_out // (rows * columns)))
        ]
    )[:blocks_out]
    top, left = np.divmod(corners, columns)
    y, x, channel = (
        axis.ravel() for axis in np.indices((*window, channels), dtype=np.int64)
    )
    sources = ((top[:, None] + y) * width + left[:, None] + x) * channels + channel
    return from_lists(sources, n_in, n_out, (1, group))


def windows_of_density(
    key: Key, n_in: int, n_out: int, *, density: float, block: tuple[int, int] = (1, 1)
) -> Pattern:
    """`windows` of a square image, each of this fraction of its pixels.

    Args:
      key: consumed.
      n_in: of a square image of one or three channels, flattened channels last.
      n_out: nodes.
      density: pixels of a window over those of the image. Windows are squares, or one
        pixel wider than high.
      block: `(1, b_out)`; so many neighbouring outputs share a window.

    Raises:
      InputError: no such image or window, blocks of inputs, or blocks that do not
        divide the outputs.
    """
    window_blocks(n_in, n_out, density, block, nearest=False)
    image = _image(n_in)
    window = _window(image[0], density)
    return windows(key, image, n_out, window=window, group=block[1])


def window_blocks(
    n_in: int, n_out: int, density: float, block: tuple[int, int], nearest: bool
) -> int:
    """Blocks that `windows_of_density` keeps."""
    check_density(density)
    if block[0] != 1:
        raise InputError(
            f"windows are of single inputs, got blocks of {block}; use (1, {block[1]})"
        )
    _, blocks_out = grid(n_in, n_out, block)
    side, _, channels = _image(n_in)
    pixels = math.prod(_window(side, density))
    if not nearest and abs(pixels - density * side * side) > 1e-6 * side * side:
        areas = [math.prod(window) for window in _windows(side)]
        below = max((a for a in areas if a < density * side * side), default=1)
        above = min((a for a in areas if a > below), default=below)
        around = dict.fromkeys(f"{a / side**2:.6g}" for a in (below, above))
        raise InputError(
            f"density {density:g} is impossible for windows of {side} x {side} pixels; "
            f"nearest: {' and '.join(around)}"
        )
    return blocks_out * pixels * channels


def _image(n_in: int) -> tuple[int, int, int]:
    """Height, width and channels: no number is both a square and three times one."""
    for channels in (1, 3):
        side = math.isqrt(n_in // channels)
        if channels * side * side == n_in:
            return side, side, channels
    raise InputError(
        f"windows need a square image of 1 or 3 channels, got {n_in} inputs; use "
        "family 'balanced'"
    )


def _windows(side: int) -> list[tuple[int, int]]:
    """Heights and widths of all windows, by their pixels."""
    return [(h, w) for h in range(1, side + 1) for w in (h, h + 1) if w <= side]


def _window(side: int, density: float) -> tuple[int, int]:
    """The window of about this fraction of the pixels."""
    return min(_windows(side), key=lambda w: abs(math.prod(w) - density * side * side))
