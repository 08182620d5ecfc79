"""Errors that a launch file turns into one line, and what often raises them."""

import importlib
import math
from collections.abc import Collection
from types import ModuleType
from typing import Any

import numpy as np


class InputError(ValueError):
    """A value from outside is unusable; its message says which, why and the remedy.

    Launch files print the message on one line and exit with code 2; any other
    exception is a defect and keeps its traceback.
    """


def check_whole(least: int, **values: Any) -> list[int]:
    """These arguments, by name, as Python's whole numbers.

    Raises:
      InputError: one is none, or less than `least`.
    """
    for name, value in values.items():
        if not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{name} must be a whole number >= {least}, got {value!r}")
    return list(map(int, values.values()))


def check_numbers(**values: Any) -> None:
    """These arguments, by name, must be numbers.

    Raises:
      InputError: one is a text, None, a list or the like.
    """
    for name, value in values.items():
        if not hasattr(value, "__float__") or np.ndim(value):
            raise InputError(f"{name} must be a number, got {value!r}")


def check_amounts(**values: Any) -> None:
    """These arguments, by name, must be finite numbers, at least 0.

    Raises:
      InputError: one is something else.
    """
    check_numbers(**values)
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise InputError(f"{name} must be a finite number >= 0, got {value:g}")


def check_known(known: Collection[str], **values: Any) -> None:
    """These arguments, by name, must be one of the known values.

    Raises:
      InputError: one is another.
    """
    for name, value in values.items():
        if not isinstance(value, str) or value not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def check_kind(kind: type, example: str, **values: Any) -> None:
    """These arguments, by name, must be of a type.

    Args:
      kind: the type.
      example: of how a value of it is made or where it is found.
      **values: of the arguments.

    Raises:
      InputError: one is of another type.
    """
    for name, value in values.items():
        if not isinstance(value, kind):
            raise InputError(
                f"{name} must be of the type {kind.__name__}, such as {example}, got "
                f"{type(value).__name__}"
            )


def load_tool(module: str, extra: str, package: str = "") -> ModuleType:
    """An optional module.

    Args:
      module: to import.
      extra: of dnc_jax that brings it.
      package: that holds it, where its name is another.

    Raises:
      InputError: it is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{package or module} is not installed; pip install 'dnc_jax[{extra}]' "
            "installs it"
        ) from error


class ProcessError(RuntimeError):
    """Another process of a search on several has ended, and this one cannot go on."""
