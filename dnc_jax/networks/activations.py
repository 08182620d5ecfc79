"""The activations a search may choose from, by name."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class LaneForm(NamedTuple):
    """An activation as numbers, so that networks side by side may differ in it.

    `max(x, 0)` where it is rectified, else `amplitude * tanh(slope * x) + offset`.
    """

    rectified: bool = False
    amplitude: float = 0.0
    slope: float = 0.0
    offset: float = 0.0


class Activation(NamedTuple):
    """An activation, and what is known of it besides.

    Attributes:
      function: of an array of any shape; 0 at 0, but for the logistic function.
      source: what exported code calls; `nn` is flax.linen there.
      lane_form: of those that have one. MLPs with another run each as it is.
    """

    function: Callable[[jax.Array], jax.Array]
    source: str
    lane_form: LaneForm | None = None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Of every element."""
        return self.function(x)


ACTIVATIONS = {
    "relu": Activation(jax.nn.relu, "nn.relu", LaneForm(rectified=True)),
    "tanh": Activation(jnp.tanh, "jnp.tanh", LaneForm(amplitude=1, slope=1)),
    # A hyperbolic tangent, scaled and moved.
    "sigmoid": Activation(jax.nn.sigmoid, "nn.sigmoid", LaneForm(False, 0.5, 0.5, 0.5)),
    "leaky_relu": Activation(jax.nn.leaky_relu, "nn.leaky_relu"),
    "elu": Activation(jax.nn.elu, "nn.elu"),
    "gelu": Activation(jax.nn.gelu, "nn.gelu"),
    "silu": Activation(jax.nn.silu, "nn.silu"),
}
