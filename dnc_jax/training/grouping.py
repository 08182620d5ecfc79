"""Which jobs of a rung train together, and in which order their programs run."""

import itertools
import statistics
from collections.abc import Callable, Sequence

from dnc_jax.training import costs, plan, shapes
from dnc_jax.training.jobs import Job, Progress
from dnc_jax.training.programs import Programs

Chunk = tuple[int, ...]  # positions of jobs that train on one device together


# Weight of the epochs after this rung's in its plan. A program compiled now serves
# them too, but the few networks that come so far could also get their own then: over
# a halving of 64 MLPs on MNIST, with three cost models, plans take the least predicted
# time between 0.25 and 0.5.
_LATER = 0.25


def plan_groups(jobs: Sequence[Job], programs: Programs) -> list[plan.Group]:
    """The plan of these jobs, the networks that train longest first.

    Jobs of one group share `start` and `stop`. The shapes count as compiled in later
    plans. Whether they really are does not matter to a plan, so that a search that goes
    on after an interruption groups its networks, and rounds, as if there had been none.
    """
    by_span = plan_spans(jobs, programs.workload, programs.planned, programs.cost)
    return [group for _, groups in by_span for group in groups]


def plan_spans(
    jobs: Sequence[Job],
    workload: Callable[[float], costs.Workload],
    planned: set[shapes.Shape],
    cost: costs.CostModel,
) -> list[tuple[int, list[plan.Group]]]:
    """The groups of networks with one `start` and `stop`, and the epochs between them.

    Args:
      jobs: of one rung.
      workload: of so many epochs.
      planned: shapes that count as compiled; gains those of the groups.
      cost: constants of the machine.

    Returns:
      Longest first. Members of groups are positions in `jobs`.
    """
    spans = sorted({(one.stop - one.start, one.start) for one in jobs}, reverse=True)
    result = []
    for epochs, start in spans:
        positions = [
            i
            for i, one in enumerate(jobs)
            if (one.stop - one.start, one.start) == (epochs, start)
        ]
        work = workload(
            planned_epochs(epochs, [jobs[i].expected_epochs for i in positions])
        )
        networks = [
            (
                jobs[i].architecture,
                min(jobs[i].hyperparameters.batch_size, work.rows),
            )
            for i in positions
        ]
        groups = plan.make(networks, work, planned, cost)
        planned.update(group.shape for group in groups)
        here = [
            group._replace(members=tuple(positions[i] for i in group.members))
            for group in groups
        ]
        result.append((epochs, here))
    return result


def planned_epochs(epochs: int, expected_epochs: Sequence[float]) -> float:
    """Epochs that a plan counts with: a rung's, and some of those that may follow.

    Args:
      epochs: of the rung.
      expected_epochs: of its networks, see `Job`.
    """
    expected = statistics.fmean(expected_epochs)
    return epochs + _LATER * max(0.0, expected - epochs)


def rounds(group: plan.Group, jobs: Sequence[Job], devices: int) -> list[list[Chunk]]:
    """The chunks of a group in the order of their runs, one for each device.

    Those of one round are equally far.
    """

    def epochs(members: Chunk) -> int:
        progress = common_progress([jobs[i] for i in members])
        return len(progress[0].val_loss) if progress else 0

    chunks = (
        sorted(plan.chunks(group), key=epochs, reverse=True)
        if devices > 1
        else plan.chunks(group)
    )
    rounds = []
    for _, equal in itertools.groupby(chunks, epochs):
        together = list(equal)
        rounds += [
            together[at : at + devices] for at in range(0, len(together), devices)
        ]
    return rounds


def common_progress(jobs: Sequence[Job]) -> list[Progress]:
    """Where these jobs go on together; empty where they start anew."""
    progress = [
        job.progress for job in jobs if job.progress and job.progress.start == job.start
    ]
    equal = len({len(one.val_loss) for one in progress}) == 1
    return progress if equal and len(progress) == len(jobs) else []
