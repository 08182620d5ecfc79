"""Image-classification sets of TFDS: decoded once, then read as arrays."""

import contextlib
import hashlib
import logging
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.files import new_file
from dnc_jax.training import compilation

_AT_ONCE = 10_000  # rows to decode
_KEPT_BYTES = 2**30  # of a larger set decoded rows are not kept
Arrays = tuple[np.ndarray, np.ndarray]


def read(name: str, directory: pathlib.Path) -> tuple[Arrays, Arrays]:
    """Images [N, H, W, channels] uint8 and labels [N] int32 for training and test.

    Decoding is what takes time: 12 s for MNIST's 70,000 images. Where compiled programs
    are kept (`compilation.keep`), so are decoded rows, and reading those takes 0.1 s.

    Args:
      name: of a prepared set in `directory`.
      directory: a TFDS data directory.

    Raises:
      InputError: not image classification, images of different shapes, no split
        `train` or `test`, or files that cannot be read.
    """
    with _quiet():
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder(name, data_dir=str(directory))
            features: Any = builder.info.features or {}
            if not {"image", "label"} <= set(features):
                raise InputError(
                    f"{name!r} is not an image-classification set: it has "
                    f"{sorted(features)}, and 'image' and 'label' are needed"
                )
            kept = _kept_at(name, pathlib.Path(builder.data_path))
            rows = kept and _kept(kept)
            if rows:
                return rows
            rows = _decoded(builder, "train"), _decoded(builder, "test")
        except (OSError, NotImplementedError) as error:
            raise InputError(f"cannot read {name!r} in {directory}: {error}") from error
    if kept and sum(x.nbytes for x, _ in rows) <= _KEPT_BYTES:
        # A folder that cannot be written costs decoding each time, no more.
        with contextlib.suppress(OSError):
            _keep(kept, *rows)
    return rows


def _decoded(builder: Any, split: str) -> Arrays:
    if split not in builder.info.splits:
        raise InputError(
            f"{builder.name!r} has no split {split!r}, only {list(builder.info.splits)}"
        )
    source = builder.as_data_source(split)
    images, labels = [], []
    # In order and many at once: single random reads decompress a group each.
    for start in range(0, len(source), _AT_ONCE):
        read = source.__getitems__(range(start, min(start + _AT_ONCE, len(source))))
        shapes = {row["image"].shape for row in read}
        shapes |= {part.shape[1:] for part in images[:1]}
        if len(shapes) > 1:
            raise InputError(
                f"{builder.name!r}: images of different shapes, {sorted(shapes)[0]} "
                f"and {sorted(shapes)[1]}; one is needed"
            )
        images.append(np.stack([row["image"] for row in read]))
        labels.append(np.array([row["label"] for row in read], np.int32))
    return np.concatenate(images), np.concatenate(labels)


def _kept_at(name: str, prepared: pathlib.Path) -> pathlib.Path | None:
    """The file of this set's decoded rows; None where nothing is kept.

    A set that is prepared anew has files of other times, and so another name here.
    """
    folder = compilation.folder()
    if folder is None:
        return None
    files = [
        (str(file), file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(prepared.iterdir())
    ]
    digest = hashlib.blake2b(repr(files).encode(), digest_size=8).hexdigest()
    return folder / f"rows-{name.replace('/', '-')}-{digest}.npz"


def _kept(path: pathlib.Path) -> tuple[Arrays, Arrays] | None:
    """The rows of a file that `_keep` wrote; None where it is missing or damaged."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return (file["xtr"], file["ytr"]), (file["xte"], file["yte"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _keep(path: pathlib.Path, train: Arrays, test: Arrays) -> None:
    """Raises OSError where the file cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        np.savez(file, xtr=train[0], ytr=train[1], xte=test[0], yte=test[1])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
