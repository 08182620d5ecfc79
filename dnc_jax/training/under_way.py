"""Training under way, on disk: trees of arrays and numbers, data only, never code."""

import hashlib
import io
import json
import pathlib
import zipfile
from typing import Any

import jax
import numpy as np

from dnc_jax.files import new_file

SAVE_SECONDS = 15.0  # between two saves, at the ends of epochs
_DIGEST_BYTES = 32
_MALFORMED = (EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile)


def write(path: pathlib.Path, tree: Any) -> None:
    """Writes a tree of dicts, tuples, arrays, numbers and None; whole or not at all.

    The file is on the disk when this returns. Named tuples become tuples.

    Raises:
      OSError: it cannot be written; what was there before is kept.
    """
    content = pack(tree)
    with new_file(path, sync=True) as file:
        file.write(content)


def read(path: pathlib.Path) -> Any | None:
    """What `write` wrote, arrays in NumPy; None where it is missing or damaged."""
    try:
        return unpack(path.read_bytes())
    except OSError:
        return None


def pack(tree: Any) -> bytes:
    """A tree as `write` takes it, in bytes that say whether they are damaged."""
    arrays: dict[str, np.ndarray] = {}
    content = io.BytesIO()
    tree = json.dumps(_encode(tree, arrays))
    np.savez(content, allow_pickle=False, tree=np.asarray(tree), **arrays)
    return content.getvalue() + _digest(content.getbuffer())


def unpack(content: bytes) -> Any | None:
    """What `pack` packed, arrays in NumPy; None if the bytes are damaged."""
    content, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if _digest(content) != digest:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return _decode(json.loads(str(arrays["tree"])), arrays)
    except _MALFORMED:
        return None


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _encode(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    match tree:
        case None | int() | float() | str():
            return tree
        case dict():
            return {"dict": {key: _encode(one, arrays) for key, one in tree.items()}}
        case tuple() | list():
            return [_encode(one, arrays) for one in tree]
        case np.ndarray() | np.generic() | jax.Array():
            name = str(len(arrays))
            arrays[name] = np.asarray(tree)
            return {"array": name}
    raise TypeError(f"{type(tree).__name__} is neither data nor a tree of data")


def _decode(tree: Any, arrays: Any) -> Any:
    if isinstance(tree, list):
        return tuple(_decode(one, arrays) for one in tree)
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]]
    return {key: _decode(one, arrays) for key, one in tree["dict"].items()}
