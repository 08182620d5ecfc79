"""The processes and devices of one search, and what they tell each other.

Every process runs the same search from the same seed. Devices train different
networks and never wait for each other within a program; between programs processes
exchange what they found here, so that all of them decide alike. Process 0 alone reads
and writes the files of a search; each reads the data and keeps compiled programs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dnc_jax.errors import ProcessError
from dnc_jax.training import under_way

AXIS = "population"


def is_first() -> bool:
    """Whether this is process 0, which reads and writes."""
    return jax.process_index() == 0


def mesh() -> Mesh | None:
    """All devices of all processes in a row; None where there is only one."""
    if jax.device_count() == 1:
        return None
    return Mesh(np.array(jax.devices()), (AXIS,))


def split(tree: Any, mesh: Mesh) -> Any:
    """Arrays whose leading axis, [devices, ...], lies on the devices of the mesh."""
    return _place(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


def copy(tree: Any, mesh: Mesh) -> Any:
    """Arrays that every device of the mesh has a copy of."""
    return _place(tree, NamedSharding(mesh, PartitionSpec()))


def _place(tree: Any, sharding: NamedSharding) -> Any:
    def place(leaf: Any) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(
            host.shape, sharding, lambda index: host[index]
        )

    return jax.tree.map(place, tree)


def gather(tree: Any) -> Any:
    """The whole of arrays as `split` makes them, in NumPy, in every process.

    Raises:
      ProcessError: another process has ended.
    """
    if jax.process_count() == 1:
        return jax.device_get(tree)
    with _together():
        return jax.tree.map(
            np.asarray, multihost_utils.process_allgather(tree, tiled=True)
        )


def any_of(flags: int) -> int:
    """The bits that are set in the flags of any process.

    Raises:
      ProcessError: another process has ended.
    """
    if jax.process_count() == 1:
        return flags
    return int(np.bitwise_or.reduce(_everywhere(np.int32(flags))))


def alike(digest: bytes) -> bool:
    """Whether all processes pass the same bytes, of one length.

    Raises:
      ProcessError: another process has ended.
    """
    if jax.process_count() == 1:
        return True
    found = _everywhere(np.frombuffer(digest, np.uint8))
    return bool((found == found[0]).all())


def from_first(tree: Any) -> Any:
    """What process 0 passes, in every process; data as `under_way.write` takes it.

    Raises:
      ProcessError: another process has ended.
    """
    if jax.process_count() == 1:
        return tree
    content = under_way.pack(tree) if is_first() else b""
    with _together():
        # In two numbers: networks under way may be more than 2 GiB.
        parts = np.array(divmod(len(content), 2**30), np.int32)
        high, low = np.asarray(multihost_utils.broadcast_one_to_all(parts)).tolist()
        size = high * 2**30 + low
        padded = np.zeros(size, np.uint8)
        padded[: len(content)] = np.frombuffer(content, np.uint8)
        received = multihost_utils.broadcast_one_to_all(padded)
    return under_way.unpack(np.asarray(received).tobytes())


def _everywhere(value: Any) -> np.ndarray:
    """What each of several processes passes: [processes, ...]."""
    with _together():
        return np.asarray(multihost_utils.process_allgather(value))


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # the backends differ
        reason = str(error).partition("\n")[0]
        if "RESOURCE_EXHAUSTED" in reason:  # of this process: starting again is no help
            raise
        raise ProcessError(
            f"another process of this search has ended ({reason}); "
            "start all of them again: the same command goes on where it stopped"
        ) from error
