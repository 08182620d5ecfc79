"""The search for networks that are good and cheap: its parts.

The loop itself is `dnc_jax.search.run`, which the package offers as `dnc_jax.search`.
"""

from dnc_jax.search.budget import Budget
from dnc_jax.search.cnn_space import CNNSpace
from dnc_jax.search.constraints import Constraints
from dnc_jax.search.dimensions import Choice, Integer, Real
from dnc_jax.search.mlp_space import MLPSpace
from dnc_jax.search.objective import Objective
from dnc_jax.search.pareto import efficient, hypervolume
from dnc_jax.search.results import Callback, Callbacks
from dnc_jax.search.space import Candidate, CustomSpace, Space
from dnc_jax.search.spaces import make_space, space_from_json
from dnc_jax.search.trials import Store, Trial

__all__ = [
    "Budget",
    "CNNSpace",
    "Callback",
    "Callbacks",
    "Candidate",
    "Choice",
    "Constraints",
    "CustomSpace",
    "Integer",
    "MLPSpace",
    "Objective",
    "Real",
    "Space",
    "Store",
    "Trial",
    "efficient",
    "hypervolume",
    "make_space",
    "space_from_json",
]
