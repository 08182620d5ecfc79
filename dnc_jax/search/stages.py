"""What Deep-n-Cheap searches in which stage, for each space of networks.

Reference: S. Dey et al., "Deep-n-Cheap" (2020), sections on the three stages.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.footprint import complexity
from dnc_jax.networks import presets
from dnc_jax.search import similarity
from dnc_jax.search.cnn_space import CNNSpace
from dnc_jax.search.constraints import Limited
from dnc_jax.search.dimensions import Choice, Dimension, Integer, Real, is_active
from dnc_jax.search.mlp_space import MLPSpace
from dnc_jax.search.space import Candidate, Space, Values

# How alike each of n candidates is to each of m, [n, m]; a scale is the last argument.
Similarity = Callable[[Sequence[Candidate], Sequence[Candidate], float], np.ndarray]

TRAINING = ("learning_rate", "weight_decay", "batch_size")


class Stages(NamedTuple):
    """The three stages of one space.

    Attributes:
      architecture: the dimensions of stage 1.
      grids: those of stage 2, group by group; a group's are varied together.
      preset: `preset(values)` adds to values of stage 1 what the later stages search.
      alike: the kernel of stage 1.
      alike_training: the kernel of stage 3.
    """

    architecture: tuple[str, ...]
    grids: tuple[tuple[str, ...], ...]
    preset: Callable[[Values], Values]
    alike: Similarity
    alike_training: Similarity


def stages(space: Space) -> Stages:
    """The stages of a space of networks, limited by constraints or not.

    Raises:
      InputError: a space of another kind, which has no stages.
    """
    inner = space.space if isinstance(space, Limited) else space
    if isinstance(inner, MLPSpace):
        return _of_mlps(inner)
    if isinstance(inner, CNNSpace):
        return _of_cnns(inner)
    raise InputError(
        f"greedy searches an MLPSpace or a CNNSpace, got {type(inner).__name__}; "
        "bayes searches any space"
    )


def grid(space: Space, group: Sequence[str], values: Values) -> list[Values]:
    """The values with every combination of a group's dimensions, where active."""
    some = [one for one in group if one in space.dimensions]
    found: list[Values] = []
    for chosen in itertools.product(*(_levels(space.dimensions[n]) for n in some)):
        changed = {**values, **dict(zip(some, chosen, strict=True))}
        active = {
            name: value
            for name, value in changed.items()
            if is_active(space.dimensions[name], changed)
        }
        if active not in found:
            found.append(active)
    return found


def grid_size(space: Space, group: Sequence[str]) -> int:
    """The most values that `grid` gives of a group."""
    some = [space.dimensions[name] for name in group if name in space.dimensions]
    return math.prod(len(_levels(one)) for one in some)


def _levels(one: Dimension) -> tuple[Any, ...]:
    """What a grid tries: every choice, or six numbers from end to end."""
    if isinstance(one, Choice):
        return one.values
    return tuple(dict.fromkeys(one.decode(np.linspace(0, 1, 6))))


def _of_mlps(space: MLPSpace) -> Stages:
    dimensions = space.dimensions

    def preset(values: Values) -> Values:
        settings: Values = {}
        if values["depth"]:
            settings["activation"] = _choice(dimensions["activation"], "relu")
            settings["dropout"] = min(max(0.2, space.dropout[0]), space.dropout[1])
        return _trained(space, {**values, **settings}, 1e-9, 10_000)

    by_layers = partial(
        similarity.of_hidden,
        depth=(space.depth[0], space.depth[1]),
        widest=space.width[1],
    )
    prefixes, grids = ("depth", "width", "density"), (("activation",), ("dropout",))
    return _stages(space, prefixes, grids, preset, by_layers)


def _of_cnns(space: CNNSpace) -> Stages:
    dimensions = space.dimensions
    kinds = tuple(n for n in dimensions if n.startswith("downsampling"))

    def preset(values: Values) -> Values:
        depth = values["depth"]
        settings = {
            "activation": _choice(dimensions["activation"], "relu"),
            **{kind: _choice(dimensions[kind], "pool") for kind in kinds},
            "batch_norm": _choice(dimensions["batch_norm"], 1.0),
            "dropout": _choice(dimensions["dropout"], 1.0),
            "dropout_rate": _choice(dimensions["dropout_rate"], 0.3),
            "dropout_first": _choice(dimensions["dropout_first"], 0.1),
            "shortcuts": _choice(
                dimensions["shortcuts"], presets.shortcut_distance(depth)
            ),
        }
        if not settings["dropout"]:
            del settings["dropout_rate"], settings["dropout_first"]
        return _trained(space, {**values, **settings}, 1e-11, 1_000_000)

    first = space.first_channels
    limits = [
        (first[0], min(first[1] * 2**layer, space.max_channels))
        for layer in range(space.depth[1])
    ]

    by_layers = partial(similarity.of_layers, limits=limits)
    prefixes = ("depth", "channels", "widening", "halvings", "density")
    grids = (
        ("activation",),
        kinds,
        ("batch_norm",),
        ("dropout", "dropout_rate", "dropout_first"),
        ("shortcuts",),
    )
    return _stages(space, prefixes, grids, preset, by_layers)


def _stages(
    space: MLPSpace | CNNSpace,
    prefixes: tuple[str, ...],
    grids: Sequence[tuple[str, ...]],
    preset: Callable[[Values], Values],
    by_layers: Callable[..., np.ndarray],
) -> Stages:
    """With the dimensions that the authors do not have as grids of their own, last.

    Args:
      prefixes: what the names of stage 1 begin with.
      by_layers: how alike networks are by their layers, of `similarity`.
    """

    def alike(
        ones: Sequence[Candidate], others: Sequence[Candidate], scale: float
    ) -> np.ndarray:
        layers = ([c.architecture.sizes[1:-1] for c in of] for of in (ones, others))
        found = by_layers(*layers, scale=scale)
        if space.densities == (1.0,):
            return found
        # Where net densities are searched, the mean with the similarity of these.
        a, b = (np.array([c.architecture.density for c in of]) for of in (ones, others))
        return (found + similarity.of_numbers(a[:, None], b, 0, 1, 1, scale)) / 2

    dimensions = space.dimensions
    architecture = tuple(name for name in dimensions if name.startswith(prefixes))
    named = {*architecture, *itertools.chain(*grids), *TRAINING}
    others = ((name,) for name in dimensions if name not in named)
    grids = (*grids, *others)
    return Stages(architecture, grids, preset, alike, _alike_training(space))


def _trained(
    space: MLPSpace | CNNSpace, values: Values, decay: float, least: int
) -> Values:
    """With the rate and batch size preset, and a weight decay by parameters.

    A dimension that no stage names takes its first choice, or its middle.
    """
    values = dict(values)
    for name, one in space.dimensions.items():
        if name not in values and name not in TRAINING and is_active(one, values):
            first = isinstance(one, Choice)
            values[name] = one.values[0] if first else one.decode(np.array([0.5]))[0]
    batch = space.dimensions["batch_size"]
    sizes = batch.values if isinstance(batch, Choice) else (batch.low, batch.high)
    size = 256
    if isinstance(batch, Choice) or not sizes[0] <= size <= sizes[1]:
        size = min(sizes, key=lambda one: abs(np.log(one / 256)))
    trained = {
        **values,
        "learning_rate": min(max(1e-3, space.learning_rate[0]), space.learning_rate[1]),
        "weight_decay": 0.0,
        "batch_size": size,
    }
    count = complexity(space.build(trained).architecture).parameters
    decay = count * decay if count >= least else 0.0
    allowed = space.dimensions["weight_decay"]
    assert isinstance(allowed, Real)
    lowest = 0.0 if allowed.zero_below else allowed.low
    return {**trained, "weight_decay": min(max(decay, lowest), allowed.high)}


def _choice(one: Dimension, wanted: Any) -> Any:
    """The wanted value, or the first if it is not among the choices."""
    assert isinstance(one, Choice)
    return wanted if wanted in one.values else one.values[0]


def _alike_training(space: MLPSpace | CNNSpace) -> Similarity:
    def places(
        candidates: Sequence[Candidate], name: str, least: float | int
    ) -> np.ndarray:
        values = [getattr(c.hyperparameters, name) for c in candidates]
        if name == "batch_size":
            return np.array(values)
        return np.log10(np.maximum(values, least))  # a decay of 0 is the least

    def alike(
        ones: Sequence[Candidate], others: Sequence[Candidate], scale: float
    ) -> np.ndarray:
        total = np.zeros((len(ones), len(others)))
        for name in TRAINING:
            one = space.dimensions[name]
            assert isinstance(one, Real | Integer | Choice)
            sizes = one.values if isinstance(one, Choice) else (one.low, one.high)
            low, high = min(sizes), max(sizes)
            a, b = places(ones, name, low)[:, None], places(others, name, low)
            if name != "batch_size":
                low, high = math.log10(low), math.log10(high)
            total += similarity.of_numbers(a, b, low, high, 1, scale)
        return total / len(TRAINING)

    return alike
