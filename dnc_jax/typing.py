"""Array aliases, and the one legend of the letters used in shape comments.

| letter | meaning                                   |
| ------ | ----------------------------------------- |
| B      | examples in a batch                       |
| N      | rows of a data set                        |
| D      | input features of a network               |
| H      | nodes of a hidden layer (padded in lanes) |
| I, O   | nodes before and after a junction         |
| C      | classes                                   |
| G      | lanes: networks trained side by side      |
| L      | hidden layers                             |
| P, Q   | input and output blocks of a pattern      |
| K      | most edges into an output block           |
| F      | most edges out of an input block          |
| E      | edges between blocks of a pattern         |

In shapes of images, [B, H, W, C], H, W and C are height, width and channels.
"""

import os
from typing import Any, TypedDict

import jax
import numpy as np

Array = jax.Array | np.ndarray
Scalar = Array | np.generic | float | int  # one number, or one for each lane
FilePath = str | os.PathLike[str]
Key = jax.Array  # [] key<fry>, made by jax.random.key


class Junction(TypedDict):
    """Trainable parameters of one fully connected junction."""

    weight: Any  # [I, O] float32
    bias: Any  # [O] float32


# A pytree, one junction after another: Sequence[Junction] on the host, and what JAX
# makes of it inside its transformations.
Params = Any

# A pytree, one layer after another: running mean and variance of each batch norm,
# which training moves but no gradient does. Empty where there is none.
Statistics = Any
