"""What a search tells while it runs, and what it ends with."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from dnc_jax.errors import InputError
from dnc_jax.search import columns
from dnc_jax.search.forecast import Forecast
from dnc_jax.search.ledger import Attribution
from dnc_jax.search.strategies import Evaluation
from dnc_jax.search.trials import Trial, front, ranking
from dnc_jax.training.checkpoints import Network
from dnc_jax.training.jobs import Account
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

    def on_rung_end(self, trials: Sequence[Trial], resumed: bool, flops: int) -> None:
        """A rung is done.

        Args:
          trials: of the rung.
          resumed: whether they came from the store.
          flops: of all trials that this run has trained so far.
        """

    def on_retrain_epoch(self, epoch: int, epochs: int, val_accuracy: float) -> None:
        """The winner finished an epoch of its full-length training.

        Args:
          epoch, epochs: its number from 1, and how many there are.
          val_accuracy: NaN in the refit, which trains on the validation rows.
        """


class Callbacks(Callback):
    """Tells each of several, in their order."""

    def __init__(self, *callbacks: Callback) -> None:
        self._callbacks = callbacks

    def on_forecast(self, forecast: Forecast) -> None:
        """The search is about to begin."""
        for callback in self._callbacks:
            callback.on_forecast(forecast)

    def on_rung_start(self, evaluations: Sequence[Evaluation]) -> None:
        """A rung begins."""
        for callback in self._callbacks:
            callback.on_rung_start(evaluations)

    def on_epoch(self, accuracies: Sequence[float]) -> None:
        """Candidates finished an epoch."""
        for callback in self._callbacks:
            callback.on_epoch(accuracies)

    def on_rung_end(self, trials: Sequence[Trial], resumed: bool, flops: int) -> None:
        """A rung is done."""
        for callback in self._callbacks:
            callback.on_rung_end(trials, resumed, flops)

    def on_retrain_epoch(self, epoch: int, epochs: int, val_accuracy: float) -> None:
        """The winner finished an epoch."""
        for callback in self._callbacks:
            callback.on_retrain_epoch(epoch, epochs, val_accuracy)


class SearchResult(NamedTuple):
    """What a search found.

    Attributes:
      trials: all of them, rung by rung as the strategy asked for them.
      candidate_epochs: epochs trained in this run, summed over candidates, those
        included whose rung the budget cut off.
      search_seconds: wall clock of this run.
      compile_seconds: the part of it that went into compiling: seconds of the
        compiling threads over the number of workers.
      complete: False if the budget ended the search.
      flops: floating-point operations of this run's trials, of the true networks.
      programs: what each compiled program of this run took, by its shape in words.
      forecast: what it was expected to take; None if a part came from the store.
      attribution: whose the energy of its rungs was.
      ended_by: the cap of the budget that ended it, by name.
      metric: what accuracies are, for people.
    """

    trials: list[Trial]
    candidate_epochs: int
    search_seconds: float
    compile_seconds: float
    complete: bool
    flops: int
    programs: dict[str, Account]
    forecast: Forecast | None
    attribution: Attribution
    ended_by: str | None
    metric: str

    def __repr__(self) -> str:
        """What it came to; hundreds of trials would say less."""
        found = ranking(self.trials)
        best = "none could be ranked"
        if found:
            best = f"best {found[0].candidate}, score {found[0].score:.3f}"
        return (
            f"<SearchResult: {len({t.candidate_id for t in self.trials})} candidates, "
            f"{len(self.trials)} trials, {self.search_seconds:.1f} s; {best}>"
        )

    @property
    def best(self) -> Trial:
        """The trial with the least score.

        Raises:
          InputError: every candidate diverged or is infeasible.
        """
        ranked = ranking(self.trials)
        if not ranked:
            raise InputError(
                "no candidate could be ranked: those that were trained diverged or are "
                "over a limit; lower the upper end of space.learning_rate, or raise "
                "constraints.max_seconds_per_epoch and max_joules_per_epoch"
            )
        return ranked[0]

    @property
    def front(self) -> list[Trial]:
        """The Pareto front of validation error against parameters."""
        return front(self.trials)

    def table(self) -> dict[str, list[Any]]:
        """All trials as columns: `pandas.DataFrame(result.table())`."""
        return columns.table(self.trials)


class Winner(NamedTuple):
    """The best candidate after its full-length training.

    Attributes:
      trial: of the search that it won.
      network: of the best epoch, or of the refit.
      history: of the full-length training.
      score: of that training.
      best_val_accuracy, best_val_loss: at the best epoch.
      test_accuracy, test_loss: on the test split, evaluated once.
      seconds: wall clock of training and testing.
      flops: floating-point operations of the training.
    """

    trial: Trial
    network: Network
    history: History
    score: float
    best_val_accuracy: float
    best_val_loss: float
    test_accuracy: float
    test_loss: float
    seconds: float
    flops: int

    def __repr__(self) -> str:
        """How good it is; all weights and epochs would say less."""
        return (
            f"<Winner {self.trial.candidate}: test_accuracy {self.test_accuracy:.4f}, "
            f"test_loss {self.test_loss:.4g}, score {self.score:.3f}>"
        )
