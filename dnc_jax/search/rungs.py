"""The rungs of a search: trained chunk by chunk, or read back from the store."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax

from dnc_jax.errors import InputError, check_whole
from dnc_jax.footprint import Meter, training_work
from dnc_jax.search.chunks import Chunks
from dnc_jax.search.ledger import Ledger
from dnc_jax.search.problem import Problem, keys
from dnc_jax.search.scoring import Scorer
from dnc_jax.search.strategies import Evaluation
from dnc_jax.search.trials import Store, Trial, each, from_row, to_row
from dnc_jax.training import grouping, population, processes, resources
from dnc_jax.training.costs import CostModel
from dnc_jax.training.data import check_sizes
from dnc_jax.training.jobs import Job, Outcome, Progress, Snapshot
from dnc_jax.training.programs import Programs
from dnc_jax.typing import FilePath


def shared(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that process 0 has read, in every process."""
    rows = processes.from_first([to_row(trial) for trial in trials])
    return [from_row(row) for row in rows]


def refuse_other_rows(store: Store, name: str, digest: str) -> None:
    """Whether the store's trials were made with this data; of a new one, they will be.

    Args:
      store: of the search.
      name: of the data.
      digest: as `Dataset.digest` gives it.

    Raises:
      InputError: they were not.
    """
    if store.first("rows", digest) != digest:
        raise InputError(
            f"the rows of {name}, or their goal, are not those that the store's trials "
            "were made with; use a new store, or a new work folder"
        )


class _Before(NamedTuple):
    """The rung before the one at hand.

    Attributes:
      trials: by candidate.
      snapshots: of the candidates that it trained and that may go on.
      reused: candidates whose trials another search had made.
      resumed: its trials came from the store; what is left of its networks lies in
        the folder.
    """

    trials: Mapping[int, Trial] = MappingProxyType({})
    snapshots: Mapping[int, Snapshot] = MappingProxyType({})
    reused: frozenset[int] = frozenset()
    resumed: bool = True


class Rungs:
    """One rung after another of a search, and what it takes to go on after any of them.

    Args:
      problem: what is searched.
      store: holds the trials of earlier runs, and receives new ones; may be None.
      folder: of networks under way; None keeps none.
      meter: of the search's energy; None if nobody counts, or process 0 counts.
      prior: trials of another search over the same data. A candidate that it has
        trained as long, by the same schedule, is scored anew and not trained again.
      cost_model: of plans, unless the store holds another: plans decide how sums
        are rounded.
      on_epoch, should_stop: as in `population.train`.

    Attributes:
      candidate_epochs: trained so far, summed over candidates.
      flops: of the trials trained so far, of the true networks.
      anew: nothing comes from the store or the folder.
      programs: in which networks are trained, with the data on the device.
      ledger: who took the energy.

    Raises:
      InputError: as `Scorer`, or the store is of other rows.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        store: Store | None,
        folder: FilePath | None,
        meter: Meter | None,
        prior: Sequence[Trial] = (),
        cost_model: CostModel | None = None,
        on_epoch: Callable[[Sequence[float]], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._problem, self._scorer = problem, Scorer(problem, meter, store)
        self._keys = keys(problem.seed)
        self._epochs = problem.strategy.epochs
        data = problem.data
        # Of a search that keeps nothing, nobody asks whose it was.
        kept = store or folder or jax.process_count() > 1
        digest = data.digest() if kept else ""
        constants = (cost_model or resources.cost_model())._asdict()
        if store:
            constants = store.first("cost_model", constants)
            refuse_other_rows(store, data.name, digest)
            store.first("metric", data.metric)
        cost_model = CostModel(**processes.from_first(constants))
        self.programs = Programs(data, self._keys.order, processes.mesh(), cost_model)
        self.ledger = Ledger(meter, self.programs)
        self._search = f"{problem.seed} {self._epochs} {digest}"
        self._store, self._chunks = store, Chunks(folder)
        known = shared(store.trials() if store else [])
        self._known = {(t.candidate_id, t.rung): t for t in known}
        self.anew = not known and not self._chunks.begun
        self._scorer.remember(known)
        self._prior = {
            (t.candidate, t.epochs, t.schedule_epochs): t for t in each(prior)
        }
        self._on_epoch, self._should_stop = on_epoch, should_stop
        self._number = 0  # of rungs so far, over all brackets
        self._asked: set[int] = set()  # candidates so far
        self._before = _Before()
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
          InputError: the store cannot be written, or is of another search; or the
            strategy asks for what cannot be trained.
          OSError: the folder cannot be written.
        """
        before = self._before.trials
        gone = self._asked - set(before)
        _refuse_impossible(evaluations, before, gone, self._problem)
        self._asked |= {e.candidate_id for e in evaluations}
        self._number += 1
        reused = self._reuse(evaluations)
        fresh = [e for e in evaluations if e.candidate_id not in reused]
        known = [self._stored(e) for e in fresh]
        resumed = all(known)
        if resumed:
            # They are planned nevertheless, so that the next rungs are as they were.
            anew = self._before.reused  # without a network to go on from
            starts = [0 if e.candidate_id in anew else e.start for e in fresh]
            jobs = list(map(self._job, fresh, starts))
            grouping.plan_groups(jobs, self.programs)
            done, snapshots = [trial for trial in known if trial], {}
        else:
            done, snapshots = self._train(fresh)
        trials = {trial.candidate_id: trial for trial in done} | reused
        self._before = _Before(trials, snapshots, frozenset(reused), resumed)
        order = [e.candidate_id for e in evaluations]
        return [trials[i] for i in order if i in trials], resumed

    def _stored(self, evaluation: Evaluation) -> Trial | None:
        """The trial that the store held of this evaluation when the search began."""
        trial = self._known.get((evaluation.candidate_id, evaluation.rung))
        if trial and trial.candidate != evaluation.candidate:
            raise InputError(
                f"the store's candidate {evaluation.candidate_id} is {trial.candidate},"
                f" and this search asks for {evaluation.candidate}: it was begun with "
                "other arguments, or by another version; use a new store"
            )
        asked = (evaluation.stop, self._epochs)
        if trial and (trial.epochs, trial.schedule_epochs) != asked:
            raise InputError(
                f"the store's candidate {evaluation.candidate_id} was trained for "
                f"{trial.epochs} of {trial.schedule_epochs} epochs, and this search "
                f"asks for {asked[0]} of {asked[1]}; use a new store"
            )
        if trial and not self._scorer.agrees(evaluation, trial):
            raise InputError(
                f"the store's candidate {evaluation.candidate_id} was {trial.status} "
                f"with score {trial.score:g}, which this search does not find: "
                "objective or constraints are others; use a new store, or pass the old "
                "one's trials as prior"
            )
        return trial

    def _reuse(self, evaluations: Sequence[Evaluation]) -> dict[int, Trial]:
        """Trials of these candidates that a prior search has made, by candidate.

        What this search has stored itself goes before.
        """
        reused, scored = {}, []
        for e in evaluations:
            prior = self._prior.get((e.candidate, e.stop, self._epochs))
            if not prior:
                continue
            trial = self._stored(e)
            if not trial:
                trial = self._scorer.again(e, prior)
                scored.append(trial)
            reused[e.candidate_id] = trial
        if self._store:
            self._store.add(scored)
        return reused

    def keep(self, promoted: set[int]) -> None:
        """Forgets the networks of this rung but for those, and all of those before."""
        before = self._before
        kept = {i: s for i, s in before.snapshots.items() if i in promoted}
        self._before = before._replace(snapshots=kept)
        if not before.resumed:
            self._chunks.forget(self._number)

    def _train(
        self, evaluations: Sequence[Evaluation]
    ) -> tuple[list[Trial], dict[int, Snapshot]]:
        """Trials and networks of those that ended before the search was stopped."""
        if not self._scorer.measure(evaluations, self._should_stop):
            return [], {}
        named = self._named(evaluations)
        jobs = self._jobs(evaluations, named)
        trials: dict[int, Trial] = {}
        snapshots: dict[int, Snapshot] = {}

        def save(members: Sequence[int], progress: Sequence[Progress]) -> None:
            ids = [evaluations[i].candidate_id for i in members]
            self._chunks.save(self._number, {i: named[i] for i in ids}, progress)

        def on_epoch(accuracies: Sequence[float]) -> None:
            self._trained.append(len(accuracies))
            self._on_epoch(accuracies)

        def on_chunk(members: Sequence[int], outcomes: Sequence[Outcome]) -> None:
            for i, outcome in zip(members, outcomes, strict=True):
                known = self._stored(evaluations[i])
                if not known or outcome.epochs:
                    known = self._trial(evaluations[i], outcome, jobs[i].start > 0)
                trials[i] = known
                if outcome.snapshot:
                    snapshots[evaluations[i].candidate_id] = outcome.snapshot
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
        return [trials[i] for i in sorted(trials)], snapshots

    def _jobs(
        self, evaluations: Sequence[Evaluation], named: Mapping[int, str]
    ) -> list[Job]:
        """What is left to train, from the rung before or from where a run stopped."""
        snapshots = self._before.snapshots
        if self._before.resumed:
            kept = self._chunks.load(self._number - 1, named)
            snapshots = {i: progress.snapshot for i, progress in kept.items()}
        progress = self._chunks.load(self._number, named)
        jobs = []
        for e in evaluations:
            snapshot = snapshots.get(e.candidate_id)
            # A network whose snapshot was lost starts from scratch.
            start = e.start if snapshot else 0
            jobs.append(self._job(e, start, snapshot, progress.get(e.candidate_id)))
        return jobs

    def _named(self, evaluations: Sequence[Evaluation]) -> dict[int, str]:
        """Candidates by number, and what tells each from all of other searches."""
        return {e.candidate_id: f"{e.candidate!r} {self._search}" for e in evaluations}

    def _job(
        self,
        evaluation: Evaluation,
        start: int,
        snapshot: Snapshot | None = None,
        progress: Progress | None = None,
    ) -> Job:
        return Job(
            architecture=evaluation.candidate.architecture,
            hyperparameters=evaluation.candidate.hyperparameters,
            key=jax.random.fold_in(self._keys.candidates, evaluation.candidate_id),
            start=start,
            stop=evaluation.stop,
            total=self._epochs,
            snapshot=snapshot,
            progress=progress,
            expected_epochs=evaluation.expected_epochs,
        )

    def _trial(self, evaluation: Evaluation, outcome: Outcome, promoted: bool) -> Trial:
        """The trial of an outcome, whose network was `promoted` or from scratch."""
        val_loss, val_accuracy = outcome.val_loss, outcome.val_accuracy
        if promoted:
            past = self._before.trials[evaluation.candidate_id]
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
            *self._problem.data.rows,
            epochs=outcome.epochs,
        ).flops
        return trial


def _refuse_impossible(
    evaluations: Sequence[Evaluation],
    before: Mapping[int, Trial],
    gone: Collection[int],
    problem: Problem,
) -> None:
    """A strategy or a space of one's own may ask for anything.

    Args:
      evaluations: of the rung to come.
      before: trials of the rung before, by candidate.
      gone: candidates of earlier rungs that did not come to the one before.
      problem: for whose space and data networks are.
    """
    for e in evaluations:
        check_whole(
            0, candidate_id=e.candidate_id, rung=e.rung, start=e.start, stop=e.stop
        )
    numbers = {e.candidate_id for e in evaluations}
    if len(numbers) < len(evaluations):
        raise InputError(
            f"the strategy asks for {len(evaluations)} evaluations of {len(numbers)} "
            "candidates; in one rung each candidate_id may come once"
        )
    for e in evaluations:
        if not 0 <= e.start < e.stop <= problem.strategy.epochs:
            raise InputError(
                f"candidate {e.candidate_id}: epochs {e.start} to {e.stop}; an "
                "evaluation needs 0 <= start < stop <= epochs of the strategy, "
                f"{problem.strategy.epochs}"
            )
        past = before.get(e.candidate_id)
        # A bracket of Hyperband may begin with any rung.
        epochs, rung = (past.epochs, past.rung + 1) if past else (0, e.rung)
        if (e.start, e.rung) != (epochs, rung) or e.candidate_id in gone:
            raise InputError(
                f"the strategy asks for candidate {e.candidate_id} in rung {e.rung} "
                f"from epoch {e.start} on: candidates of the rung before go on to the "
                "next from the epoch they have reached, others start from epoch 0 with "
                "a candidate_id that is new"
            )
        if past and past.candidate != e.candidate:
            raise InputError(
                f"the strategy asks for candidate {e.candidate_id} as {e.candidate}, "
                f"which was {past.candidate} in the rung before; another network needs "
                "a candidate_id that is new"
            )
        network = e.candidate.architecture
        check_sizes(f"candidate {e.candidate_id}, {network},", network, problem.data)
        if not problem.space.allows(e.candidate):
            raise InputError(
                f"the strategy asks for candidate {e.candidate_id}, {network}, which "
                "the space does not allow; make the strategy from the space that is "
                "searched"
            )
