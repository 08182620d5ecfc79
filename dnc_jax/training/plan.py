"""Which networks share a compiled program, and in what shape they run in it.

Dense MLPs may run padded, as lanes of one program; any other network runs as it is
(`Exact`), beside others of its structure only on an accelerator.

On a CPU three costs compete. A program takes more than a second to compile, so few
shapes are good. Networks of one program are padded to common widths, so many shapes
are good. And a step has a fixed cost, which networks side by side share, until
together they outgrow the cache. The plan starts with a program for each network and
merges greedily while that saves time.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from dnc_jax.networks import CNN, MLP, Architecture, network

WIDTH_STEP = 16  # one AVX-512 register of float32: narrower padding saves nothing
LANES = (1, 2, 4, 8)


class Shape(NamedTuple):
    """What a compiled program is specialised to.

    Attributes:
      lanes: networks side by side.
      hidden: padded nodes of each hidden layer.
      batch_size: rows a step, shared by all lanes.
    """

    lanes: int
    hidden: tuple[int, ...]
    batch_size: int

    def __str__(self) -> str:
        hidden = "-".join(map(str, self.hidden)) or "no hidden layer"
        return f"{self.lanes} x {hidden}, batch {self.batch_size}"


class Exact(NamedTuple):
    """What the program of unpadded networks is specialised to.

    Attributes:
      lanes: networks side by side.
      network: their structure, as `network.structure` gives it.
      batch_size: rows a step, shared by all lanes.
    """

    lanes: int
    network: Architecture
    batch_size: int

    def __str__(self) -> str:
        return f"{self.lanes} x {self.network}, batch {self.batch_size}"


class Group(NamedTuple):
    """Networks, by their position in the list given to `make`, and their program.

    With more members than lanes the program runs several times, once for each of
    `chunks(group)`.
    """

    shape: Shape | Exact
    members: tuple[int, ...]


class CostModel(NamedTuple):
    """Seconds that one core needs; only their ratios matter to a plan.

    The defaults were fitted on a 2-core AVX-512 CPU (jax 0.10.2) with a program on
    each core, over networks of 50 k to 640 k parameters and batches of 32 to 512;
    `machine.cost_model` has those of the machine at hand.

    Attributes:
      compile_seconds: of one program.
      step_seconds: fixed cost of a step.
      flops_per_second: of the matrix products.
      bytes_per_second: of the optimiser, which reads and writes 10 numbers for each
        parameter, while a program's parameters and moments fit the core's cache; and
        of gathering and normalising the batch, which all lanes share.
      slow_bytes_per_second: of what does not fit.
      cache_bytes: of a core.
    """

    compile_seconds: float = 1.6
    step_seconds: float = 1.2e-4
    flops_per_second: float = 1.4e11
    bytes_per_second: float = 2.5e10
    slow_bytes_per_second: float = 1.8e10
    cache_bytes: float = 4e6


class Workload(NamedTuple):
    """What every network of a rung has in common, and what it runs on.

    Attributes:
      inputs, outputs: of each network.
      rows, epochs: to train on.
      accelerator: whether it fills only with many networks at a time.
      memory_bytes: that one program may use.
    """

    inputs: int
    outputs: int
    rows: int
    epochs: int
    accelerator: bool = False
    memory_bytes: float = math.inf


def engine(shape: Shape | Exact) -> str:
    """How networks run in this shape: "bucketed", "vmapped" or "exact"."""
    if isinstance(shape, Shape):
        return "bucketed"
    return "vmapped" if shape.lanes > 1 else "exact"


def sizes(shape: Shape | Exact) -> str:
    """What the program computes, for people."""
    if isinstance(shape, Exact):
        return str(shape.network)
    return "-".join(map(str, shape.hidden)) or "linear"


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


def run_seconds(
    shape: Shape | Exact, members: int, work: Workload, cost: CostModel
) -> float:
    """Predicted seconds of all epochs of `work` for so many networks in `shape`."""
    steps, flops, moved, moved_slowly = demand(shape, work, cost.cache_bytes)
    step = (
        steps * cost.step_seconds
        + flops / cost.flops_per_second
        + moved / cost.bytes_per_second
        + moved_slowly / cost.slow_bytes_per_second
    )
    passes = -(-members // shape.lanes)
    return passes * work.epochs * max(1, work.rows // shape.batch_size) * step


def demand(
    shape: Shape | Exact, work: Workload, cache_bytes: float
) -> tuple[float, float, float, float]:
    """What a step takes of each rate of a cost model.

    Returns:
      The step itself, its FLOPs, the bytes that it moves within the core's cache, and
      those beyond it.
    """
    parameters = shape.lanes * _parameters(shape, work)
    multiply_adds = parameters
    if isinstance(shape, Exact):
        multiply_adds = shape.lanes * _multiply_adds(shape.network)
    moved = 40.0 * parameters
    state = 16.0 * parameters  # parameters, gradient and both moments
    missed = max(0.0, 1 - cache_bytes / state)
    return (
        1.0,
        6.0 * multiply_adds * shape.batch_size,
        moved * (1 - missed) + 24.0 * shape.batch_size * work.inputs,
        moved * missed,
    )


def total_seconds(
    groups: Iterable[Group],
    compiled: Iterable[Shape | Exact],
    work: Workload,
    cost: CostModel,
) -> float:
    """Predicted core-seconds of a plan, compiling included."""
    ready, total = set(compiled), 0.0
    for group in groups:
        if group.shape not in ready:
            ready.add(group.shape)
            total += cost.compile_seconds
        total += run_seconds(group.shape, len(group.members), work, cost)
    return total


def make(
    networks: Sequence[tuple[Architecture, int]],
    work: Workload,
    compiled: Iterable[Shape | Exact] = (),
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
    ready = sorted({shape for shape in compiled if isinstance(shape, Shape)})
    needs: dict[int, Shape] = {}
    classes: dict[tuple[int, int], list[int]] = {}
    alike: dict[tuple[Architecture, int], list[int]] = {}
    for index, (architecture, batch_size) in enumerate(networks):
        if isinstance(architecture, MLP) and not architecture.sparsity:
            hidden = tuple(map(padded, architecture.hidden))
            needs[index] = Shape(1, hidden, batch_size)
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
        Group(_exact(len(members), *structure, work), tuple(members))
        for structure, members in alike.items()
    ]

    def longest_first(group: Group) -> tuple[float, tuple[int, ...]]:
        shape, members = group
        return -run_seconds(shape, len(members), work, cost), members

    return sorted(groups, key=longest_first)


def _exact(
    members: int, structure: Architecture, batch_size: int, work: Workload
) -> Exact:
    """The program for so many networks of one structure.

    Those with sparse junctions run one by one: their patterns differ in shape.
    """
    lanes = 1
    while (
        work.accelerator
        and not structure.sparsity
        and lanes < members
        and memory_bytes(Exact(2 * lanes, structure, batch_size), work)
        <= work.memory_bytes
    ):
        lanes *= 2
    return Exact(lanes, structure, batch_size)


def memory_bytes(shape: Shape | Exact, work: Workload) -> float:
    """Predicted bytes that a program of this shape needs, besides the data.

    Parameters, gradients, both moments and their next values; and for each example of
    a batch, what the backward pass needs of every layer, twice.
    """
    if isinstance(shape, Shape):
        numbers = work.inputs + sum(shape.hidden) + work.outputs
    elif isinstance(shape.network, CNN):
        pixels = [height * width for height, width in shape.network.grids]
        channels = shape.network.channels
        numbers = 2 * sum(p * c for p, c in zip(pixels, channels, strict=True))
    else:
        numbers = sum(shape.network.sizes)
    state = 7 * _parameters(shape, work)
    return 4.0 * shape.lanes * (state + 2 * shape.batch_size * numbers)


def padding_waste(
    networks: Sequence[tuple[Architecture, int]],
    groups: Sequence[Group],
    work: Workload,
) -> float:
    """Multiply-adds executed over those that the true networks need, >= 1."""
    useful = sum(
        _multiply_adds(architecture) * (work.rows // batch * batch)
        for architecture, batch in networks
    )
    executed = sum(
        len(chunks(group))
        * group.shape.lanes
        * (
            _weights(group.shape, work)
            if isinstance(group.shape, Shape)
            else _multiply_adds(group.shape.network)
        )
        * (work.rows // group.shape.batch_size * group.shape.batch_size)
        for group in groups
    )
    return executed / useful


def _weights(shape: Shape, work: Workload) -> int:
    sizes = (work.inputs, *shape.hidden, work.outputs)
    return sum(a * b for a, b in pairwise(sizes))


def _multiply_adds(architecture: Architecture) -> int:
    """Of one example."""
    times = [1] * len(architecture.junctions)
    if isinstance(architecture, CNN):
        times = [*(height * width for height, width in architecture.grids), 1]
    return sum(t * edges for t, edges in zip(times, architecture.edges, strict=True))


def _parameters(shape: Shape | Exact, work: Workload) -> int:
    if isinstance(shape, Exact):
        return sum(shape.network.edges) + sum(shape.network.sizes[1:])
    return _weights(shape, work) + sum(shape.hidden) + work.outputs


def _best_program(
    members: Sequence[int],
    needs: Mapping[int, Shape],
    ready: Sequence[Shape],
    work: Workload,
    cost: CostModel,
) -> tuple[float, Shape]:
    """Seconds and shape of the best program for these networks, new or compiled."""
    hidden = tuple(map(max, zip(*(needs[i].hidden for i in members), strict=True)))
    batch_size = needs[members[0]].batch_size
    new = [Shape(lanes, hidden, batch_size) for lanes in LANES]
    choices = [
        (cost.compile_seconds + run_seconds(shape, len(members), work, cost), shape)
        for shape in new
        if shape.lanes < 2 * len(members)
        and (shape.lanes == 1 or memory_bytes(shape, work) <= work.memory_bytes)
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
    needs: Mapping[int, Shape],
    ready: Sequence[Shape],
    work: Workload,
    cost: CostModel,
) -> list[Group]:
    """Joins the pair that saves most, again and again, until none saves anything."""
    programs: dict[tuple[int, ...], tuple[float, Shape]] = {}
    savings: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}

    def price(group: tuple[int, ...]) -> tuple[float, Shape]:
        if group not in programs:
            programs[group] = _best_program(group, needs, ready, work, cost)
        return programs[group]

    def consider(one: tuple[int, ...], other: tuple[int, ...]) -> None:
        joint = price(tuple(sorted(one + other)))
        saving = price(one)[0] + price(other)[0] - joint[0]
        if saving > 0:
            savings[min(one, other), max(one, other)] = saving

    groups: list[tuple[int, ...]] = [(index,) for index in members]
    for position, one in enumerate(groups):
        for other in groups[position + 1 :]:
            consider(one, other)
    while savings:
        one, other = max(savings, key=lambda pair: (savings[pair], pair))
        groups = [group for group in groups if group not in (one, other)]
        savings = {
            pair: saving
            for pair, saving in savings.items()
            if one not in pair and other not in pair
        }
        merged = tuple(sorted(one + other))
        for group in groups:
            consider(merged, group)
        groups.append(merged)
    return [Group(price(group)[1], group) for group in groups]
