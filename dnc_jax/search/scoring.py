"""From curves to a trial: the score of a candidate, and what it takes to train."""

import dataclasses
import math
from collections.abc import Callable, Iterable

import jax
import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.footprint import Meter, complexity
from dnc_jax.footprint.counters import CounterError
from dnc_jax.networks import Architecture
from dnc_jax.search.constraints import Limited
from dnc_jax.search.problem import Problem, keys
from dnc_jax.search.space import Candidate
from dnc_jax.search.strategies import Evaluation
from dnc_jax.search.trials import Store, Trial
from dnc_jax.training import goals, processes, timing
from dnc_jax.training.data import check_sizes
from dnc_jax.training.timing import UNMEASURED, EpochCost


class Scorer:
    """Scores trials; measures what objective and constraints ask for, once a candidate.

    Args:
      problem: what is searched.
      meter: of the search's energy, already entered where it counts; None if nobody
        does, or process 0 counts for this one.
      store: keeps what was measured, so that a search which ends while it measures goes
        on from there; may be None.

    Raises:
      InputError: the objective is not for this data, or asks for joules that nobody
        counts; the space is not for this data, or not limited; the seed is out of
        range.
    """

    def __init__(
        self, problem: Problem, meter: Meter | None, store: Store | None = None
    ) -> None:
        self._problem, self._largest = problem, complexity(_check(problem))
        self._store = store
        self._key = keys(problem.seed).measuring
        self._asked = problem.measured
        self._read_joules: Callable[[], float] | None = None
        if "joules" in self._asked and processes.is_first():
            if not meter or not meter.available:
                raise InputError(
                    "objective.joules and constraints.max_joules_per_epoch need an "
                    "energy counter: pass meter=Meter(find()) to search. Where this "
                    "machine has none that can be read, assume a power (assumed= of "
                    "Meter, energy.tdp_watts in a config), or use objective.flops"
                )
            self._read_joules = meter.joules
        self._measured: dict[int, EpochCost] = {}

    def remember(self, trials: Iterable[Trial]) -> None:
        """Takes over what was measured for trials of an earlier run."""
        for trial in trials:
            if trial.epoch_cost != UNMEASURED:
                self._measured[trial.candidate_id] = trial.epoch_cost

    def measure(
        self,
        evaluations: Iterable[Evaluation],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Trains the candidates that are new, each by itself for a moment, if asked to.

        Call it while nothing else runs.

        Args:
          evaluations: of these candidates.
          should_stop: asked before each that has to be measured.

        Returns:
          False if it was told to stop.

        Raises:
          InputError: an energy counter failed.
        """
        for number, candidate, *_ in evaluations:
            if not self._asked or self._is_measured(number):
                continue
            name = f"epoch_cost {sorted(self._asked)} {number} {candidate!r}"
            kept = self._store.fact(name) if self._store else None
            self._measured[number] = EpochCost(
                *processes.from_first(kept or UNMEASURED)
            )
            if self._is_measured(number):
                continue
            if processes.any_of(int(should_stop())):
                return False
            try:
                cost = timing.epoch_cost(
                    jax.random.fold_in(self._key, number),
                    candidate.architecture,
                    candidate.hyperparameters,
                    self._problem.data,
                    self._read_joules,
                )
                # Processes must score alike, whatever each of them measures.
                self._measured[number] = EpochCost(*processes.from_first(cost))
                if self._store:
                    self._store.first(name, list(self._measured[number]))
            except CounterError as error:
                raise InputError(
                    f"{error}; without joules nothing can be scored any more. What was "
                    "trained is kept: the same command goes on when they are counted "
                    "again"
                ) from error
        return True

    def _is_measured(self, number: int) -> bool:
        known = self._measured.get(number, UNMEASURED)
        return all(getattr(known, name) is not None for name in self._asked)

    def trial(
        self,
        evaluation: Evaluation,
        val_loss: tuple[float, ...],
        val_accuracy: tuple[float, ...],
        seconds: float,
        diverged: bool,
    ) -> Trial:
        """The trial of an evaluation with these curves, one entry an epoch."""
        number, candidate = evaluation.candidate_id, evaluation.candidate
        cost = complexity(candidate.architecture)
        epoch = self._measured.get(number, UNMEASURED)
        met = self._problem.constraints.met(cost, epoch)
        score = self._problem.objective.score(
            val_loss,
            val_accuracy,
            cost,
            self._largest,
            self._problem.data.resolution,
            epoch,
        )
        value = _number(score)
        if math.isnan(value) or value == -math.inf:
            name = type(self._problem.objective).__name__
            raise InputError(
                f"{name}.score gave {score!r} for candidate {number}; a score is a "
                "number, lower for better, and infinity for what is of no use"
            )
        return Trial(
            candidate_id=number,
            candidate=candidate,
            rung=evaluation.rung,
            epochs=evaluation.stop,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            complexity=cost,
            score=value,
            seconds=seconds,
            status="diverged" if diverged else "done" if met else "infeasible",
            schedule_epochs=self._problem.strategy.epochs,
            epoch_cost=epoch,
        )

    def agrees(self, evaluation: Evaluation, stored: Trial) -> bool:
        """Whether this search says the same of a trial that an earlier run stored."""
        if any(getattr(stored.epoch_cost, name) is None for name in self._asked):
            return False
        diverged = stored.status == "diverged"
        own = self.trial(
            evaluation, stored.val_loss, stored.val_accuracy, stored.seconds, diverged
        )
        # Another machine's logarithm may differ in the last digit.
        same_score = math.isclose(own.score, stored.score, rel_tol=1e-9, abs_tol=1e-12)
        return same_score and own.status == stored.status

    def again(self, evaluation: Evaluation, prior: Trial) -> Trial:
        """The trial that another search made of this candidate, scored by this one.

        Measures the candidate if asked to and the other search did not. As `measure`.
        """
        self.remember(
            [dataclasses.replace(prior, candidate_id=evaluation.candidate_id)]
        )
        self.measure([evaluation])
        return self.trial(
            evaluation,
            prior.val_loss,
            prior.val_accuracy,
            prior.seconds,
            prior.status == "diverged",
        )


def _number(score: object) -> float:
    """A number of Python's, NumPy's or JAX's; NaN for what is none."""
    if isinstance(score, str | bytes):
        return math.nan
    try:
        return float(score)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return math.nan


def _check(problem: Problem) -> Architecture:
    """The space's largest network, once objective, space and data fit together."""
    space, data, objective, *_ = problem
    goals.check(data.goal, data.outputs, data.train.y)
    objective.check(data.goal)
    (middle,) = space.candidates(np.full((1, len(space.dimensions)), 0.5))
    if not isinstance(middle, Candidate):
        raise InputError(
            f"the space builds a {type(middle).__name__}, and a search trains a "
            "Candidate(architecture, Hyperparameters(...)); let the space's function "
            "return one"
        )
    if problem.constraints.known and not isinstance(space, Limited):
        raise InputError(
            "constraints on parameters and FLOPs limit the space: pass "
            "constraints.limited(space) as the space, to the strategy too"
        )
    largest = space.largest()
    check_sizes("the space's largest network", largest, data)
    return largest
