"""The junctions as Flax (linen) modules.

The pattern is a variable of the collection "patterns": it is saved with the
parameters, and what is loaded is what runs, whatever the module was made with. Where
only "params" are given to `apply`, the module's own pattern runs.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax.sparse import junction
from dnc_jax.sparse.pattern import Pattern


class Dense(nn.Module):
    """`junction.init` and `junction.apply` as a module: [..., n_in] to [..., n_out].

    Attributes:
      pattern: which edges there are.
      bias: initial value of every bias; None for none.
      dtype: to compute in; None is the input's.
      param_dtype: of the parameters.
      impl: which kernel; see `kernels.matmul`.
    """

    pattern: Pattern
    bias: float | None = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32
    impl: str = "auto"

    @nn.compact
    def __call__(self, x: Any) -> jax.Array:
        """Applies the junction."""
        pattern, params, x = _bound(self, junction.init, x)
        return junction.apply(params, pattern, x, impl=self.impl)


class Conv(nn.Module):
    """`junction.conv_init` and `junction.conv_apply` as a module.

    Attributes:
      pattern: from input channels to output channels.
      kernel_size: height and width.
      strides, padding: as in `junction.conv_apply`.
      bias, dtype, param_dtype, impl: as in `Dense`.
    """

    pattern: Pattern
    kernel_size: int | tuple[int, int] = (3, 3)
    strides: int | tuple[int, int] = (1, 1)
    padding: str = "SAME"
    bias: float | None = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32
    impl: str = "auto"

    @nn.compact
    def __call__(self, x: Any) -> jax.Array:
        """Applies the convolution to [B, height, width, n_in]."""

        def init(key: Any, pattern: Pattern, **how: Any) -> dict[str, jax.Array]:
            return junction.conv_init(key, pattern, kernel_size=self.kernel_size, **how)

        pattern, params, x = _bound(self, init, x)
        return junction.conv_apply(
            params,
            pattern,
            x,
            strides=self.strides,
            padding=self.padding,
            impl=self.impl,
        )


def _bound(module: Any, init: Callable[..., Any], x: Any) -> tuple[Pattern, Any, Any]:
    """The module's pattern, parameters and input, in the type that it computes in."""
    pattern = module.pattern
    if module.is_initializing() or module.has_variable("patterns", "pattern"):
        pattern = module.variable("patterns", "pattern", lambda: module.pattern).value
        if isinstance(pattern, Mapping):  # as Orbax restores it without a target
            pattern = dataclasses.replace(module.pattern, **pattern)

    def fresh(key: Any) -> dict[str, jax.Array]:
        return init(key, pattern, bias=module.bias, dtype=module.param_dtype)

    params = module.param("junction", fresh)
    if module.dtype is not None:
        x, params = jax.tree.map(lambda a: jnp.asarray(a, module.dtype), (x, params))
    return pattern, params, x


def _to_state(pattern: Pattern) -> dict[str, Any]:
    state = {
        one.name: getattr(pattern, one.name) for one in dataclasses.fields(pattern)
    }
    return state | {"block": np.array(pattern.block)}


def _from_state(pattern: Pattern, state: dict[str, Any]) -> Pattern:
    block_in, block_out = np.asarray(state["block"]).tolist()
    fields = {"block": (block_in, block_out), "block_edges": int(state["block_edges"])}
    return Pattern(**{**state, **fields})


# So that `flax.serialization.to_bytes` and what stands on it take a module's variables.
flax.serialization.register_serialization_state(Pattern, _to_state, _from_state)
