"""Training: data, one network by itself, and many at once."""

from dnc_jax.training import data, plan, population, trainer
from dnc_jax.training.hyperparameters import Hyperparameters

__all__ = ["Hyperparameters", "data", "plan", "population", "trainer"]
