"""What a search tells while it runs, and what it ends with."""

from collections.abc import Sequence
from typing import NamedTuple

from dnc_jax.search.accounts import Attribution
from dnc_jax.search.forecast import Forecast
from dnc_jax.search.strategies import Evaluation
from dnc_jax.search.trials import Trial
from dnc_jax.training.checkpoints import Network
from dnc_jax.training.trainer import History


class Callback:
    """What a search tells while it runs; override what is of interest.

    `on_epoch` comes from worker threads, the rest from the caller's.
    """

    def on_forecast(self, forecast: Forecast) -> None:
        """The search is about to begin, and will probably take so much."""

    def on_rung_start(self, evaluations: Sequence[Evaluation]) -> None:
        """A rung begins."""

    def on_epoch(self, accuracies: Sequence[float]) -> None:
        """Candidates finished an epoch, with these validation accuracies."""

    def on_rung_end(self, trials: Sequence[Trial], resumed: bool) -> None:
        """A rung is done; `resumed`: its trials came from the store."""

    def on_retrain_epoch(self, epoch: int, epochs: int, val_accuracy: float) -> None:
        """The winner finished an epoch of its full-length training."""


class SearchResult(NamedTuple):
    """What a search found.

    Attributes:
      trials: all of them, in the order they finished.
      candidate_epochs: epochs trained in this run, summed over candidates, those
        included whose rung the budget cut off.
      search_seconds: wall clock of this run.
      compile_seconds: the part of it that went into compiling: seconds of the
        compiling threads over the number of workers.
      complete: False if the budget ended the search.
      flops: floating-point operations of this run's trials, of the true networks.
      forecast: what it was expected to take; None if a part came from the store.
      attribution: whose the energy of its rungs was.
      ended_by: the cap of the budget that ended it, by name.
    """

    trials: list[Trial]
    candidate_epochs: int
    search_seconds: float
    compile_seconds: float
    complete: bool
    flops: int
    forecast: Forecast | None
    attribution: Attribution
    ended_by: str | None


class Winner(NamedTuple):
    """The best candidate after its full-length training.

    Attributes:
      trial: of the search that it won.
      network: of the best epoch, or of the refit.
      history: of the full-length training.
      score: of that training.
      best_val_accuracy: at the best epoch.
      test_accuracy: on the test split, evaluated once.
      seconds: wall clock of training and testing.
      flops: floating-point operations of the training.
    """

    trial: Trial
    network: Network
    history: History
    score: float
    best_val_accuracy: float
    test_accuracy: float
    seconds: float
    flops: int
