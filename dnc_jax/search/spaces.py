"""The spaces of networks by name; a new kind is one entry here."""

import inspect
from collections.abc import Callable
from typing import Any

from dnc_jax.errors import InputError, check_known
from dnc_jax.plain import plain
from dnc_jax.search.cnn_space import CNNSpace
from dnc_jax.search.constraints import Constraints
from dnc_jax.search.mlp_space import MLPSpace
from dnc_jax.search.network_space import NetworkSpace
from dnc_jax.search.space import CustomSpace, Space
from dnc_jax.training.data import Dataset

SPACES: dict[str, Callable[..., NetworkSpace]] = {"mlp": MLPSpace, "cnn": CNNSpace}


def make_space(data: Dataset, kind: str = "mlp", **fields: Any) -> NetworkSpace:
    """The space of this kind for a data set, with batches of at most its rows.

    Args:
      data: gives inputs and outputs.
      kind: a name in `SPACES`.
      fields: of the space, as keyword arguments of its class.

    Raises:
      InputError: an unknown kind, a field that it has not, an impossible value, or a
        CNN for examples that are no images [H, W, channels].
    """
    space = _known(kind)
    given = data.train.x.shape[1:] if space is CNNSpace else data.inputs
    own = [one for one in inspect.signature(space).parameters if one not in _GIVEN]
    if unknown := fields.keys() - set(own):
        raise InputError(
            f"{min(unknown)}: a space of kind {kind!r} has no such field, only "
            f"{', '.join(own)}"
        )
    return space(given, data.outputs, **fields).limited_to(len(data.train.y))


def space_from_json(
    data: dict[str, Any], function: Callable[..., Any] | None = None
) -> Space:
    """The space that `to_json` described, with its limits if it has any.

    >>> space_from_json({"kind": "mlp", "inputs": 64, "outputs": 10}).depth
    (0, 3)

    Args:
      data: as `to_json` made it.
      function: of a `CustomSpace`, which no file holds.

    Raises:
      InputError: an unknown kind, a field that is not one of the space's or of the
        limits', a custom space without its function.
    """
    fields = {name: plain(value) for name, value in data.items()}
    limits = fields.pop("constraints", {})
    if fields.get("kind") == "custom" and not function:
        raise InputError(
            "a custom space is read with its function: space_from_json(data, function)"
        )
    try:
        constraints = Constraints(**limits)
        if function:
            space: Space = CustomSpace.from_json(fields, function)
        else:
            space = _known(str(fields.pop("kind", "")))(**fields)
    except TypeError as error:
        raise InputError(f"not the description of a space: {error}") from error
    return constraints.limited(space)


_GIVEN = ("inputs", "image", "outputs")


def _known(kind: str) -> Callable[..., NetworkSpace]:
    check_known(SPACES, kind=kind)
    return SPACES[kind]
