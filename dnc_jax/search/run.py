"""The search loop: ask, train, score, store, tell; then the winner at full length."""

import math
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.footprint import Complexity, complexity, training_flops
from dnc_jax.search.objective import Objective
from dnc_jax.search.space import MLPSpace
from dnc_jax.search.strategies import Evaluation, Strategy
from dnc_jax.search.trials import Store, Trial, ranking
from dnc_jax.training import checkpoints, population, trainer
from dnc_jax.training.checkpoints import Network
from dnc_jax.training.data import Dataset, Split


class Callback:
    """What a search tells while it runs; override what is of interest.

    `on_epoch` comes from worker threads, the rest from the caller's.
    """

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
    """

    trials: list[Trial]
    candidate_epochs: int
    search_seconds: float
    compile_seconds: float
    complete: bool
    flops: int


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
    history: trainer.History
    score: float
    best_val_accuracy: float
    test_accuracy: float
    seconds: float
    flops: int


def search(
    space: MLPSpace,
    data: Dataset,
    objective: Objective,
    strategy: Strategy,
    *,
    seed: int,
    store: Store | None = None,
    folder: pathlib.Path | None = None,
    max_seconds: float = math.inf,
    callback: Callback | None = None,
) -> SearchResult:
    """Runs `strategy` to its end, training each rung's candidates together.

    The same seed on the same machine gives the same trials, bit for bit, unless
    `max_seconds` cuts the search short. With a store, rungs that it already holds
    are not trained again.

    Args:
      space: where the strategy's candidates come from; complexity is relative to
        its largest network.
      data: the test split is not touched.
      objective: what is minimised.
      strategy: who is asked for candidates.
      seed: of everything random.
      store: receives the trials of each finished rung.
      folder: of the store; promoted networks are kept there between rungs.
      max_seconds: the search ends after this time with the best so far.
      callback: told of progress.

    Raises:
      InputError: not one candidate was evaluated within `max_seconds`, or the
        objective is not for this data.
    """
    objective.check(data.task)
    begin = time.perf_counter()
    callback = callback or Callback()
    strategy_key, candidate_key, order_key = _keys(seed)
    programs = population.Programs(data, order_key)
    stored = {(t.candidate_id, t.rung): t for t in store.trials()} if store else {}
    largest = complexity(space.largest())
    state = strategy.init(strategy_key)
    trials: list[Trial] = []
    snapshots: dict[int, population.Snapshot] = {}
    curves: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    finished, flops = 0, 0
    trained: list[int] = []  # candidates of each epoch; workers append
    rows = (len(data.train.y), len(data.validation.y))

    def on_epoch(accuracies: Sequence[float]) -> None:
        trained.append(len(accuracies))
        callback.on_epoch(accuracies)

    def out_of_time() -> bool:
        return time.perf_counter() - begin > max_seconds

    while evaluations := strategy.ask(state):
        finished += 1
        callback.on_rung_start(evaluations)
        known = [stored.get((e.candidate_id, e.rung)) for e in evaluations]
        resumed = all(known)
        if not resumed and not snapshots and folder:
            snapshots = checkpoints.load_snapshots(folder, finished - 1)
        jobs = [
            _job(
                e,
                None if resumed else snapshots.get(e.candidate_id),
                resumed,
                strategy,
                candidate_key,
            )
            for e in evaluations
        ]
        if resumed:
            rung = [trial for trial in known if trial]
            snapshots = {}
            population.plan_groups(jobs, programs)
        else:
            outcomes = population.train(
                jobs,
                programs,
                on_epoch=on_epoch,
                should_stop=out_of_time,
            )
            rung, snapshots = [], {}
            for evaluation, job, outcome in zip(
                evaluations, jobs, outcomes, strict=True
            ):
                if outcome is None:
                    continue
                # A network whose snapshot was lost has started from scratch.
                past = curves[evaluation.candidate_id] if job.start else ((), ())
                trial = _trial(
                    evaluation, outcome, past, objective, largest, data.resolution
                )
                flops += training_flops(
                    trial.complexity.flops_per_example, *rows, len(outcome.val_loss)
                )
                rung.append(trial)
                if outcome.snapshot:
                    snapshots[trial.candidate_id] = outcome.snapshot
        curves = {t.candidate_id: (t.val_loss, t.val_accuracy) for t in rung}
        trials += rung
        complete = len(rung) == len(evaluations)
        if complete:
            state = strategy.tell(
                state,
                [t.score if t.status == "done" else math.inf for t in rung],
            )
            promoted = {e.candidate_id for e in strategy.ask(state)}
            snapshots = {i: s for i, s in snapshots.items() if i in promoted}
        if not resumed and store:
            if complete and folder:
                checkpoints.save_snapshots(folder, finished, snapshots)
            store.add(rung)
        callback.on_rung_end(rung, resumed)
        if not complete or out_of_time():
            break
    else:
        complete = True
    if not trials:
        raise InputError(
            f"budget.seconds = {max_seconds:g} ended before any candidate was "
            "trained; allow more time or fewer candidates"
        )
    return SearchResult(
        trials,
        sum(trained),
        time.perf_counter() - begin,
        programs.compile_seconds / programs.workers,
        complete and not strategy.ask(state),
        flops,
    )


def retrain(
    result: SearchResult,
    space: MLPSpace,
    data: Dataset,
    objective: Objective,
    *,
    seed: int,
    epochs: int,
    refit: bool = False,
    callback: Callback | None = None,
) -> Winner:
    """Trains the best candidate at full length and tests it, once.

    With `refit` it is trained once more, on training and validation rows together
    and to the last epoch, and that network is tested and returned; history, score and
    validation accuracy are of the training before, which did not see those rows. A
    winner whose loss does not stay finite over the longer training gives way to
    the next in the ranking.

    Raises:
      InputError: epochs below 1, or every candidate diverged.
    """
    if epochs < 1:
        raise InputError(f"train.epochs must be >= 1, got {epochs}")
    begin = time.perf_counter()
    callback = callback or Callback()
    _, candidate_key, order_key = _keys(seed)
    for trial in ranking(result.trials):
        architecture = trial.candidate.architecture
        try:
            params, history = trainer.train(
                jax.random.fold_in(candidate_key, trial.candidate_id),
                architecture,
                trial.candidate.hyperparameters,
                data,
                order_key=order_key,
                epochs=epochs,
                on_epoch=lambda n, acc: callback.on_retrain_epoch(n, epochs, acc),
            )
            if refit:
                params, _ = trainer.train(
                    jax.random.fold_in(candidate_key, trial.candidate_id),
                    architecture,
                    trial.candidate.hyperparameters,
                    data._replace(train=_joined(data.train, data.validation)),
                    order_key=order_key,
                    epochs=epochs,
                    keep_last=True,
                    on_epoch=lambda n, acc: callback.on_retrain_epoch(n, epochs, acc),
                )
        except FloatingPointError:
            continue
        statistics = (data.mean, data.scale)
        test = trainer.evaluate(params, architecture, data.test, *statistics)
        network = Network.trained_on(
            data, architecture, trial.candidate.hyperparameters, params
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
            ),
            max(history.val_accuracy),
            float(test.accuracy),
            time.perf_counter() - begin,
            _retraining_flops(trial, data, epochs, refit),
        )
    raise InputError(
        "every candidate diverged; lower the upper end of space.learning_rate"
    )


def _retraining_flops(trial: Trial, data: Dataset, epochs: int, refit: bool) -> int:
    cost = trial.complexity.flops_per_example
    rows = (len(data.train.y), len(data.validation.y))
    flops = training_flops(cost, *rows, epochs)
    return flops + refit * training_flops(cost, sum(rows), rows[1], epochs)


def _joined(one: Split, other: Split) -> Split:
    return Split(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


def _keys(seed: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Keys of the strategy, of the candidates and of the order of the rows."""
    strategy, candidates, order = jax.random.split(jax.random.key(seed), 3)
    return strategy, candidates, order


def _job(
    evaluation: Evaluation,
    snapshot: population.Snapshot | None,
    resumed: bool,
    strategy: Strategy,
    candidate_key: jax.Array,
) -> population.Job:
    """What is to be trained: on from the snapshot, or from scratch if there is none.

    A resumed job is not trained but planned, as it was when it was.
    """
    return population.Job(
        architecture=evaluation.candidate.architecture,
        hyperparameters=evaluation.candidate.hyperparameters,
        key=jax.random.fold_in(candidate_key, evaluation.candidate_id),
        start=evaluation.start if snapshot or resumed else 0,
        stop=evaluation.stop,
        total=strategy.epochs,
        snapshot=snapshot,
    )


def _trial(
    evaluation: Evaluation,
    outcome: population.Outcome,
    past: tuple[tuple[float, ...], tuple[float, ...]],
    objective: Objective,
    largest: Complexity,
    resolution: float,
) -> Trial:
    val_loss = past[0] + outcome.val_loss
    val_accuracy = past[1] + outcome.val_accuracy
    cost = complexity(evaluation.candidate.architecture)
    return Trial(
        candidate_id=evaluation.candidate_id,
        candidate=evaluation.candidate,
        rung=evaluation.rung,
        epochs=evaluation.stop,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        complexity=cost,
        score=objective.score(val_loss, val_accuracy, cost, largest, resolution),
        seconds=outcome.seconds,
        status="diverged" if outcome.diverged else "done",
    )
