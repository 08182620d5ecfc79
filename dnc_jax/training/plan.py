"""Which networks share a compiled program, and in what shape they run in it.

Dense MLPs may run padded, as lanes of one program, if their activation has a form for
it; any other network runs as it is (`Exact`), beside others of its structure only on an
accelerator, where its convolutions take the form that is predicted to be faster.

On a CPU three costs compete. A program takes more than a second to compile, so few
shapes are good. Networks of one program are padded to common widths, so many shapes
are good. And a step has a fixed cost, which networks side by side share, until
together they outgrow the cache. The plan starts with a program for each network and
merges greedily while that saves time, then takes lanes apart again where a core would
stand idle.
"""

import heapq
import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dnc_jax.networks import CNN, MLP, Architecture, network
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.networks.convolution import Form
from dnc_jax.training.costs import (
    CostModel,
    Workload,
    compile_seconds,
    needed_bytes,
    run_seconds,
)
from dnc_jax.training.shapes import Exact, Padded, Shape

WIDTH_STEP = 16  # one AVX-512 register of float32: narrower padding saves nothing
LANES = (1, 2, 4, 8)
ACCELERATOR_LANES = tuple(2**n for n in range(9))  # which fill it, memory allowing
FORMS: tuple[Form | None, ...] = ("grouped", "im2col")  # of an accelerator


class Group(NamedTuple):
    """Networks, by their position in the list given to `make`, and their program.

    With more members than lanes the program runs several times, once for each of
    `chunks(group)`.
    """

    shape: Shape
    members: tuple[int, ...]


def padded(width: int) -> int:
    """The width rounded up to whole vector registers."""
    return -(-width // WIDTH_STEP) * WIDTH_STEP


def chunks(group: Group) -> list[tuple[int, ...]]:
    """The members of each run of the group's program."""
    lanes = group.shape.lanes
    return [
        group.members[start : start + lanes]
        for start in range(0, len(group.members), lanes)
    ]


def _fits_lanes(architecture: MLP) -> bool:
    """Whether it may run as a lane."""
    form = ACTIVATIONS[architecture.activation].lane_form
    return not architecture.sparsity and form is not None


def total_seconds(
    groups: Iterable[Group],
    compiled: Iterable[Shape],
    work: Workload,
    cost: CostModel,
) -> float:
    """Predicted core-seconds of a plan, compiling included."""
    ready, total = set(compiled), 0.0
    for group in groups:
        if group.shape not in ready:
            ready.add(group.shape)
            total += compile_seconds(group.shape, cost)
        total += run_seconds(group.shape, len(group.members), work, cost)
    return total


def wall_seconds(
    groups: Iterable[Group],
    compiled: Iterable[Shape],
    work: Workload,
    cost: CostModel,
) -> float:
    """Predicted seconds of a plan on all workers.

    Each program runs once, the longest first, then what is left of their networks; a
    worker that needs a program waits until another has compiled it.
    """
    ready = dict.fromkeys(compiled, 0.0)
    heads, tails = [], []
    for group in groups:
        seconds = run_seconds(group.shape, 1, work, cost)
        heads.append((seconds, group.shape))
        rounds = -(-len(chunks(group)) // work.devices)
        tails += [(seconds, group.shape)] * (rounds - 1)
    alone = work.accelerator or work.devices > 1
    workers = [0.0] * (1 if alone else cost.workers)
    for part in (heads, tails):
        part.sort(key=operator.itemgetter(0), reverse=True)
    for seconds, shape in heads + tails:
        begin = max(workers[0], ready.get(shape, 0.0))
        if shape not in ready:
            begin += compile_seconds(shape, cost)
            ready[shape] = begin
        heapq.heapreplace(workers, begin + seconds)
    return max(workers)


def make(
    networks: Sequence[tuple[Architecture, int]],
    work: Workload,
    compiled: Iterable[Shape] = (),
    cost: CostModel | None = None,
) -> list[Group]:
    """Groups `networks` so that compiling and running take the least time.

    Deterministic: the same arguments give the same groups, in the same order, the
    longest first so that the last to run are short.

    Args:
      networks: architectures with their batch sizes.
      work: what the rung asks of each.
      compiled: shapes that need no compiling any more.
      cost: constants of the machine.

    Returns:
      Groups whose members partition `range(len(networks))`.
    """
    cost = cost or CostModel()
    compiled = set(compiled)
    ready = sorted(shape for shape in compiled if isinstance(shape, Padded))
    needs: dict[int, Padded] = {}
    classes: dict[tuple[int, int], list[int]] = {}
    alike: dict[tuple[Architecture, int], list[int]] = {}
    for index, (architecture, batch_size) in enumerate(networks):
        if isinstance(architecture, MLP) and _fits_lanes(architecture):
            hidden = tuple(map(padded, architecture.hidden))
            needs[index] = Padded(1, hidden, batch_size)
            classes.setdefault((len(hidden), batch_size), []).append(index)
        else:
            structure = network.structure(architecture)
            alike.setdefault((structure, batch_size), []).append(index)
    groups = [
        group
        for members in classes.values()
        for group in _merge(members, needs, ready, work, cost)
    ]
    groups += [
        Group(_exact(len(members), *structure, work, cost), tuple(members))
        for structure, members in alike.items()
    ]

    groups = _spread(groups, compiled, work, cost)

    def longest_first(group: Group) -> tuple[float, tuple[int, ...]]:
        shape, members = group
        return -run_seconds(shape, len(members), work, cost), members

    return sorted(groups, key=longest_first)


def _spread(
    groups: Sequence[Group],
    compiled: Iterable[Shape],
    work: Workload,
    cost: CostModel,
) -> list[Group]:
    """Halves the lanes of the longest program while all together end sooner."""
    best, wall = list(groups), wall_seconds(groups, compiled, work, cost)
    while True:
        longest = max(best, key=lambda group: run_seconds(group.shape, 1, work, cost))
        if longest.shape.lanes == 1:
            return best
        half = longest.shape._replace(lanes=longest.shape.lanes // 2)
        spread = [
            Group(half, group.members) if group is longest else group for group in best
        ]
        seconds = wall_seconds(spread, compiled, work, cost)
        if seconds >= wall:
            return best
        best, wall = spread, seconds


def _exact(
    members: int,
    structure: Architecture,
    batch_size: int,
    work: Workload,
    cost: CostModel,
) -> Exact:
    """The program for so many networks of one structure, the fastest of its forms."""
    chosen = work.accelerator and isinstance(structure, CNN)
    programs = [
        _filled(Exact(1, structure, batch_size, form), members, work)
        for form in (FORMS if chosen else (None,))
    ]

    def price(shape: Exact) -> tuple[bool, float]:
        crowded = needed_bytes(shape, work) > work.memory_bytes
        return crowded, run_seconds(shape, members, work, cost)

    return min(programs, key=price)


def _filled(shape: Exact, members: int, work: Workload) -> Exact:
    """On an accelerator with as many lanes as members fill and its memory holds.

    What a chip loses that few networks leave idle, the cost model does not know.
    Networks with sparse junctions run one by one: their patterns differ in shape.
    """
    while (
        work.accelerator
        and not shape.network.sparsity
        and shape.lanes * work.devices < members
        and needed_bytes(larger := shape._replace(lanes=2 * shape.lanes), work)
        <= work.memory_bytes
    ):
        shape = larger
    return shape


def _best_program(
    members: Sequence[int],
    needs: Mapping[int, Padded],
    ready: Sequence[Padded],
    work: Workload,
    cost: CostModel,
) -> tuple[float, Padded]:
    """Seconds and shape of the best program for these networks, new or compiled."""
    hidden = tuple(map(max, zip(*(needs[i].hidden for i in members), strict=True)))
    batch_size = needs[members[0]].batch_size
    lanes = ACCELERATOR_LANES if work.accelerator else LANES
    new = [Padded(count, hidden, batch_size) for count in lanes]
    choices = [
        (cost.compile_seconds + run_seconds(shape, len(members), work, cost), shape)
        for shape in new
        if shape.lanes == 1
        or (
            shape.lanes * work.devices < 2 * len(members)
            and needed_bytes(shape, work) <= work.memory_bytes
        )
    ]
    choices += [
        (run_seconds(shape, len(members), work, cost), shape)
        for shape in ready
        if shape.batch_size == batch_size
        and len(shape.hidden) == len(hidden)
        and all(a >= b for a, b in zip(shape.hidden, hidden, strict=True))
    ]
    return min(choices)


def _merge(
    members: Sequence[int],
    needs: Mapping[int, Padded],
    ready: Sequence[Padded],
    work: Workload,
    cost: CostModel,
) -> list[Group]:
    """Joins the pair that saves most, again and again, until none saves anything.

    Those that need the same shape are joined to begin with.
    """
    programs: dict[tuple[int, ...], tuple[float, Padded]] = {}
    savings: list[tuple[float, tuple[int, ...], tuple[int, ...]]] = []

    def price(group: tuple[int, ...]) -> tuple[float, Padded]:
        if group not in programs:
            programs[group] = _best_program(group, needs, ready, work, cost)
        return programs[group]

    def consider(one: tuple[int, ...], other: tuple[int, ...]) -> None:
        joint = price(tuple(sorted(one + other)))
        saving = price(one)[0] + price(other)[0] - joint[0]
        if saving > 0:
            heapq.heappush(savings, (-saving, min(one, other), max(one, other)))

    alike: dict[Padded, list[int]] = {}
    for index in members:
        alike.setdefault(needs[index], []).append(index)
    groups = dict.fromkeys(map(tuple, alike.values()))  # an ordered set
    for one, other in itertools.combinations(groups, 2):
        consider(one, other)
    while savings:
        _, one, other = heapq.heappop(savings)
        if one not in groups or other not in groups:
            continue  # joined to another since
        del groups[one], groups[other]
        merged = tuple(sorted(one + other))
        for group in groups:
            consider(merged, group)
        groups[merged] = None
    return [Group(price(group)[1], group) for group in groups]
