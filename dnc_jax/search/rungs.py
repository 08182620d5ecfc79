"""The rungs of a search: trained unit by unit, or read back from the store."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import jax

from dnc_jax.errors import InputError
from dnc_jax.footprint import Meter, training_work
from dnc_jax.search.ledger import Ledger
from dnc_jax.search.scoring import Scorer
from dnc_jax.search.strategies import Evaluation
from dnc_jax.search.trials import Store, Trial, from_row, to_row
from dnc_jax.search.units import Units
from dnc_jax.training import grouping, population, processes
from dnc_jax.training.costs import CostModel
from dnc_jax.training.data import Dataset
from dnc_jax.typing import Key


def keys(seed: int) -> tuple[Key, Key, Key]:
    """Keys of the strategy, of the candidates and of the order of the rows.

    Raises:
      InputError: the seed is out of range; JAX would take it modulo 2**32.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must lie in [0, 2**32), got {seed}")
    strategy, candidates, order = jax.random.split(jax.random.key(seed), 3)
    return strategy, candidates, order


def shared(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that process 0 has read, in every process."""
    rows = processes.from_first([to_row(trial) for trial in trials])
    return [from_row(row) for row in rows]


def _refuse_other_rows(store: Store, name: str, digest: str) -> None:
    if store.first("rows", digest) != digest:
        raise InputError(
            f"the rows of {name} are not those that the store's trials were made "
            "with; use a new store, or a new work folder"
        )


class Rungs:
    """One rung after another of a search, and what it takes to go on after any of them.

    Args:
      scorer: makes trials of what was trained.
      data: of the search.
      seed: its seed.
      epochs: of the last rung: what the learning-rate schedule is spread over.
      store: holds the trials of earlier runs, and receives new ones; may be None.
      folder: of networks under way; None keeps none.
      meter: of the search's energy; None if nobody counts.
      prior: trials of another search over the same data. A candidate that it has
        trained as long, by the same schedule, is scored anew and not trained again.
      cost: constants of plans, unless the store holds others: plans decide how sums
        are rounded.
      on_epoch, should_stop: as in `population.train`.

    Attributes:
      candidate_epochs: trained so far, summed over candidates.
      flops: of the trials trained so far, of the true networks.
      anew: nothing comes from the store or the folder.
      ledger: who took the energy.
    """

    def __init__(
        self,
        scorer: Scorer,
        data: Dataset,
        *,
        seed: int,
        epochs: int,
        store: Store | None,
        folder: pathlib.Path | None,
        meter: Meter | None,
        prior: Sequence[Trial] = (),
        cost: CostModel | None = None,
        on_epoch: Callable[[Sequence[float]], None],
        should_stop: Callable[[], bool],
    ) -> None:
        _, self._key, order_key = keys(seed)
        constants, digest = (cost or CostModel())._asdict(), data.digest()
        if store:
            constants = store.first("cost_model", constants)
            _refuse_other_rows(store, data.name, digest)
        self.programs = population.Programs(
            data,
            order_key,
            processes.mesh(),
            CostModel(**processes.from_first(constants)),
        )
        self._scorer = scorer
        self.ledger = Ledger(meter, self.programs)
        self._rows = data.rows
        self._epochs = epochs
        self._search = f"{seed} {epochs} {digest}"
        self._store, self._units = store, Units(folder)
        known = shared(store.trials() if store else [])
        self._known = {(t.candidate_id, t.rung): t for t in known}
        self.anew = not known and not self._units.begun
        scorer.remember(known)
        self._prior = {(t.candidate, t.epochs, t.schedule_epochs): t for t in prior}
        self._reused: set[int] = set()  # candidates of the rung before
        self._on_epoch, self._should_stop = on_epoch, should_stop
        self._number = 0  # of rungs so far, over all brackets
        self._resumed = True  # the rung before was read back
        self._past: dict[int, Trial] = {}  # of the rung before, by candidate
        self._snapshots: dict[int, population.Snapshot] = {}
        self._trained: list[int] = []  # candidates of each epoch; workers append
        self.flops = 0

    @property
    def candidate_epochs(self) -> int:
        """Epochs trained so far, summed over candidates."""
        return sum(self._trained)

    def run(self, evaluations: Sequence[Evaluation]) -> tuple[list[Trial], bool]:
        """The trials of a rung, and whether none of them needed training.

        Fewer than asked for if the search was told to stop.

        Raises:
          InputError: the store cannot be written, or is of another search.
          OSError: the folder cannot be written.
        """
        self._number += 1
        reused = self._reuse(evaluations)
        fresh = [e for e in evaluations if e.candidate_id not in reused]
        known = [self._known.get((e.candidate_id, e.rung)) for e in fresh]
        for e, trial in zip(fresh, known, strict=True):
            if trial and trial.candidate != e.candidate:
                raise InputError(
                    f"the store's candidate {e.candidate_id} is {trial.candidate}, and "
                    f"this search asks for {e.candidate}: it was begun with other "
                    "arguments, or by another version; use a new store"
                )
        resumed = all(known)
        if resumed:
            # They are planned nevertheless, so that the next rungs are as they were.
            starts = [0 if e.candidate_id in self._reused else e.start for e in fresh]
            jobs = [
                self._job(e, at, None, None)
                for e, at in zip(fresh, starts, strict=True)
            ]
            grouping.plan_groups(jobs, self.programs)
            self._snapshots = {}
            done = [trial for trial in known if trial]
        else:
            done = self._train(fresh)
        self._resumed, self._reused = resumed, set(reused)
        self._past = {trial.candidate_id: trial for trial in done} | reused
        order = [e.candidate_id for e in evaluations]
        return [self._past[i] for i in order if i in self._past], resumed

    def _reuse(self, evaluations: Sequence[Evaluation]) -> dict[int, Trial]:
        """Trials of these candidates that a prior search has made, by candidate."""
        reused = {}
        for e in evaluations:
            prior = self._prior.get((e.candidate, e.stop, self._epochs))
            if prior:
                reused[e.candidate_id] = self._scorer.again(e, prior)
        if self._store and reused:
            self._store.add(reused.values())
        return reused

    def keep(self, promoted: set[int]) -> None:
        """Forgets the networks of this rung but for those, and all of those before."""
        self._snapshots = {i: s for i, s in self._snapshots.items() if i in promoted}
        if not self._resumed:
            self._units.forget(self._number)

    def _train(self, evaluations: Sequence[Evaluation]) -> list[Trial]:
        named = self._named(evaluations)
        if self._resumed:
            before = self._units.load(self._number - 1, named)
            self._snapshots = {i: progress.snapshot for i, progress in before.items()}
        progress = self._units.load(self._number, named)
        jobs = []
        for e in evaluations:
            snapshot = self._snapshots.get(e.candidate_id)
            # A network whose snapshot was lost starts from scratch.
            start = e.start if snapshot else 0
            jobs.append(self._job(e, start, snapshot, progress.get(e.candidate_id)))
        if not self._scorer.measure(evaluations, self._should_stop):
            return []
        trials: dict[int, Trial] = {}
        snapshots: dict[int, population.Snapshot] = {}

        def save(
            members: Sequence[int], progress: Sequence[population.Progress]
        ) -> None:
            ids = [evaluations[i].candidate_id for i in members]
            self._units.save(self._number, {i: named[i] for i in ids}, progress)

        def on_epoch(accuracies: Sequence[float]) -> None:
            self._trained.append(len(accuracies))
            self._on_epoch(accuracies)

        def on_chunk(
            members: Sequence[int], outcomes: Sequence[population.Outcome]
        ) -> None:
            for i, outcome in zip(members, outcomes, strict=True):
                e = evaluations[i]
                known = self._known.get((e.candidate_id, e.rung))
                if not known or outcome.epochs:
                    known = self._trial(e, outcome, jobs[i].start > 0)
                trials[i] = known
                if outcome.snapshot:
                    snapshots[e.candidate_id] = outcome.snapshot
            self.ledger.chunk(members, outcomes)
            if self._store:
                self._store.add(trials[i] for i in members)

        self.ledger.begin()
        population.train(
            jobs,
            self.programs,
            on_epoch=on_epoch,
            should_stop=self._should_stop,
            save=save,
            on_chunk=on_chunk,
        )
        for i, joules in self.ledger.end().items():
            # What an earlier run took for it, nobody knows any more.
            if not jobs[i].progress:
                trials[i] = dataclasses.replace(trials[i], joules=joules)
        if self._store:
            self._store.add(trial for trial in trials.values() if trial.joules)
        self._snapshots = snapshots
        return [trials[i] for i in sorted(trials)]

    def _named(self, evaluations: Sequence[Evaluation]) -> dict[int, str]:
        """Candidates by number, and what tells each from all of other searches."""
        return {e.candidate_id: f"{e.candidate} {self._search}" for e in evaluations}

    def _job(
        self,
        evaluation: Evaluation,
        start: int,
        snapshot: population.Snapshot | None,
        progress: population.Progress | None,
    ) -> population.Job:
        return population.Job(
            architecture=evaluation.candidate.architecture,
            hyperparameters=evaluation.candidate.hyperparameters,
            key=jax.random.fold_in(self._key, evaluation.candidate_id),
            start=start,
            stop=evaluation.stop,
            total=self._epochs,
            snapshot=snapshot,
            progress=progress,
            expected_epochs=evaluation.expected_epochs,
        )

    def _trial(
        self, evaluation: Evaluation, outcome: population.Outcome, promoted: bool
    ) -> Trial:
        """The trial of an outcome, whose network was `promoted` or from scratch."""
        val_loss, val_accuracy = outcome.val_loss, outcome.val_accuracy
        if promoted:
            past = self._past[evaluation.candidate_id]
            val_loss = past.val_loss + val_loss
            val_accuracy = past.val_accuracy + val_accuracy
        trial = self._scorer.trial(
            evaluation,
            val_loss,
            val_accuracy,
            outcome.seconds,
            outcome.diverged,
        )
        self.flops += training_work(
            evaluation.candidate.architecture,
            evaluation.candidate.hyperparameters.batch_size,
            *self._rows,
            epochs=outcome.epochs,
        ).flops
        return trial
