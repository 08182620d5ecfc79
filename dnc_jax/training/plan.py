"""Which networks train in one compiled program, side by side, and in what shape.

On a CPU three costs compete. A program takes about a second to compile, so few
shapes are good. Networks of one program are padded to common widths, so many shapes
are good. And a step has a fixed cost, which networks side by side share. The plan
starts with a program for each network and merges greedily while that saves time.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from dnc_jax.networks import MLP

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


class Group(NamedTuple):
    """Networks, by their position in the list given to `make`, and their program."""

    shape: Shape
    members: tuple[int, ...]


class CostModel(NamedTuple):
    """Seconds that one core needs; only their ratios matter to a plan.

    The defaults were fitted to four networks of 120 k to 640 k parameters on a
    2-core AVX-512 CPU (jax 0.10.2): step times of 0.5, 1.4, 1.8 and 4.1 ms are
    reproduced within 5 %.

    Attributes:
      compile_seconds: of one program, two of them being compiled at a time.
      step_seconds: fixed cost of a step.
      flops_per_second: of the matrix products.
      bytes_per_second: of the optimiser, which reads and writes 8 numbers for each
        parameter.
      lane_bytes: limit of a group's parameters and moments; above it lanes push
        one another out of the cache.
    """

    compile_seconds: float = 1.8
    step_seconds: float = 1.2e-4
    flops_per_second: float = 1.6e11
    bytes_per_second: float = 2.2e10
    lane_bytes: float = 32e6


class Workload(NamedTuple):
    """What every network of a rung has in common."""

    inputs: int
    outputs: int
    rows: int
    epochs: int


def padded(width: int) -> int:
    """The width rounded up to whole vector registers."""
    return -(-width // WIDTH_STEP) * WIDTH_STEP


def run_seconds(shape: Shape, work: Workload, cost: CostModel) -> float:
    """Predicted seconds of a shape's program for all epochs of `work`."""
    parameters = _parameters(shape, work)
    flops = 6.0 * parameters * shape.batch_size
    step = (
        cost.step_seconds
        + flops / cost.flops_per_second
        + 32.0 * parameters / cost.bytes_per_second
    )
    return work.epochs * max(1, work.rows // shape.batch_size) * step


def make(
    networks: Sequence[tuple[MLP, int]],
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
      Groups whose members partition `range(len(networks))`; a group has at most as
      many members as its shape has lanes.
    """
    cost = cost or CostModel()
    ready = sorted(set(compiled))
    classes: dict[tuple[int, int], list[Group]] = {}
    for index, (architecture, batch_size) in enumerate(networks):
        hidden = tuple(map(padded, architecture.hidden))
        shape = Shape(1, hidden, batch_size)
        group = Group(_cheapest(shape, ready, work, cost)[1], (index,))
        classes.setdefault((len(hidden), batch_size), []).append(group)
    needs = [tuple(map(padded, network.hidden)) for network, _ in networks]
    groups = [
        group
        for members in classes.values()
        for group in _merge(members, needs, ready, work, cost)
    ]
    return sorted(
        groups, key=lambda g: (-run_seconds(g.shape, work, cost), g.shape, g.members)
    )


def padding_waste(
    networks: Sequence[tuple[MLP, int]], groups: Sequence[Group], work: Workload
) -> float:
    """Multiply-adds executed over those that the true networks need, >= 1."""
    useful = sum(
        n_in * n_out * (work.rows // batch * batch)
        for network, batch in networks
        for n_in, n_out in network.junctions
    )
    executed = sum(
        _weights(group.shape, work)
        * (work.rows // group.shape.batch_size * group.shape.batch_size)
        for group in groups
    )
    return executed / useful


def _weights(shape: Shape, work: Workload) -> int:
    sizes = (work.inputs, *shape.hidden, work.outputs)
    return shape.lanes * sum(a * b for a, b in pairwise(sizes))


def _parameters(shape: Shape, work: Workload) -> int:
    return _weights(shape, work) + shape.lanes * (sum(shape.hidden) + work.outputs)


def _cheapest(
    need: Shape, ready: Sequence[Shape], work: Workload, cost: CostModel
) -> tuple[float, Shape]:
    """Seconds and shape of the best program that holds `need`, new or compiled."""
    best = (cost.compile_seconds + run_seconds(need, work, cost), need)
    for shape in ready:
        fits = (
            shape.batch_size == need.batch_size
            and shape.lanes >= need.lanes
            and len(shape.hidden) == len(need.hidden)
            and all(a >= b for a, b in zip(shape.hidden, need.hidden, strict=True))
        )
        if fits:
            best = min(best, (run_seconds(shape, work, cost), shape))
    return best


def _merge(
    groups: list[Group],
    needs: Sequence[tuple[int, ...]],
    ready: Sequence[Shape],
    work: Workload,
    cost: CostModel,
) -> list[Group]:
    """Joins the pair that saves most, again and again, until none saves anything."""

    def price(members: tuple[int, ...]) -> tuple[float, Shape] | None:
        if len(members) > LANES[-1]:
            return None
        lanes = next(n for n in LANES if n >= len(members))
        hidden = tuple(map(max, zip(*(needs[i] for i in members), strict=True)))
        need = Shape(lanes, hidden, groups[0].shape.batch_size)
        if lanes > 1 and 12 * _parameters(need, work) > cost.lane_bytes:
            return None
        return _cheapest(need, ready, work, cost)

    priced: dict[tuple[int, ...], tuple[float, Shape]] = {}
    for group in groups:
        alone = price(group.members)
        assert alone is not None, "a single network is never too large for a group"
        priced[group.members] = alone
    savings: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
    joint: dict[tuple[int, ...], tuple[float, Shape]] = {}

    def consider(a: tuple[int, ...], b: tuple[int, ...]) -> None:
        together = price(tuple(sorted(a + b)))
        if together is not None:
            saving = priced[a][0] + priced[b][0] - together[0]
            if saving > 0:
                savings[min(a, b), max(a, b)] = saving
                joint[tuple(sorted(a + b))] = together

    names = sorted(priced)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            consider(a, b)
    while savings:
        a, b = max(savings, key=lambda pair: (savings[pair], pair))
        merged = tuple(sorted(a + b))
        del priced[a], priced[b]
        savings = {p: s for p, s in savings.items() if not {a, b} & set(p)}
        others = sorted(priced)
        priced[merged] = joint[merged]
        for other in others:
            consider(merged, other)
    return [Group(shape, members) for members, (_, shape) in priced.items()]
