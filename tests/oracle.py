"""What a sparse weight is as a full matrix: the truth that tests compare with."""

import numpy as np


def dense_of(weight, pattern):
    """[..., E, b_in, b_out] as [..., n_in, n_out], zeros where there is no edge."""
    leading = weight.shape[:-3]
    blocks = (pattern.blocks_in, pattern.blocks_out, *pattern.block)
    full = np.zeros((*leading, *blocks), weight.dtype)
    sources, outputs = pattern.edge_list()
    full[..., sources, outputs, :, :] = weight
    return np.swapaxes(full, -3, -2).reshape(*leading, pattern.n_in, pattern.n_out)
