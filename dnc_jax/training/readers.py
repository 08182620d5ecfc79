"""Where rows come from: one function for each kind of source, looked up by name.

Each returns the training and the test rows as `(x [N, ...], y [N])`, as stored and not
yet checked; `data.from_arrays` does that.
"""

import csv
import math
import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.training import image_sets
from dnc_jax.training.rows import FileRows

_TRUTHS = {"true": 1, "false": 0}
DEFAULT_DIR = os.path.join("~", "tensorflow_datasets")
Arrays = tuple[np.ndarray | FileRows, np.ndarray]


class Source(NamedTuple):
    """Where to read, as the arguments of `read` have it."""

    name: str
    data_dir: str
    test: str
    target: str


class Read(NamedTuple):
    """What was read.

    Attributes:
      train, test: rows; None where test rows are to be taken out of the others.
      columns: names of the features, where they have any.
      channels_last: whether it is known that images have their channels last.
    """

    train: Arrays
    test: Arrays | None
    columns: tuple[str, ...] = ()
    channels_last: bool = False


class Reader(NamedTuple):
    """A source of training and test rows.

    Attributes:
      read: raises an InputError that says what is wrong with the rows.
      table: whether `Source.test` and `Source.target` mean something to it.
    """

    read: Callable[[Source], Read]
    table: bool = False


def read(name: str, *, data_dir: str = "", test: str = "", target: str = "") -> Read:
    """Training and test rows of a data set.

    Args:
      name: `digits`, an `.npz` or `.csv` file, a folder with `xtr.npy` or shards of it,
        or a TFDS set in `data_dir`.
      data_dir: a TFDS data directory; empty means ~/tensorflow_datasets.
      test: another `.csv` file with the test rows; empty: a fifth of `name`'s rows,
        of each class, the same ones always.
      target: the column of a `.csv` file to predict; empty: the last one.

    Raises:
      InputError: unknown name, missing directory or file, or unreadable rows.
    """
    path = pathlib.Path(name)
    reader = READERS.get(name) or READERS.get(path.suffix)
    if not reader:
        reader = Reader(_folder if any(path.glob("xtr*.npy")) else _image_set)
    if not reader.table and (test or target):
        tables = [known for known, one in READERS.items() if one.table]
        raise InputError(
            f"test and target are for {', '.join(tables)} files, and the name is "
            f"{name!r}"
        )
    return reader.read(Source(name, data_dir, test, target))


def _csv(source: Source) -> Read:
    x, y, columns = _table(pathlib.Path(source.name), source.target)
    target = source.target or columns[-1]
    features = tuple(name for name in columns if name != target)
    if source.test:
        other_x, other_y, other_columns = _table(pathlib.Path(source.test), target)
        if columns != other_columns:
            raise InputError(
                f"{source.test} has columns {', '.join(other_columns)}, {source.name} "
                f"has {', '.join(columns)}; they must agree"
            )
        return Read((x, y), (other_x, other_y), features)
    return Read((x, y), None, features)


def _table(path: pathlib.Path, target: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features [N, D] float64, targets [N] and the columns of a file with a header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            columns, *lines = csv.reader(file, strict=True)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except ValueError as error:
        raise InputError(f"{path} is empty; a header and rows are needed") from error
    if not columns:
        raise InputError(f"{path} begins with an empty line; a header is needed there")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise InputError(
            f"{path} has more than one column {twice[0]!r}; rename or remove one"
        )
    if not all(name.strip() for name in columns):
        raise InputError(
            f"{path} has a column without a name, such as the index of a data frame, "
            "which is no feature: to_csv(index=False) leaves it out"
        )
    target = target or columns[-1]
    if target not in columns:
        raise InputError(
            f"{path} has no column {target!r}, only {', '.join(columns)}; name the one "
            "to predict as the target"
        )
    if len(columns) < 2:
        other = next((repr(d) for d in ";\t|" if d in columns[0]), "")
        raise InputError(
            f"{path} has one column; features and a target are needed"
            + (f"; columns are parted by commas, not by {other}" if other else "")
        )
    place = columns.index(target)
    names = [name for name in columns if name != target]
    if all(map(_is_number, names)) and not _counts(names):
        raise InputError(
            f"{path} begins with {', '.join(columns)}, which looks like a row; names "
            "of the columns are needed there"
        )
    # By number, as an editor counts lines; empty ones, as at the end, are no rows.
    rows = {number: row for number, row in enumerate(lines, start=2) if any(row)}
    x = np.empty((len(rows), len(names)), np.float64)
    for into, (number, row) in zip(x, rows.items(), strict=True):
        if len(row) != len(columns):
            raise InputError(
                f"{path}, row {number}: {len(row)} values for {len(columns)} columns"
            )
        if not row[place].strip():
            raise InputError(
                f"{path}, row {number}: no value in column {target!r}, which is to be "
                "predicted; remove the row"
            )
        features = row[:place] + row[place + 1 :]
        try:
            into[:] = features
        except ValueError:  # one by one takes long
            into[:] = list(map(_number, features))
        finite = np.isfinite(into)
        if not finite.all():
            bad = int(finite.argmin())
            what = (
                f"{features[bad]!r} is not a finite number; encode the column, as "
                "pandas.get_dummies does, or remove it"
                if features[bad].strip()
                else "no value; fill it in, or remove the row or the column"
            )
            raise InputError(f"{path}, row {number}, column {names[bad]!r}: {what}")
    return x, _parsed([row[place] for row in rows.values()]), columns


def _counts(names: list[str]) -> bool:
    """Whether these are whole numbers one after another, as pixels or years are."""
    numbers = list(map(float, names))
    return len(names) > 1 and numbers == [numbers[0] + i for i in range(len(names))]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> float:
    """Of true and false 1 and 0, of other words NaN."""
    try:
        return float(_TRUTHS.get(text.strip().lower(), text))
    except ValueError:
        return math.nan


def _parsed(texts: list[str]) -> np.ndarray:
    """As integers if all are, else as numbers if all are, else as names."""
    for kind in (np.int64, np.float64):
        try:
            return np.array(texts).astype(kind)
        except (ValueError, OverflowError):  # of more digits than an integer has
            continue
    return np.array(texts)


def _digits(source: Source) -> Read:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    x, y = bunch.images.astype(np.uint8)[..., None], bunch.target
    test = np.sort(stratified(y, 0.2, np.random.default_rng([0, 0x5B117])))
    fit = np.setdiff1d(np.arange(len(y)), test)
    return Read((x[fit], y[fit]), (x[test], y[test]), channels_last=True)


def stratified(
    labels: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Row numbers of `fraction` of every class, at least one of each: [n] int."""
    held_out = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        held_out.append(rows[: max(1, round(fraction * len(rows)))])
    return np.concatenate(held_out)


def _npz(source: Source) -> Read:
    path = pathlib.Path(source.name)
    try:
        # Opened here: np.load leaves a file that is no archive open.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = {"xtr", "ytr", "xte", "yte"} - set(file.files)
            if missing:
                raise InputError(
                    f"{path}: no array {', '.join(sorted(missing))}; an .npz data set "
                    f"holds xtr, ytr, xte and yte, this one {', '.join(file.files)}"
                )
            return Read((file["xtr"], file["ytr"]), (file["xte"], file["yte"]))
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, RuntimeError) as error:
        # zipfile refuses encryption and unknown compression by a RuntimeError.
        raise InputError(f"cannot read {path}: {error}") from error


def _folder(source: Source) -> Read:
    """Rows that stay in their files; of each array, in the order of the files' names.

    Labels are read at once.
    """
    folder = pathlib.Path(source.name)
    x, y = (
        {part: _mapped(folder, kind + part) for part in ("tr", "te")} for kind in "xy"
    )
    (train, test) = (
        (FileRows(x[part]), np.concatenate(y[part])) for part in ("tr", "te")
    )
    return Read(train, test)


def _mapped(folder: pathlib.Path, name: str) -> list[np.ndarray]:
    """The files of one array, of examples of one shape and type."""
    paths = sorted(folder.glob(f"{name}*.npy"))
    if not paths:
        raise InputError(
            f"{folder} has no file {name}.npy, nor shards {name}-00000.npy and so on; "
            "a data set in a folder has xtr, ytr, xte and yte"
        )
    files = []
    for path in paths:
        try:
            files.append(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"cannot read {path}: {error}") from error
        one, other = files[0], files[-1]
        if not other.ndim or (one.shape[1:], one.dtype) != (
            other.shape[1:],
            other.dtype,
        ):
            raise InputError(
                f"{path} holds an array {other.shape} of {other.dtype}, {paths[0].name}"
                f" one {one.shape} of {one.dtype}; shards differ in their number of "
                "rows only"
            )
    return files


def _known() -> str:
    """What needs no data directory, in words."""
    files = " or ".join(name for name in READERS if name.startswith("."))
    sets = ", ".join(name for name in READERS if not name.startswith("."))
    return f"{sets} (embedded), any {files} file, a folder with xtr.npy or shards of it"


def _image_set(source: Source) -> Read:
    name = source.name
    directory = pathlib.Path(source.data_dir or DEFAULT_DIR).expanduser()
    if not directory.is_dir():
        raise InputError(
            f"unknown data set {name!r}; known: {_known()}; for a TFDS set name its "
            f"data directory (data.dir in configs), since {directory} does not exist"
        )
    known = sorted(path.parent.name for path in directory.glob("*/[0-9]*.*"))
    if name not in known:
        raise InputError(
            f"unknown data set {name!r}; known: {_known()}"
            + (f", and in {directory}: {', '.join(known)}" if known else "")
            + "; TFDS prepares others with "
            f"tfds.builder({name!r}, file_format='array_record')"
            ".download_and_prepare()"
        )
    return Read(*image_sets.read(name, directory), channels_last=True)


# By name, or by the ending of a file's; any other name is a folder of arrays or a TFDS
# set. A new source is one function and one entry.
READERS: dict[str, Reader] = {
    "digits": Reader(_digits),
    ".npz": Reader(_npz),
    ".csv": Reader(_csv, table=True),
}
