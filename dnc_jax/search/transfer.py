"""Architectures found on one data set, trained anew on another."""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise

from dnc_jax.errors import InputError
from dnc_jax.networks import CNN, MLP, Architecture, Sparsity
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
    if isinstance(architecture, MLP):
        sizes = (data.inputs, *architecture.hidden, data.outputs)
        fitted = _fitted(architecture, tuple(pairwise(sizes)))
        return dataclasses.replace(
            architecture, inputs=data.inputs, outputs=data.outputs, sparsity=fitted
        )
    shape = data.train.x.shape[1:]
    if len(shape) != 3:
        raise InputError(
            f"{architecture} takes images [H, W, channels], and the examples of "
            f"{data.name} have shape {shape}"
        )
    widths = (shape[2], *architecture.channels, data.outputs)
    return dataclasses.replace(
        architecture,
        image=shape,
        outputs=data.outputs,
        sparsity=_fitted(architecture, tuple(pairwise(widths))),
    )


def _fitted(
    architecture: Architecture, junctions: Sequence[tuple[int, int]]
) -> tuple[Sparsity | None, ...]:
    fitted = tuple(
        one and fitting(one.family, one.density, *junction)
        for one, junction in zip(architecture.sparsity, junctions, strict=False)
    )
    return fitted if any(fitted) else ()


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
