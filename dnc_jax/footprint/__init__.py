"""What a network, and the search that found it, cost."""

from dnc_jax.footprint.complexity import (
    Complexity,
    Work,
    complexity,
    inference_work,
    step_work,
    training_work,
)
from dnc_jax.footprint.counters import Found, find
from dnc_jax.footprint.meters import Meter, measure
from dnc_jax.footprint.records import Assumed, Energy

__all__ = [
    "Assumed",
    "Complexity",
    "Energy",
    "Found",
    "Meter",
    "Work",
    "complexity",
    "find",
    "inference_work",
    "measure",
    "step_work",
    "training_work",
]
