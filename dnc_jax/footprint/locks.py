"""One counter, one process: locks of the whole machine that die with their owner."""

import errno
import hashlib
import pathlib
import socket
import sys
import tempfile
import threading
from collections.abc import Callable

import filelock

# Begins the name of every lock. Processes that are to see each other's have it alike.
NAMESPACE = "dnc_jax-energy"

# What gives each lock back, and how many windows of this process share it.
_HELD: dict[str, tuple[Callable[..., None], int]] = {}
_GUARD = threading.Lock()


def acquire(device: str) -> bool:
    """Whether this process now holds the lock of `device`; it may hold it many times.

    On Linux the lock is an abstract socket: no file, one name for all users and
    temporary folders of the machine, gone with the process. Containers with a network
    of their own do not see each other's. Elsewhere it is a locked file in the temporary
    folder, all that is ever written outside of the work folder and the user's cache.

    Raises:
      OSError: the lock can neither be taken nor is it another process's.
    """
    with _GUARD:
        if device in _HELD:
            give_back, count = _HELD[device]
        else:
            found = _open(hashlib.sha256(device.encode()).hexdigest()[:32])
            if found is None:
                return False
            give_back, count = found, 0
        _HELD[device] = (give_back, count + 1)
        return True


def release(device: str) -> None:
    """Gives back what `acquire` gave."""
    with _GUARD:
        give_back, count = _HELD.pop(device)
        if count > 1:
            _HELD[device] = (give_back, count - 1)
        else:
            give_back()


def _open(name: str) -> Callable[..., None] | None:
    """What gives the lock of this name back; None if another process has it."""
    if sys.platform != "linux":
        path = pathlib.Path(tempfile.gettempdir()) / f"{NAMESPACE}-{name}.lock"
        file_lock = filelock.FileLock(path, blocking=False)
        try:
            file_lock.acquire()
        except filelock.Timeout:
            return None
        return file_lock.release
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0{NAMESPACE}-{name}")
    except OSError as error:
        lock.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return lock.close
