"""dnc_jax: neural networks that are good and cheap, found many at a time.

`dnc_jax.search` is the function. The package of that name holds its parts: write
`from dnc_jax.search import MLPSpace`, `from dnc_jax.search.strategies import halving`
(`import dnc_jax.search.x as y` would look for them in the function).
"""

from typing import TYPE_CHECKING, Any

from dnc_jax.errors import InputError
from dnc_jax.exporting import export
from dnc_jax.search.results import SearchResult, Winner
from dnc_jax.search.run import search
from dnc_jax.search.winner import retrain
from dnc_jax.training.checkpoints import Network, load, save

if TYPE_CHECKING:
    from dnc_jax.estimators import DncClassifier, DncRegressor

__version__ = "0.1.0"
__all__ = [
    "DncClassifier",
    "DncRegressor",
    "InputError",
    "Network",
    "SearchResult",
    "Winner",
    "__version__",
    "export",
    "load",
    "retrain",
    "save",
    "search",
]


def __getattr__(name: str) -> Any:
    """The estimators: scikit-learn is imported only where they are used."""
    if name in ("DncClassifier", "DncRegressor"):
        from dnc_jax import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
