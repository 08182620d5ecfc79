"""Architectures found on one data set, trained anew on another."""

import dataclasses
from collections.abc import Sequence

from dnc_jax.errors import InputError
from dnc_jax.networks import CNN, MLP, Architecture
from dnc_jax.search.dimensions import Choice
from dnc_jax.search.network_space import NetworkSpace, fitting
from dnc_jax.search.space import Candidate, CustomSpace
from dnc_jax.training import Hyperparameters
from dnc_jax.training.data import Dataset


def adapted(architecture: Architecture, data: Dataset) -> MLP | CNN:
    """The same hidden layers between the inputs and outputs of `data`.

    A sparse junction of another size gets the nearest possible density of its family.

    Raises:
      InputError: a CNN, and the examples are not images [H, W, channels].
    """
    shape = data.train.x.shape[1:]
    if isinstance(architecture, MLP):
        moved = dataclasses.replace(architecture, inputs=data.inputs, sparsity=())
    elif len(shape) == 3:
        moved = dataclasses.replace(architecture, image=shape, sparsity=())
    else:
        raise InputError(
            f"{architecture} takes images [H, W, channels], and the examples of "
            f"{data.name} have shape {shape}"
        )
    moved = dataclasses.replace(moved, outputs=data.outputs)
    fitted = tuple(
        one and fitting(one.family, one.density, *junction)
        for one, junction in zip(architecture.sparsity, moved.junctions, strict=False)
    )
    return dataclasses.replace(moved, sparsity=fitted if any(fitted) else ())


def training_space(
    architectures: Sequence[Architecture], space: NetworkSpace
) -> CustomSpace:
    """Candidates with one of these architectures, trained in any way `space` knows.

    Deep-n-Cheap's third stage alone, which is what is left to search after a transfer.

    Args:
      architectures: at least one, as `adapted` returns them.
      space: its ranges of learning rate, weight decay and batch size are searched.

    Raises:
      InputError: no architectures.

    Reference: S. Dey et al., "Deep-n-Cheap" (2020), on search transfer.
    """
    if not architectures:
        raise InputError("a transfer needs at least one architecture, got none")
    # Named, because numbers would be near each other or far.
    choices = {f"{i}": one for i, one in enumerate(dict.fromkeys(architectures))}

    def build(
        architecture: str, learning_rate: float, weight_decay: float, batch_size: int
    ) -> Candidate:
        return Candidate(
            choices[architecture],
            Hyperparameters(learning_rate, weight_decay, batch_size),
        )

    names = Choice(tuple(choices))
    dimensions = {"architecture": names, **space.training_dimensions}
    return CustomSpace(dimensions, build)
