"""Labels as indices, targets in units of their spread, and the rows to validate on."""

from typing import Any

import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.training import arrays, readers

_REGRESSION = "numbers to predict are task = 'regression'"
_TINY, _HUGE = (float(getattr(np.finfo(np.float32), end)) for end in ("tiny", "max"))


def classes(
    y: np.ndarray, test_y: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
    """Labels as 0 .. k-1, [N] int32 of both splits, and what they stand for.

    Raises:
      InputError: they are of another type or shape, or of one class, or the test rows
        have a class that the training rows have not.
    """
    y, test_y = (
        labels.astype(np.int64) if _are_whole(labels) else labels
        for labels in (y, test_y)
    )
    for part, labels in (("train", y), ("test", test_y)):
        if labels.ndim != 1 or labels.dtype.kind not in "buiUS":
            raise InputError(
                f"{name}, {part}: labels must be integers or names, one for each "
                f"example, got {labels.dtype} of shape {labels.shape}; "
                + ("y.ravel() or, of one-hot rows, y.argmax(1); " * (labels.ndim == 2))
                + _REGRESSION
            )
    if (y.dtype.kind in "US") != (test_y.dtype.kind in "US"):
        raise InputError(
            f"{name}: labels are {y.dtype} in train and {test_y.dtype} in test; they "
            "must be numbers in both, or names in both"
        )
    # Names as h5py and some TFDS sets have them.
    y, test_y = (
        np.char.decode(part, "utf-8", "backslashreplace")
        if part.dtype.kind == "S"
        else part
        for part in (y, test_y)
    )
    known = np.unique(y)
    if len(known) < 2:
        raise InputError(
            f"{name}: all training labels are {known[0]}; classification needs at "
            "least two classes"
        )
    absent = np.setdiff1d(test_y, known)
    if len(absent):
        raise InputError(
            f"{name}: no training row has label {absent[0]}; every label of the test "
            f"rows must be present in train; {_REGRESSION}"
        )
    y, test_y = (np.searchsorted(known, labels) for labels in (y, test_y))
    return y.astype(np.int32), test_y.astype(np.int32), tuple(known.tolist())


def _are_whole(labels: np.ndarray) -> bool:
    """Whether these are integers written as floats."""
    if labels.dtype.kind != "f":
        return False
    return bool((np.isfinite(labels) & (labels == np.round(labels))).all())


def every_fifth(y: np.ndarray) -> np.ndarray:
    """Row numbers to test on, drawn once and for all: a fifth of every class.

    Of the rows in the order of their targets (the first of several), one in five: of
    numbers too it has as many of the large ones as of the small.
    """
    count = len(y)
    drawn = np.random.default_rng(0).permutation(count)
    first = y[drawn].reshape(count, -1)[:, 0]
    ordered = drawn[np.argsort(first, kind="stable")]
    wanted = min(count, max(1, count // 5))
    return np.sort(ordered[(np.arange(wanted) * count + count // 2) // wanted])


def stratified(
    y: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
    name: str,
    labels: tuple[Any, ...],
) -> np.ndarray:
    """Row numbers to validate on: the same share of every class.

    Raises:
      InputError: a class has too few rows.
    """
    held_out = np.sort(readers.stratified(y, fraction, rng))
    left = np.bincount(np.delete(y, held_out), minlength=len(labels))
    if not left.all():
        label = int(left.argmin())
        raise InputError(
            f"{name}: label {labels[label]} has {(y == label).sum()} training row(s), "
            f"and none is left when {fraction:g} of them validate; "
            + ("a smaller validation_fraction, or " * bool((y == label).sum() > 1))
            + f"more rows of it are needed; {_REGRESSION}"
        )
    return held_out


def held_out_rows(
    rows: int, fraction: float, rng: np.random.Generator, name: str
) -> np.ndarray:
    """Row numbers to validate on.

    Raises:
      InputError: no row would be left to train on.
    """
    count = max(1, round(fraction * rows))
    if count >= rows:
        raise InputError(
            f"{name}: of {rows} training row(s) none is left when {fraction:g} of them "
            "validate; 2 or more are needed, or a smaller validation_fraction"
        )
    return np.sort(rng.permutation(rows)[:count])


def standardised(
    y: np.ndarray, test_y: np.ndarray, fit: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...], tuple[float, ...]]:
    """Targets [N, C] float32 of both splits in units of the rows `fit`, and these.

    Raises:
      InputError: they are no numbers, or none that float32 tells apart.
    """
    targets = []
    for part, values in (("train", y), ("test", test_y)):
        if values.dtype.kind not in "buif":
            raise InputError(
                f"{name}, {part}: targets of type {values.dtype}; regression needs "
                "numbers"
            )
        targets.append(values.reshape(len(values), -1).astype(np.float64))
        arrays.refuse_nan(targets[-1], f"{name}, {part}", "targets")
    if targets[0].shape[1] != targets[1].shape[1]:
        raise InputError(
            f"{name}: {targets[0].shape[1]} targets in train, {targets[1].shape[1]} "
            "in test; they must agree"
        )
    # Divided by the largest first: squares of tiny numbers would vanish.
    fitted = targets[0][fit]
    largest_of = np.abs(fitted).max(0, initial=0)
    unit = np.where(largest_of > 0, largest_of, 1.0)
    mean, spread = unit * (fitted / unit).mean(0), unit * (fitted / unit).std(0)
    if ((unit > _HUGE) | ((spread > 0) & (spread < _TINY))).any():
        raise InputError(
            f"{name}: targets up to {largest_of.max():g} that vary by {spread.min():g} "
            "are too large or too small for float32, in which networks compute; "
            "divide them by a constant"
        )
    # The mean of equal numbers is rounded, and so their spread is not quite zero.
    constant = spread <= 1e-12 * np.abs(mean)
    if constant.any():
        number = int(constant.argmax())
        raise InputError(
            f"{name}: target {number} is {mean[number]:g} in "
            "every training row; there is nothing to predict"
        )
    arrays.refuse_far(mean, spread, f"{name}: target")
    y, test_y = (((part - mean) / spread).astype(np.float32) for part in targets)
    return y, test_y, tuple(mean.tolist()), tuple((1 / spread).tolist())
