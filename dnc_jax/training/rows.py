"""Rows of a data set that memory need not hold: `.npy` files, read where needed."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dnc_jax.typing import Array

_BLOCK_BYTES = 2**21
_ALIGNMENT = 64  # bytes; what begins elsewhere, XLA copies


class FileRows:
    """The rows of files, one file after another: [N, ...], read when asked for.

    Stands in a `Split` where an array would. Other types than uint8 become float32, as
    in any data set.

    Args:
      files: memory-mapped arrays [n, ...] with examples of one shape and type.
      rows: which of all their rows, in this order, [N] int; None: all of them.
      channels_first: whether examples are stored as [channels, H, W].
    """

    def __init__(
        self,
        files: Sequence[np.ndarray],
        rows: np.ndarray | None = None,
        channels_first: bool = False,
    ) -> None:
        self._files = tuple(files)
        self._starts = np.cumsum([0, *map(len, self._files)])
        self._rows = np.arange(self._starts[-1]) if rows is None else rows
        self._channels_first = channels_first
        example = self._files[0].shape[1:]
        if channels_first:
            example = (*example[1:], example[0])
        self.shape = (len(self._rows), *example)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(
            np.uint8 if self._files[0].dtype == np.uint8 else np.float32
        )
        self.nbytes = int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Reads these rows: [n, ...]."""
        rows = np.arange(len(self))[index] if isinstance(index, slice) else index
        return taken(self, rows)

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Reads these rows into `out`: [n, ...]."""
        # In the order of the files: a disk reads forwards.
        rows = self._rows[rows]
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        bounds = np.searchsorted(ordered, self._starts)
        for file, start, low, high in zip(
            self._files, self._starts[:-1], bounds[:-1], bounds[1:], strict=True
        ):
            if low < high:
                part = file[ordered[low:high] - start]
                if self._channels_first:
                    part = part.transpose(0, 2, 3, 1)
                out[order[low:high]] = part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows of files are always read into a new array")
        return self[:].astype(dtype or self.dtype, copy=False)

    def only(self, rows: np.ndarray) -> "FileRows":
        """These rows, not yet read."""
        return FileRows(self._files, self._rows[rows], self._channels_first)

    def channels_last(self) -> "FileRows":
        """The same rows, of files that hold [n, channels, H, W]."""
        return FileRows(self._files, self._rows, channels_first=True)

    def joined(self, other: "FileRows") -> "FileRows":
        """These rows and those of `other`, of the same files."""
        rows = np.concatenate([self._rows, other._rows])
        return FileRows(self._files, rows, self._channels_first)


Rows = Array | FileRows


def only(x: Rows, rows: np.ndarray) -> Any:
    """These rows of `x`, without reading those of files."""
    return x.only(rows) if isinstance(x, FileRows) else x[rows]


def joined(one: Rows, other: Rows) -> Any:
    """Rows of both, one after another, without reading those of files."""
    if isinstance(one, FileRows) and isinstance(other, FileRows):
        return one.joined(other)
    return np.concatenate([np.asarray(one), np.asarray(other)])


def taken(x: Rows, rows: np.ndarray) -> np.ndarray:
    """These rows in memory that a CPU's JAX takes as its own, without a copy."""
    shape, kind = (len(rows), *x.shape[1:]), np.dtype(x.dtype)
    size = int(np.prod(shape)) * kind.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    out = raw[start : start + size].view(kind).reshape(shape)
    if isinstance(x, FileRows):
        x.read(rows, out)
    else:
        np.take(np.asarray(x), rows, axis=0, out=out, mode="clip")
    return out


def blocks(x: Rows) -> Iterator[np.ndarray]:
    """All rows in their order, a few megabytes of them at a time."""
    size = max(1, _BLOCK_BYTES * len(x) // max(1, x.nbytes))
    for start in range(0, len(x), size):
        yield np.asarray(x[start : start + size])


def moments(x: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over all axes but the last: [channels] float64 each.

    Of a table [N, D] or images [N, H, W, channels]; of other rows, over all axes: [1].
    """
    last = x.shape[-1] if x.ndim in (2, 4) else 1

    def mean_of(what: Any) -> np.ndarray:
        sums = [what(part.reshape(-1, last)).sum(0) for part in blocks(x)]
        return np.sum(sums, axis=0) / (np.prod(x.shape) / last)

    mean = mean_of(lambda part: part.astype(np.float64))
    return mean, np.sqrt(mean_of(lambda part: np.square(part - mean)))
