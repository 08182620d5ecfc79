"""Arrays as users have them: checked, and brought to the types that networks take."""

import numbers
from typing import Any

import jax.numpy as jnp
import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.training import rows

_DISTINCT = 100  # steps of float32 that a feature's standard deviation has at least


def checked(x: Any, y: Any, where: str, channels: str) -> tuple[Any, np.ndarray]:
    """Examples as a network takes them, uint8 or float32, and their labels or targets.

    Args:
      x: [N, ...] examples.
      y: [N] or [N, C].
      where: of these rows, for errors.
      channels: `last` or `first`, of images.

    Raises:
      InputError: rows that cannot be used; the message says which and why.
    """
    if hasattr(x, "toarray"):
        raise InputError(
            f"{where}: examples in a {type(x).__name__}; networks take all numbers, "
            "zeros too: x.toarray()"
        )
    x = x if isinstance(x, rows.FileRows) else _numbers(x, where)
    y = _plain(y, where)
    if not x.ndim or not len(x):
        raise InputError(f"{where}: no rows; at least one is needed")
    if not np.prod(x.shape[1:]):
        raise InputError(f"{where}: examples of shape {x.shape[1:]} have no features")
    if y.ndim not in (1, 2) or len(x) != len(y) or not y.size:
        raise InputError(
            f"{where}: {len(x)} examples but labels of shape {y.shape}; "
            "one for each example is needed"
        )
    _refuse_kind(x, f"{where}: examples")
    if y.dtype == object:
        raise InputError(f"{where}: {_missing(y)}")
    if channels == "first":
        if x.ndim != 4:
            raise InputError(
                f"{where}: channels='first' is for images [N, channels, H, W], got "
                f"examples of shape {x.shape[1:]}"
            )
        x = (
            x.channels_last()
            if isinstance(x, rows.FileRows)
            else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        )
    if x.dtype != np.uint8:
        if not isinstance(x, rows.FileRows):
            _refuse_far(x, where)
            with np.errstate(over="ignore"):  # what is infinite then is refused
                x = x.astype(np.float32, copy=False)
        refuse_nan(x, where, "examples")
    return x, y


def _missing(y: np.ndarray) -> str:
    """What is wrong with labels that are neither all names nor all numbers."""
    empty = list(map(_is_missing, y.flat))
    if any(empty):
        row = empty.index(True) // (y.size // len(y))
        return f"row {row} has no label (None or NaN); remove such rows"
    kinds = sorted({type(value).__name__ for value in y.flat})
    return f"labels of the types {', '.join(kinds)}; names or numbers are needed"


def _is_missing(value: Any) -> bool:
    """Whether this is None, NaN, or pandas' NA, which equals nothing it knows of."""
    same = value == value
    known = isinstance(same, bool | np.bool_) or np.ndim(same)
    return value is None or not known or not np.all(same)


def numbers_of(x: Any, where: str) -> np.ndarray:
    """Examples [N, ...] of a network that is trained, in NumPy.

    Raises:
      InputError: they are no numbers, or not finite.
    """
    x = _numbers(x, where)
    _refuse_kind(x, f"{where}: examples")
    if x.ndim and x.dtype.kind == "f":
        refuse_nan(x, where, "examples")
    return x


def _refuse_kind(x: rows.Rows, what: str) -> None:
    if x.dtype.kind not in "buif":
        missing = ", and no missing values" * (x.dtype == object)
        raise InputError(f"{what} of type {x.dtype}; numbers are needed{missing}")


def _numbers(x: Any, where: str) -> np.ndarray:
    """In NumPy; an InputError names the column of a data frame that is unusable."""
    array = _plain(x, where)
    kind = array.dtype.kind
    if kind in "bui" or (kind == "f" and np.isfinite(array).all()):
        return array
    for name in getattr(x, "columns", ()):
        column, what = _plain(x[name], where), f"{where}: column {name!r}"
        _refuse_kind(column, what)
        if column.dtype.kind == "f":
            refuse_nan(column, what, "values")
    return array


def refuse_other_columns(train: Any, test: Any, name: str) -> None:
    """Raises an InputError for data frames whose columns differ, or their order."""
    if not (hasattr(train, "columns") and hasattr(test, "columns")):
        return
    columns, others = list(train.columns), list(test.columns)
    if columns != others:
        raise InputError(
            f"{name}: columns are {columns} in train and {others} in test; give both "
            "in one order: test[train.columns]"
        )


def of_one_type(x: rows.Rows, test_x: rows.Rows, name: str) -> tuple[Any, Any]:
    """Examples that `checked` returned: all uint8, or all float32.

    Raises:
      InputError: one of them are bytes, and the others of another scale.
    """
    if x.dtype == test_x.dtype:
        return x, test_x
    both = [one if one.dtype == np.uint8 else _as_bytes(one) for one in (x, test_x)]
    if any(one is None for one in both):
        raise InputError(
            f"{name}: examples are {x.dtype} in train and {test_x.dtype} in test, and "
            "not all whole numbers from 0 to 255; give both as they were stored"
        )
    return both[0], both[1]


def _as_bytes(x: Any) -> np.ndarray | None:
    """Of numbers that look like bytes, these; of those up to 1 nobody knows."""
    if isinstance(x, rows.FileRows) or not ((x >= 0) & (x <= 255)).all():
        return None
    found = x.astype(np.uint8)
    return found if x.max() > 1 and (found == x).all() else None


def _plain(array: Any, where: str) -> np.ndarray:
    """In NumPy, where bfloat16 is not a number like others."""
    if np.ma.is_masked(array):
        raise InputError(
            f"{where}: masked values in an array; fill them in, or remove the rows"
        )
    array = np.asarray(array)
    # As pandas keeps names, and columns of several types.
    if array.dtype == object and any(
        all(isinstance(value, kind) for value in array.flat)
        for kind in (str, bytes, numbers.Number)
    ):
        array = np.array(array.tolist())
    return array.astype(np.float32) if array.dtype == jnp.bfloat16 else array


def _refuse_far(x: np.ndarray, where: str) -> None:
    """Features of a table whose values float32 does not tell apart."""
    if x.ndim != 2 or x.dtype.itemsize < 4 or x.dtype == np.float32:
        return
    values = x.astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, spread = values.mean(0), values.std(0)
        # The mean of equal numbers is rounded, and so their spread is not quite zero.
        spread = np.where(np.ptp(values, axis=0) > 0, spread, 0.0)
    refuse_far(mean, spread, f"{where}: feature")


def refuse_far(mean: np.ndarray, spread: np.ndarray, what: str) -> None:
    """Raises an InputError for columns [D] that lie so far from 0 for their spread."""
    bad = (spread > 0) & (spread < _DISTINCT * np.finfo(np.float32).eps * np.abs(mean))
    if bad.any():
        number = int(bad.argmax())
        raise InputError(
            f"{what} {number} varies by {spread[number]:g} around {mean[number]:g}, "
            "which float32, in which networks compute, hardly tells apart; subtract "
            f"{mean[number]:.3g} from it"
        )


def refuse_nan(values: rows.Rows, where: str, what: str) -> None:
    """Raises an InputError that names the first row with a value that is not finite."""
    finite = [
        np.isfinite(part.reshape(len(part), -1)).all(axis=1)
        for part in rows.blocks(values)
    ]
    bad = ~np.concatenate([np.ones(0, bool), *finite])
    if bad.any():
        raise InputError(
            f"{where}: {bad.sum()} of {len(values)} {what} hold NaN, infinite values "
            f"or such as are too large for float32, the first in row {bad.argmax()}; "
            "remove or repair them"
        )
