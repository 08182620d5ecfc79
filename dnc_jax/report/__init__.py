"""What a person sees of a search: terminal, figures, report.html."""

from dnc_jax.report.folder import Run, Summary, read
from dnc_jax.report.page import write
from dnc_jax.report.plots import (
    best_over_time,
    importance,
    learning_curves,
    parallel_coordinates,
    pareto,
)
from dnc_jax.report.portraits import (
    confusion_matrix,
    connections,
    history,
    layers,
    programs,
)
from dnc_jax.report.summary import finish, summarise
from dnc_jax.search.columns import table

__all__ = [
    "Run",
    "Summary",
    "best_over_time",
    "confusion_matrix",
    "connections",
    "finish",
    "history",
    "importance",
    "layers",
    "learning_curves",
    "parallel_coordinates",
    "pareto",
    "programs",
    "read",
    "summarise",
    "table",
    "write",
]
