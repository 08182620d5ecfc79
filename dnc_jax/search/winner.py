"""The winner of a search at full length."""

import functools
import pathlib
import time

import jax

from dnc_jax.errors import InputError
from dnc_jax.footprint import Work, complexity, training_work
from dnc_jax.search.objective import Objective
from dnc_jax.search.problem import keys
from dnc_jax.search.results import Callback, SearchResult, Winner
from dnc_jax.search.space import Space
from dnc_jax.search.trials import ranking
from dnc_jax.search.units import Units
from dnc_jax.training import feed, rows, trainer
from dnc_jax.training.checkpoints import Network
from dnc_jax.training.data import Dataset, Split


def retrain(
    result: SearchResult,
    space: Space,
    data: Dataset,
    objective: Objective | None = None,
    *,
    seed: int,
    epochs: int,
    refit: bool = False,
    folder: pathlib.Path | None = None,
    callback: Callback | None = None,
) -> Winner:
    """Trains the best candidate at full length and tests it, once.

    With `refit` it is trained once more, on training and validation rows together
    and to the last epoch, and that network is tested and returned; history, score and
    validation accuracy are of the training before, which did not see those rows. A
    winner whose loss does not stay finite over the longer training gives way to
    the next in the ranking. With a folder it goes on, like the search, after an
    interruption.

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
      InputError: epochs below 1, every candidate diverged or is infeasible, or all
        that were ranked diverge at full length.
      OSError: the folder cannot be written.
    """
    if epochs < 1:
        raise InputError(f"epochs must be >= 1, got {epochs}")
    begin = time.perf_counter()
    callback = callback or Callback()
    objective = objective or Objective()
    own = keys(seed)
    units = Units(folder)
    flops = 0  # of this run

    def told(epoch: Work, number: int, accuracy: float) -> None:
        nonlocal flops
        flops += epoch.flops
        callback.on_retrain_epoch(number, epochs, accuracy)

    fit, validated = data.rows
    for trial in ranking(result.trials):
        architecture = trial.candidate.architecture
        work = functools.partial(
            training_work,
            architecture,
            trial.candidate.hyperparameters.batch_size,
            validation_rows=validated,
            epochs=1,
        )
        train = functools.partial(
            trainer.train,
            jax.random.fold_in(own.candidates, trial.candidate_id),
            architecture,
            trial.candidate.hyperparameters,
            order_key=own.order,
            epochs=epochs,
        )
        try:
            trained, history = train(
                data,
                checkpoint=units.course(f"winner-{trial.candidate_id}"),
                on_epoch=functools.partial(told, work(train_rows=fit)),
            )
            if refit:
                trained, _ = train(
                    data._replace(train=_joined(data.train, data.validation)),
                    keep_last=True,
                    checkpoint=units.course(f"refit-{trial.candidate_id}"),
                    on_epoch=functools.partial(told, work(train_rows=fit + validated)),
                )
        except FloatingPointError:
            continue
        test = trainer.evaluate(
            trained, architecture, data.test, data.view, feed.limit(data)
        )
        network = Network.trained_on(
            data, architecture, trial.candidate.hyperparameters, trained
        )
        return Winner(
            trial,
            network,
            history,
            objective.score(
                history.val_loss,
                history.val_accuracy,
                trial.complexity,
                complexity(space.largest()),
                data.resolution,
                trial.epoch_cost,
            ),
            max(history.val_accuracy),
            float(test.accuracy),
            time.perf_counter() - begin,
            flops,
        )
    _ = result.best  # refuses a search of which no candidate was ranked
    raise InputError(
        f"every candidate that was ranked diverged in its {epochs} epochs at full "
        "length; lower the upper end of space.learning_rate"
    )


def _joined(one: Split, other: Split) -> Split:
    return Split(*(rows.joined(*pair) for pair in zip(one, other, strict=True)))
