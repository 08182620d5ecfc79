"""Trials in the forms of other tools, and other tools' samplers as strategies.

Each needs its tool installed: `pip install 'dnc_jax[optuna]'`, `[tensorboard]`,
`[pandas]`.
"""

from dnc_jax.interchange.files import to_parquet, to_tensorboard
from dnc_jax.interchange.optuna import sampled, to_study

__all__ = ["sampled", "to_parquet", "to_study", "to_tensorboard"]
