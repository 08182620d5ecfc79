"""The one error that means "the input is wrong", as against "the program is"."""

from typing import Any

import numpy as np


class InputError(ValueError):
    """A value from outside is unusable; its message says which, why and the remedy.

    Launch files print the message on one line and exit with code 2; any other
    exception is a defect and keeps its traceback.
    """


def check_whole(least: int, **values: Any) -> None:
    """Whether these arguments, by name, are whole numbers and at least so large.

    Raises:
      InputError: one is not.
    """
    for name, value in values.items():
        if not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{name} must be a whole number >= {least}, got {value}")


class ProcessError(RuntimeError):
    """Another process of a search on several has ended, and this one cannot go on."""
