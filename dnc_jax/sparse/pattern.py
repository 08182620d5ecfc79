"""Which edges a junction has: fixed before training, stored as index lists.

An edge joins a block of `b_in` input nodes to a block of `b_out` output nodes; blocks
of (1, 1) are single nodes. Edges are numbered output block by output block and, within
one, by input block; edge e owns the weights `weight[e]`, a [b_in, b_out] matrix.
"""

import dataclasses
import json
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np

from dnc_jax.errors import InputError, check_whole
from dnc_jax.plain import plain
from dnc_jax.typing import Array

# A table of all cells makes a dense fallback cheap. It is kept where it is small
# beside the edges themselves, or small at all.
_CELLS_DENSITY, _CELLS_MAX = 0.15, 2**16


class Description(NamedTuple):
    """What a pattern looks like from outside, in nodes."""

    n_in: int
    n_out: int
    block: tuple[int, int]
    edges: int
    density: float
    fan_in: tuple[int, int]  # least and largest
    fan_out: tuple[int, int]
    unconnected_inputs: int
    unconnected_outputs: int
    duplicate_edges: int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Pattern:
    """The edges of a junction; made by a family or by `from_edges`.

    A pytree whose leaves are int32 arrays, so that it travels through `jit`, `vmap`
    and `shard_map` as an argument of its own. Both directions are stored: a gradient
    is a gather along the transposed index, never a scatter. Where degrees vary, lists
    are filled up; a filled place has edge number E, which owns no weight.

    Attributes:
      sources: input block of each edge into each output block, ascending; filled up
        with the list's own last entry.
      targets: output block of each edge out of each input block; filled up likewise.
      edges_in: edge numbers that belong to `sources`; None where every output block
        has K of them, because then they are 0, 1, 2 ...
      edges_out: edge numbers that belong to `targets`.
      slots: where each edge stands in `sources.ravel()`; None as `edges_in`.
      cells: edge number of each output block's every input block, E for none; None
        if not kept.
      block: `(b_in, b_out)`, static.
      block_edges: E, static.
    """

    sources: Any  # [Q, K] int32
    targets: Any  # [P, F] int32
    edges_in: Any  # [Q, K] int32 or None
    edges_out: Any  # [P, F] int32
    slots: Any  # [E] int32 or None
    cells: Any  # [Q, P] int32 or None
    block: tuple[int, int] = dataclasses.field(metadata={"static": True})
    block_edges: int = dataclasses.field(metadata={"static": True})

    def __repr__(self) -> str:
        """Its size; thousands of indices would say less."""
        if not hasattr(self.sources, "shape") or not hasattr(self.targets, "shape"):
            return f"Pattern({self.sources}, {self.targets}, block={self.block})"
        return (
            f"Pattern({self.n_in} x {self.n_out}, block={self.block}, "
            f"edges={self.edges}, density={self.density:.4g})"
        )

    @property
    def blocks_in(self) -> int:
        """P, input blocks."""
        return self.targets.shape[-2]

    @property
    def blocks_out(self) -> int:
        """Q, output blocks."""
        return self.sources.shape[-2]

    @property
    def n_in(self) -> int:
        """Input nodes."""
        return self.blocks_in * self.block[0]

    @property
    def n_out(self) -> int:
        """Output nodes."""
        return self.blocks_out * self.block[1]

    @property
    def edges(self) -> int:
        """Edges between nodes, which is the number of weights."""
        return self.block_edges * self.block[0] * self.block[1]

    @property
    def density(self) -> float:
        """Kept fraction of all edges that there could be."""
        return self.edges / (self.n_in * self.n_out)

    def edge_list(self) -> tuple[np.ndarray, np.ndarray]:
        """Input block and output block of every edge, in order: twice [E] int32.

        Raises:
          InputError: these are several patterns, stacked for `vmap`.
        """
        sources = np.asarray(self.sources)
        if sources.ndim != 2:
            raise InputError(
                f"{len(sources)} stacked patterns have no edges in common; take one of "
                "them: jax.tree.map(lambda leaf: leaf[0], patterns)"
            )
        outputs = np.broadcast_to(
            np.arange(self.blocks_out, dtype=np.int32)[:, None], sources.shape
        )
        kept = slice(None) if self.slots is None else np.asarray(self.slots)
        return sources.ravel()[kept], outputs.ravel()[kept]

    def to_dense(self) -> np.ndarray:
        """The adjacency matrix: [n_in, n_out] bool."""
        mask = np.zeros((self.blocks_in, self.blocks_out), bool)
        mask[self.edge_list()] = True
        return np.kron(mask, np.ones(self.block, bool))

    def describe(self) -> Description:
        """Degrees, nodes without an edge, and duplicate edges (none, ever)."""
        sources, outputs = self.edge_list()
        b_in, b_out = self.block
        fan_in = b_in * np.bincount(outputs, minlength=self.blocks_out)
        fan_out = b_out * np.bincount(sources, minlength=self.blocks_in)
        distinct = len(np.unique(sources.astype(np.int64) * self.blocks_out + outputs))
        return Description(
            n_in=self.n_in,
            n_out=self.n_out,
            block=self.block,
            edges=self.edges,
            density=self.density,
            fan_in=(int(fan_in.min()), int(fan_in.max())),
            fan_out=(int(fan_out.min()), int(fan_out.max())),
            unconnected_inputs=b_in * int(np.sum(fan_out == 0)),
            unconnected_outputs=b_out * int(np.sum(fan_in == 0)),
            duplicate_edges=(self.block_edges - distinct) * b_in * b_out,
        )


def _static_to_json(static: tuple[Any, ...]) -> bytes:
    return json.dumps(static).encode()


def _static_from_json(text: bytes) -> tuple[Any, ...]:
    (b_in, b_out), block_edges = json.loads(text)
    return (b_in, b_out), block_edges


# So that functions of a pattern can be exported and stored.
jax.export.register_pytree_node_serialization(
    Pattern,
    serialized_name="dnc_jax.sparse.Pattern",
    serialize_auxdata=_static_to_json,
    deserialize_auxdata=_static_from_json,
)


def from_edges(
    sources: Array,
    outputs: Array,
    n_in: int,
    n_out: int,
    block: tuple[int, int] = (1, 1),
) -> Pattern:
    """The pattern that has exactly these edges between blocks.

    Args:
      sources: [E] integers, the input block of each edge, in any order.
      outputs: [E] integers, the output block of each edge.
      n_in, n_out: nodes, multiples of the block's sides.
      block: `(b_in, b_out)`.

    Raises:
      InputError: no edges, lists of unequal length, indices that are not integers or
        out of range, an edge given twice, nodes that blocks do not divide.
    """
    block = plain(block)
    blocks_in, blocks_out = grid(n_in, n_out, block)
    sources, outputs = (
        _checked(index, count, name)
        for index, count, name in (
            (sources, blocks_in, "input"),
            (outputs, blocks_out, "output"),
        )
    )
    if len(sources) != len(outputs):
        raise InputError(
            f"{len(sources)} input blocks but {len(outputs)} output blocks; "
            "an edge needs one of each"
        )
    order = np.lexsort((sources, outputs))
    sources, outputs = sources[order], outputs[order]
    twice = (np.diff(sources) == 0) & (np.diff(outputs) == 0)
    if twice.any():
        first = int(np.argmax(twice))
        raise InputError(
            f"the edge from input block {sources[first]} to output block "
            f"{outputs[first]} is given more than once; an edge exists once or not"
        )
    count = len(sources)
    source_lists, edges_in = _lists(sources, outputs, np.arange(count), blocks_out)
    by_source = np.lexsort((outputs, sources))
    target_lists, edges_out = _lists(
        outputs[by_source], sources[by_source], by_source, blocks_in
    )
    regular = edges_in.size == count
    slots = None if regular else np.flatnonzero(edges_in.ravel() < count)
    cells = None
    if blocks_in * blocks_out <= max(count / _CELLS_DENSITY, _CELLS_MAX):
        cells = np.full((blocks_out, blocks_in), count)
        cells[outputs, sources] = np.arange(count)
    arrays = (
        source_lists,
        target_lists,
        None if regular else edges_in,
        edges_out,
        slots,
        cells,
    )
    leaves = jax.device_put([None if a is None else a.astype(np.int32) for a in arrays])
    return Pattern(*leaves, block=block, block_edges=count)


def from_dense(mask: Array, block: tuple[int, int] = (1, 1)) -> Pattern:
    """The pattern of the cells that are true (or not zero) in an adjacency matrix.

    Args:
      mask: [n_in, n_out].
      block: `(b_in, b_out)`; every block must be wholly present or wholly absent.

    Raises:
      InputError: not a matrix, a block present in part, or as `from_edges`.
    """
    mask = np.asarray(mask) != 0
    if mask.ndim != 2:
        raise InputError(f"an adjacency matrix has 2 axes, got shape {mask.shape}")
    n_in, n_out = mask.shape
    blocks_in, blocks_out = grid(n_in, n_out, block)
    cells = mask.reshape(blocks_in, block[0], blocks_out, block[1])
    some, whole = cells.any((1, 3)), cells.all((1, 3))
    if (some != whole).any():
        p, q = np.argwhere(some != whole)[0]
        raise InputError(
            f"block ({p}, {q}) of {block[0]} x {block[1]} nodes is present in part; "
            "use a smaller block"
        )
    sources, outputs = np.nonzero(whole)
    return from_edges(sources, outputs, n_in, n_out, block)


def grid(n_in: int, n_out: int, block: tuple[int, int]) -> tuple[int, int]:
    """Input and output blocks of a junction.

    Raises:
      InputError: a size below 1 or not whole, sides that are not two, or blocks that
        do not divide the nodes.
    """
    if np.shape(block) != (2,):
        raise InputError(f"block must be its two sides, (b_in, b_out), got {block}")
    check_whole(1, n_in=n_in, n_out=n_out, b_in=block[0], b_out=block[1])
    for nodes, side, name in ((n_in, block[0], "n_in"), (n_out, block[1], "n_out")):
        if nodes % side:
            raise InputError(
                f"{name} = {nodes} is not a multiple of the block's side {side}; "
                f"the nearest that is: {max(side, round(nodes / side) * side)}"
            )
    return n_in // block[0], n_out // block[1]


def _checked(index: Array, count: int, name: str) -> np.ndarray:
    index = np.asarray(index)
    if index.dtype.kind not in "iu" or index.ndim != 1:
        raise InputError(
            f"{name} blocks must be a list of integers, got {index.dtype} of "
            f"shape {index.shape}"
        )
    if not len(index):
        raise InputError("a pattern needs at least one edge, got none")
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= count:
        raise InputError(
            f"{name} block {low if low < 0 else high} does not exist; there are "
            f"{count}, numbered from 0"
        )
    return index.astype(np.int64)


def _lists(
    values: np.ndarray, owners: np.ndarray, edges: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values and edge numbers of each owner as rows, filled up to the longest.

    `owners` ascend. Filled places repeat the row's last value, so that what they read
    the row reads anyway; their edge number is that of no edge.
    """
    degrees = np.bincount(owners, minlength=count)
    starts = np.cumsum(degrees) - degrees
    place = np.arange(degrees.max())
    real = place < degrees[:, None]
    last = np.maximum(degrees[:, None] - 1, 0)
    at = np.minimum(starts[:, None] + np.minimum(place, last), len(values) - 1)
    return values[at], np.where(real, edges[at], len(values))
