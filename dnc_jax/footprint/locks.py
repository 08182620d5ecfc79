"""One counter, one process: locks of the whole machine that die with their owner."""

import hashlib
import os
import pathlib
import socket
import sys
import tempfile
import threading
from typing import Any

# The lock of each device, and how many windows of this process share it.
_HELD: dict[str, tuple[Any, int]] = {}
_GUARD = threading.Lock()


def acquire(device: str) -> bool:
    """Whether this process now holds the lock of `device`; it may hold it many times.

    On Linux the lock is an abstract socket: no file, one name for all users and
    temporary folders of the machine, gone with the process. Containers with a network
    of their own do not see each other's. Elsewhere it is a locked file in the temporary
    folder, the only thing that is ever written outside the work folder.
    """
    with _GUARD:
        if device in _HELD:
            lock, count = _HELD[device]
        else:
            found = _open(hashlib.sha256(device.encode()).hexdigest()[:32])
            if found is None:
                return False
            lock, count = found, 0
        _HELD[device] = (lock, count + 1)
        return True


def release(device: str) -> None:
    """Gives back what `acquire` gave."""
    with _GUARD:
        lock, count = _HELD.pop(device)
        if count > 1:
            _HELD[device] = (lock, count - 1)
        else:
            lock.close()


def _open(name: str) -> Any:
    if sys.platform != "linux":
        return _open_file(pathlib.Path(tempfile.gettempdir()) / f"dnc_jax-{name}.lock")
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0dnc_jax-energy-{name}")
    except OSError:
        lock.close()
        return None
    return lock


def _open_file(path: pathlib.Path) -> Any:
    import fcntl  # not on Windows, where there is no counter either

    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CREAT, 0o644))
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
