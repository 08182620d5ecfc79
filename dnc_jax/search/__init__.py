"""The search for networks that are good and cheap.

The loop itself is `dnc_jax.search.run`; it is not imported here, so that the parts
below it stay importable on their own.
"""

from dnc_jax.search.objective import Objective
from dnc_jax.search.space import Candidate, MLPSpace
from dnc_jax.search.trials import Store, Trial

__all__ = ["Candidate", "MLPSpace", "Objective", "Store", "Trial"]
