"""The junctions as Flax (linen) modules.

The pattern is a variable of the collection "patterns": it is saved with the
parameters, and what is loaded is what runs, whatever the module was made with.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnc_jax.sparse import junction
from dnc_jax.sparse.pattern import Pattern


class Dense(nn.Module):
    """`junction.init` and `junction.apply` as a module: [..., n_in] to [..., n_out].

    Attributes:
      pattern: which edges there are.
      bias: initial value of every bias.
      dtype: of the parameters.
      impl: which kernel; see `kernels.matmul`.
    """

    pattern: Pattern
    bias: float = 0.0
    dtype: Any = jnp.float32
    impl: str = "auto"

    @nn.compact
    def __call__(self, x: Any) -> jax.Array:
        """Applies the junction."""
        pattern = self.variable("patterns", "pattern", lambda: self.pattern).value
        params = self.param(
            "junction",
            lambda key: junction.init(key, pattern, bias=self.bias, dtype=self.dtype),
        )
        return junction.apply(params, pattern, x, impl=self.impl)


class Conv(nn.Module):
    """`junction.conv_init` and `junction.conv_apply` as a module.

    Attributes:
      pattern: from input channels to output channels.
      kernel_size: height and width.
      strides, padding: as in `junction.conv_apply`.
      bias: initial value of every bias.
      dtype: of the parameters.
      impl: which kernel; see `kernels.matmul`.
    """

    pattern: Pattern
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: str = "SAME"
    bias: float = 0.0
    dtype: Any = jnp.float32
    impl: str = "auto"

    @nn.compact
    def __call__(self, x: Any) -> jax.Array:
        """Applies the convolution to [B, height, width, n_in]."""
        pattern = self.variable("patterns", "pattern", lambda: self.pattern).value
        params = self.param(
            "junction",
            lambda key: junction.conv_init(
                key,
                pattern,
                kernel_size=self.kernel_size,
                bias=self.bias,
                dtype=self.dtype,
            ),
        )
        return junction.conv_apply(
            params,
            pattern,
            x,
            strides=self.strides,
            padding=self.padding,
            impl=self.impl,
        )
