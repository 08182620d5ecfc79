"""Windows over an image."""

import jax
import numpy as np
import pytest

from dnc_jax import sparse

KEY = jax.random.key(0)


def test_windows_are_rectangles_of_the_image():
    pattern = sparse.windows(KEY, (6, 5, 3), 12, window=(2, 3))
    for inputs in np.asarray(pattern.sources):
        y, x, channel = np.unravel_index(inputs, (6, 5, 3))
        assert np.ptp(y) == 1
        assert np.ptp(x) == 2
        assert len(set(zip(y, x, channel, strict=True))) == 2 * 3 * 3


def test_windows_of_a_density_are_squares_or_nearly_that():
    pattern = sparse.draw(KEY, "windows", 3 * 64, 8, density=12 / 64, block=(1, 4))
    assert pattern.describe().fan_in == (36, 36)
    for column in pattern.to_dense().T:
        rows, columns, channels = np.nonzero(column.reshape(8, 8, 3))
        assert np.ptp(rows) == 2
        assert np.ptp(columns) == 3
        assert set(channels) == {0, 1, 2}


@pytest.mark.parametrize(
    ("n_in", "density", "block", "message"),
    [
        (50, 0.1, (1, 1), "square image of 1 or 3 channels, got 50 inputs"),
        (64, 0.1, (2, 1), r"single inputs, got blocks of \(2, 1\)"),
        (64, 0.1, (1, 1), "windows of 8 x 8 pixels; nearest: 0.09375 and 0.140625"),
        (64, 0.01, (1, 1), "nearest: 0.015625 and 0.03125"),
        (64, 0.0, (1, 1), r"density must lie in \(0, 1\], got 0"),
    ],
)
def test_windows_that_do_not_exist_are_refused(n_in, density, block, message):
    with pytest.raises(ValueError, match=message):
        sparse.draw(KEY, "windows", n_in, 8, density=density, block=block)


def test_windows_are_spread_before_one_is_used_twice():
    pattern = sparse.windows(KEY, (4, 4, 1), 18, window=(2, 2))
    corners = [int(sources.min()) for sources in np.asarray(pattern.sources)]
    assert len(set(corners[:9])) == 9
    assert len(set(corners[9:])) == 9


def test_a_window_of_the_whole_of_a_tiny_image_names_what_there_is():
    for n_in in (1, 3):
        with pytest.raises(ValueError, match=r"nearest: 1$"):
            sparse.draw(KEY, "windows", n_in, 4, density=0.5)
