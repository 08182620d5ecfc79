"""Files and folders on disk that appear whole or not at all.

What is written stands beside its place, in the same folder, under a hidden name that
nobody else has: `.NAME-0123456789abcdef.partial`. It is moved to its place when it is
whole. A process that is killed leaves it there; a later writing to the same place
removes it when it is a day old.
"""

import contextlib
import glob
import json
import os
import pathlib
import secrets
import shutil
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

_PARTIAL, _FORMER = "partial", "former"
_ABANDONED_SECONDS = 24 * 3600.0  # no writing takes as long


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str], *, sync: bool = False) -> Iterator[BinaryIO]:
    """A file to write to, which is at `path` once the block has ended without an error.

    Others read what was there before until then; several processes and threads may
    write at a time, and the last to end wins. Behind a link it is the target that is
    replaced.

    Args:
      path: in a folder that exists.
      sync: have the content on the disk, not only with the system, before it is moved.

    Raises:
      OSError: it cannot be written; what was there before is kept.
    """
    path = pathlib.Path(path).resolve()
    _sweep(path)
    partial = _beside(path, _PARTIAL)
    try:
        with partial.open("xb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Replaces a file by this as JSON, for people to read, whole or not at all.

    Raises:
      OSError: it cannot be written.
    """
    with new_file(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A new folder, which is at `path` once the block has ended without an error.

    What was at `path` is moved aside and then removed: no system exchanges two folders
    in one step for Python. A process that is killed in between leaves a whole folder at
    `path`, or none and both beside it: the former one as
    `.NAME-0123456789abcdef.former`, the new one as `.partial`. The next folder that is
    written there removes the former one.

    Args:
      path: of the folder; folders above it are made.

    Raises:
      OSError: it cannot be written; what was there before is kept.
    """
    path = pathlib.Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    partial = _beside(path, _PARTIAL)
    partial.mkdir()
    try:
        yield partial
        _replace(path, partial)
    except BaseException:
        _remove(partial)
        raise
    for former in _left(path, _FORMER):
        _remove(former)


def _replace(path: pathlib.Path, new: pathlib.Path) -> None:
    """Moves the folder `new` to `path` and what was there aside."""
    former = _beside(path, _FORMER)
    with contextlib.suppress(FileNotFoundError):
        path.rename(former)
    try:
        new.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            former.rename(path)
        raise


def _beside(path: pathlib.Path, kind: str) -> pathlib.Path:
    return path.with_name(f".{path.name}-{secrets.token_hex(8)}.{kind}")


def _left(path: pathlib.Path, kind: str) -> Iterator[pathlib.Path]:
    """What `_beside` named, by any process."""
    digits = "[0-9a-f]" * 16
    yield from path.parent.glob(f".{glob.escape(path.name)}-{digits}.{kind}")


def _sweep(path: pathlib.Path) -> None:
    """Removes what a killed process has left beside `path`, a day ago or before."""
    for partial in _left(path, _PARTIAL):
        with contextlib.suppress(OSError):  # another process was faster
            if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                _remove(partial)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
