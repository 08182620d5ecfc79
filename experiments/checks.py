"""What a config must be, checked before anything is made of it."""

import contextlib
import inspect
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

import ml_collections

from dnc_jax.errors import InputError, check_whole

T = TypeVar("T")

# Sections whose fields depend on what they describe.
_OPEN = ("space", "search", "objective", "network")


def check(config: Any, default: Any) -> None:
    """Whether `config` has what the default config has, of the same types.

    A section in which a launch file looks up nothing itself need not be complete.

    Raises:
      InputError: names the field, what it is and what it should be.
    """
    if not isinstance(config, ml_collections.ConfigDict):
        getattr(config, "seed", None)  # raises what kept the file from being loaded
        raise InputError(
            f"get_config() of the config must return a ConfigDict, got {config!r}"
        )
    _check(config, default, "")
    seed: Any = config.seed
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must lie in [0, 2**32), got {seed}")
    train: Any = config.train
    with named("train", ("epochs",)):
        check_whole(1, epochs=train.epochs)


def _check(config: Any, default: Any, prefix: str) -> None:
    section = prefix.rstrip(".")
    unknown = set(config) - set(default)
    if section and section not in _OPEN and unknown:
        raise InputError(
            f"unknown config field {prefix}{min(unknown)}; known: {', '.join(default)}"
        )
    for name, example in default.items():
        field = f"{prefix}{name}"
        if name not in config:
            if section in _OPEN or (section == "data" and name != "name"):
                continue
            raise InputError(
                f"the config has no field {field}; it needs one, or is a config of "
                "another command"
            )
        value = config[name]
        if isinstance(example, ml_collections.ConfigDict):
            if not isinstance(value, ml_collections.ConfigDict):
                raise InputError(f"{field} must be a section of fields, got {value!r}")
            _check(value, example, f"{field}.")
        elif not _alike(value, example):
            raise InputError(f"{field} must be like {example!r}, got {value!r}")


def _alike(value: Any, example: Any) -> bool:
    """Of one type, whole numbers being numbers; in a tuple, each like one in it."""
    if isinstance(example, tuple | list):
        return isinstance(value, tuple | list) and (
            not example or all(any(_alike(v, e) for e in example) for v in value)
        )
    if isinstance(value, bool) or isinstance(example, bool):
        return isinstance(value, bool) and isinstance(example, bool)
    if isinstance(example, float):
        return isinstance(value, int | float)
    return example is None or isinstance(value, type(example))


def call(
    function: Callable[..., T],
    config: Any,
    section: str,
    *arguments: Any,
    **keywords: Any,
) -> T:
    """`function` of the arguments, and by name of the fields of a section.

    Raises:
      InputError: it does not take these fields, or as it does.
    """
    fields = config[section].to_dict() | keywords
    try:
        inspect.signature(function).bind(*arguments, **fields)
    except TypeError as error:
        raise InputError(f"config.{section}: {error}") from error
    with named(section, fields):
        return function(*arguments, **fields)


@contextlib.contextmanager
def named(section: str, fields: Collection[str]) -> Iterator[None]:
    """Says `search.batch` where the library says `batch`, as the config is written."""
    try:
        yield
    except InputError as error:
        first = re.match(r"\w+", str(error))
        if first and first[0] in fields:
            raise InputError(f"{section}.{error}") from error
        raise
