"""Data sets: read once, checked once, kept as they are stored (uint8 for images)."""

import logging
import os
import pathlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.typing import Array

DEFAULT_DIR = os.path.join("~", "tensorflow_datasets")


class Split(NamedTuple):
    """Rows of one split: a host copy, or the same on device."""

    x: Array  # [N, ...] uint8 or float32
    y: Array  # [N] int32, 0 .. classes - 1


class Dataset(NamedTuple):
    """A classification problem.

    Attributes:
      name: for people.
      classes: number of labels.
      train, validation, test: the rows; `test` is for one final evaluation.
      mean, scale: statistics of the training rows, one for each entry of the last
        axis: a feature of a table, a channel of an image [H, W, channels]; one for
        all where there is no such axis. A network sees `(x - mean) * scale`.
    """

    name: str
    classes: int
    train: Split
    validation: Split
    test: Split
    mean: np.ndarray  # [channels] float32
    scale: np.ndarray  # [channels] float32

    @property
    def inputs(self) -> int:
        """Features of one example after flattening."""
        return int(np.prod(self.train.x.shape[1:]))


def normalise(x: Array, mean: Array, scale: Array) -> jax.Array:
    """Flattens and normalises a batch: [B, ...] of any dtype to [B, D] float32."""
    channels = jnp.asarray(x).astype(jnp.float32).reshape(x.shape[0], -1, len(mean))
    centred = (channels - jnp.expand_dims(mean, (0, 1))) * jnp.expand_dims(
        scale, (0, 1)
    )
    return centred.reshape(x.shape[0], -1)


def load(
    name: str,
    *,
    data_dir: str = "",
    seed: int = 0,
    validation_fraction: float = 0.2,
) -> Dataset:
    """Reads a data set and splits validation rows from its training rows.

    Args:
      name: `digits` (embedded in scikit-learn; a fixed fifth of each class is
        the test split), an `.npz` file with the arrays `xtr ytr xte yte`, or the name
        of a TFDS image-classification set prepared in `data_dir`.
      data_dir: a TFDS data directory; empty means ~/tensorflow_datasets.
      seed: chooses the validation rows.
      validation_fraction: of the training rows, class by class.

    Raises:
      InputError: unknown name, missing directory or unusable rows.
    """
    if name == "digits":
        train, test = _digits()
    elif name.endswith(".npz"):
        train, test = _npz(pathlib.Path(name))
    else:
        train, test = _tfds(name, pathlib.Path(data_dir or DEFAULT_DIR).expanduser())
    return from_arrays(
        train,
        test,
        name=name,
        seed=seed,
        validation_fraction=validation_fraction,
    )


def from_arrays(
    train: Split | tuple[np.ndarray, np.ndarray],
    test: Split | tuple[np.ndarray, np.ndarray],
    *,
    name: str = "arrays",
    seed: int = 0,
    validation_fraction: float = 0.2,
) -> Dataset:
    """A data set from arrays `(x [N, ...], y [N])`; validation comes out of `train`.

    Raises:
      InputError: no rows, unequal lengths, NaN or infinite values, labels that are
        not integers 0 .. k-1, fewer than two classes, a class with too few training
        rows to split, or a fraction outside (0, 1).
    """
    if not 0 < validation_fraction < 1:
        raise InputError(
            f"validation_fraction must lie in (0, 1), got {validation_fraction}"
        )
    train, test = (
        _checked(Split(*split), f"{name}, {part}")
        for split, part in ((train, "train"), (test, "test"))
    )
    if train.x.shape[1:] != test.x.shape[1:]:
        raise InputError(
            f"{name}: a training example has shape {train.x.shape[1:]}, a test "
            f"example {test.x.shape[1:]}; they must agree"
        )
    classes = np.unique(train.y)
    if len(classes) < 2:
        raise InputError(
            f"{name}: all training labels are {classes[0]}; classification needs at "
            "least two classes"
        )
    absent = np.setdiff1d(
        np.arange(max(classes[-1], test.y.max(initial=0)) + 1), classes
    )
    if len(absent):
        raise InputError(
            f"{name}: no training row has label {absent[0]}; labels must be "
            "0 .. k-1, each present in train"
        )
    fit, held_out = _stratified(np.asarray(train.y), validation_fraction, seed, name)
    axes = tuple(range(train.x.ndim - 1)) if train.x.ndim in (2, 4) else None
    mean = np.atleast_1d(train.x[fit].mean(axes, dtype=np.float64))
    spread = np.atleast_1d(train.x[fit].std(axes, dtype=np.float64))
    return Dataset(
        name=name,
        classes=len(classes),
        train=Split(train.x[fit], train.y[fit]),
        validation=Split(train.x[held_out], train.y[held_out]),
        test=test,
        mean=mean.astype(np.float32),
        scale=(1 / np.where(spread > 0, spread, 1)).astype(np.float32),
    )


def _checked(split: Split, where: str) -> Split:
    x, y = np.asarray(split.x), np.asarray(split.y)
    if not len(x):
        raise InputError(f"{where}: no rows; at least one is needed")
    if len(x) != len(y) or y.ndim != 1:
        raise InputError(
            f"{where}: {len(x)} examples but labels of shape {y.shape}; "
            "one integer label for each example is needed"
        )
    if x.dtype.kind not in "buif":
        raise InputError(f"{where}: examples of type {x.dtype}; numbers are needed")
    if x.dtype != np.uint8:
        x = x.astype(np.float32)
        bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
        if bad.any():
            raise InputError(
                f"{where}: {bad.sum()} of {len(x)} examples hold NaN or infinite "
                f"values, the first in row {bad.argmax()}; remove or repair them"
            )
    if y.dtype.kind not in "bui" or y.min() < 0:
        raise InputError(
            f"{where}: labels must be integers 0 .. k-1, got {y.dtype} from {y.min()}"
        )
    return Split(x, y.astype(np.int32))


def _stratified(
    labels: np.ndarray, fraction: float, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train on and to validate on, the same share of every class."""
    rng = np.random.default_rng([seed, 0x5B117])
    held_out = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        count = max(1, round(fraction * len(rows)))
        if count >= len(rows):
            raise InputError(
                f"{name}: label {label} has {len(rows)} training row(s), too few to "
                f"hold out {fraction:g} for validation; 2 or more are needed"
            )
        held_out.append(rows[:count])
    validation = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), validation), validation


def _digits() -> tuple[Split, Split]:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    x, y = bunch.images.astype(np.uint8)[..., None], bunch.target
    fit, test = _stratified(y, 0.2, 0, "digits")
    return Split(x[fit], y[fit]), Split(x[test], y[test])


def _npz(path: pathlib.Path) -> tuple[Split, Split]:
    try:
        # Opened here: np.load leaves a file that is no archive open.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = {"xtr", "ytr", "xte", "yte"} - set(file.files)
            if missing:
                raise InputError(
                    f"{path}: no array {', '.join(sorted(missing))}; an .npz data set "
                    f"holds xtr, ytr, xte and yte, this one {', '.join(file.files)}"
                )
            return Split(file["xtr"], file["ytr"]), Split(file["xte"], file["yte"])
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _tfds(name: str, directory: pathlib.Path) -> tuple[Split, Split]:
    if not directory.is_dir():
        raise InputError(
            f"unknown data set {name!r}; known: digits (embedded), any .npz file; "
            f"for a TFDS set name its data directory with --config.data.dir=DIR, "
            f"since {directory} does not exist"
        )
    known = sorted(path.parent.name for path in directory.glob("*/[0-9]*.*"))
    if name not in known:
        raise InputError(
            f"unknown data set {name!r}; known: digits (embedded), any .npz file"
            + (f", and in {directory}: {', '.join(known)}" if known else "")
            + "; TFDS prepares others with "
            f"tfds.builder({name!r}, file_format='array_record')"
            ".download_and_prepare()"
        )
    with _quiet_reader():
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder(name, data_dir=str(directory))
            features: Any = builder.info.features or {}
            if not {"image", "label"} <= set(features):
                raise InputError(
                    f"{name!r} is not an image-classification set: it has "
                    f"{sorted(features)}, and 'image' and 'label' are needed"
                )
            return _read(builder, "train"), _read(builder, "test")
        except (OSError, NotImplementedError) as error:
            raise InputError(f"cannot read {name!r} in {directory}: {error}") from error


def _read(builder: Any, split: str) -> Split:
    if split not in builder.info.splits:
        raise InputError(
            f"{builder.name!r} has no split {split!r}, only {list(builder.info.splits)}"
        )
    # In order and all at once: single random reads decompress a group each.
    source = builder.as_data_source(split)
    rows = source.__getitems__(range(len(source)))
    shapes = {row["image"].shape for row in rows}
    if len(shapes) > 1:
        raise InputError(
            f"{builder.name!r}: images of {len(shapes)} different shapes; one is needed"
        )
    images = np.stack([row["image"] for row in rows])
    return Split(images, np.array([row["label"] for row in rows], np.int32))


@contextmanager
def _quiet_reader() -> Iterator[None]:
    """Drops the readers' advice about record groups and OpenCV, which is no news."""

    def keep(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return "group size" not in message and "OpenCV" not in message

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
