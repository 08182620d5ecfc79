"""Networks: a plain description each, and pure `init` and `apply` functions."""

from dnc_jax.networks import cnn, mlp, network, presets
from dnc_jax.networks.architecture import (
    CNN,
    MLP,
    Architecture,
    Sparsity,
    from_json,
    to_json,
)

__all__ = [
    "CNN",
    "MLP",
    "Architecture",
    "Sparsity",
    "cnn",
    "from_json",
    "mlp",
    "network",
    "presets",
    "to_json",
]
