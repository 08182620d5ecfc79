"""The winner of a search at full length."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from absl import logging

from dnc_jax.errors import InputError, check_kind, check_whole
from dnc_jax.footprint import Complexity, Work, complexity, training_work
from dnc_jax.search.chunks import Chunks
from dnc_jax.search.objective import Objective
from dnc_jax.search.problem import Keys, keys
from dnc_jax.search.results import Callback, SearchResult, Winner
from dnc_jax.search.space import Space
from dnc_jax.search.trials import Trial, ranking
from dnc_jax.training import feed, trainer
from dnc_jax.training.checkpoints import Network
from dnc_jax.training.course import Rank, best_epoch
from dnc_jax.training.data import Dataset, check_sizes, joined
from dnc_jax.training.trainer import History, Trained
from dnc_jax.typing import FilePath


def retrain(
    result: SearchResult,
    space: Space,
    data: Dataset,
    objective: Objective | None = None,
    *,
    seed: int,
    epochs: int,
    refit: bool = False,
    folder: FilePath | None = None,
    callback: Callback | None = None,
) -> Winner:
    """Trains the best candidate at full length and tests it, once.

    With `refit` it is trained once more, on training and validation rows together
    and to the last epoch, and that network is tested and returned; history, score and
    validation accuracy are of the training before, which did not see those rows. A
    winner whose loss does not stay finite over the longer training gives way to
    the next in the ranking. With a folder it goes on, like the search, after an
    interruption.

    The network kept is that of the epoch that scores best by itself.

    Args:
      result: of the search.
      space: that was searched; scores are relative to its largest network.
      data, objective, seed: as the search had them; its seed makes the same weights.
      epochs: of the training; the learning-rate schedule is spread over them.
      refit: train once more, on all rows but those of the test.
      folder: of the search's store; the training under way is kept there.
      callback: told of each epoch.

    Returns:
      The winner, see `Winner`.

    Raises:
      InputError: epochs below 1, data of other sizes than the search's, every
        candidate diverged or is infeasible, or all that were ranked diverge at full
        length.
      OSError: the folder cannot be written.
    """
    check_kind(SearchResult, "search(space, data, seed=0)", result=result)
    check_kind(Space, "that of the search", space=space)
    (epochs,) = check_whole(1, epochs=epochs)
    begin = time.perf_counter()
    callback = callback or Callback()
    objective = objective or Objective()
    flops = 0  # of this run

    def told(epoch: Work, number: int, accuracy: float) -> None:
        nonlocal flops
        flops += epoch.flops
        callback.on_retrain_epoch(number, epochs, accuracy)

    given = _Arguments(data, keys(seed), epochs, refit, Chunks(folder), told)
    largest = complexity(space.largest())
    for trial in ranking(result.trials):
        architecture = trial.candidate.architecture
        check_sizes(f"the result's network {architecture}", architecture, data)
        score = functools.partial(_score, objective, trial, largest, data.resolution)
        rank = _by_score(score)
        try:
            trained, history = _trained(trial, given, rank)
        except FloatingPointError as error:
            logging.warning("candidate %d: %s; next best", trial.candidate_id, error)
            continue
        test = trainer.evaluate(
            trained, architecture, data.test, data.view, feed.limit(data)
        )
        kept = best_epoch(history.val_loss, history.val_accuracy, rank)
        return Winner(
            trial=trial,
            network=Network.trained_on(
                data, architecture, trial.candidate.hyperparameters, trained
            ),
            history=history,
            score=score(history.val_loss, history.val_accuracy),
            best_val_accuracy=history.val_accuracy[kept],
            best_val_loss=history.val_loss[kept],
            test_accuracy=float(test.accuracy),
            test_loss=float(test.loss),
            seconds=time.perf_counter() - begin,
            flops=flops,
        )
    _ = result.best  # refuses a search of which no candidate was ranked
    raise InputError(
        f"every candidate that was ranked diverged in its {epochs} epochs at full "
        "length; lower the upper end of space.learning_rate"
    )


def _score(
    objective: Objective,
    trial: Trial,
    largest: Complexity,
    resolution: float,
    val_loss: Sequence[float],
    val_accuracy: Sequence[float],
) -> float:
    cost = trial.complexity, largest, resolution, trial.epoch_cost
    return objective.score(val_loss, val_accuracy, *cost)


def _by_score(score: Callable[..., float]) -> Rank:
    def rank(val_loss: float, val_accuracy: float) -> float:
        return score((val_loss,), (val_accuracy,))

    return rank


class _Arguments(NamedTuple):
    """How a candidate is trained at full length: the arguments of `retrain`."""

    data: Dataset
    keys: Keys
    epochs: int
    refit: bool
    chunks: Chunks
    told: Callable[[Work, int, float], None]


def _trained(trial: Trial, given: _Arguments, rank: Rank) -> tuple[Trained, History]:
    """The candidate's network and the history of the training without a refit.

    Raises:
      FloatingPointError: it diverged.
    """
    data, own, epochs, refit, chunks, told = given
    architecture, hyperparameters = (
        trial.candidate.architecture,
        trial.candidate.hyperparameters,
    )
    key = jax.random.fold_in(own.candidates, trial.candidate_id)

    def train(
        rows: Dataset,
        name: str,
        *,
        keep_last: bool = False,
    ) -> tuple[Trained, History]:
        def on_epoch(number: int, accuracy: float) -> None:
            # A refit trains on the rows that it would be validated on.
            told(epoch, number, math.nan if keep_last else accuracy)

        fit, validated = rows.rows
        epoch = training_work(
            architecture, hyperparameters.batch_size, fit, validated, epochs=1
        )
        return trainer.train(
            key,
            architecture,
            hyperparameters,
            rows,
            order_key=own.order,
            epochs=epochs,
            keep_last=keep_last,
            rank=rank,
            checkpoint=chunks.course(f"{name}-{trial.candidate_id}"),
            on_epoch=on_epoch,
        )

    trained, history = train(data, "winner")
    if refit:
        all_rows = data._replace(train=joined(data.train, data.validation))
        trained, _ = train(all_rows, "refit", keep_last=True)
    return trained, history
