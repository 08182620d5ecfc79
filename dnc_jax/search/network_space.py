"""What spaces of networks share: training, and the sparsity of their junctions."""

import dataclasses
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

from dnc_jax.errors import InputError, check_known, check_numbers, check_whole
from dnc_jax.networks import Sparsity
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.plain import make_plain
from dnc_jax.search.dimensions import Choice, Dimension, Integer, Real
from dnc_jax.search.space import Space, Values
from dnc_jax.sparse import FAMILIES
from dnc_jax.training import Hyperparameters

_WIDEST_BLOCK = 64  # outputs that share inputs: beyond that nothing gets faster


def fitting(family: str, density: float, n_in: int, n_out: int) -> Sparsity | None:
    """A possible pattern of about this density, in blocks that run fast.

    As many neighbouring outputs share their inputs, up to 64, as leaves every input in
    as many blocks as its family wants and the density within a tenth of what is asked
    for, if any do.

    Returns:
      None for a dense junction, which the nearest possible density may be.

    >>> fitting("balanced", 0.1, 784, 192)
    Sparsity(density=0.09948979591836735, block=(1, 16), family='balanced')
    """
    if density == 1:
        return None
    best: tuple[float, Sparsity | None] = (math.inf, None)
    cover = FAMILIES[family].cover
    widest = min(n_out, _WIDEST_BLOCK) if FAMILIES[family].blocks else 1
    for side in range(widest, 0, -1):
        if n_out % side or (side > 1 and density * (n_out // side) < cover):
            continue
        found = Sparsity.nearest(density, n_in, n_out, (1, side), family)
        error = abs(found.density / density - 1)
        if error < best[0]:
            best = (error, found if found.density < 1 else None)
        if error <= 0.1:
            break
    return best[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSpace(Space):
    """What spaces of networks share: how these are trained, and how sparse they are.

    Attributes:
      learning_rate: log-uniform.
      weight_decay: log-uniform; values in its lowest decade mean 0, unless it is all
        there is.
      batch_sizes: choices. Each is compiled for by itself, and with the learning
        rate tuned, neighbours in powers of two are hardly told apart; so few.
      any_batch_size: every whole number from the least to the largest of them instead.
      densities: choices for every junction but a CNN's first; 1 is dense. What a
        junction cannot have becomes what it can, in blocks that run fast.
      family: of the sparse patterns, one of `dnc_jax.sparse.FAMILIES`.
    """

    learning_rate: tuple[float, ...] = (1e-5, 1e-1)
    weight_decay: tuple[float, ...] = (1e-6, 1e-3)
    batch_sizes: tuple[int, ...] = (32, 128, 512)
    any_batch_size: bool = False
    densities: tuple[float, ...] = (1.0,)
    family: str = "balanced"

    _may_be_empty: ClassVar[tuple[str, ...]] = ()
    # Lower limits of the fields that are ranges.
    _least: ClassVar[dict[str, float]] = {"learning_rate": 1e-12, "weight_decay": 1e-12}

    def __post_init__(self) -> None:
        make_plain(self, type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, tuple) and not isinstance(value, tuple | list):
                raise InputError(
                    f"{field.name} must be a tuple like {field.default}, got {value!r}"
                )
        for name, least in self._least.items():
            pair = getattr(self, name)
            if len(pair) != 2:
                raise InputError(f"{name} must be (lower, upper), got {pair}")
            check_numbers(**{f"{name}[{end}]": value for end, value in enumerate(pair)})
            if not pair[0] <= pair[1]:
                raise InputError(
                    f"{name}: lower {pair[0]} > upper {pair[1]}; swap them"
                )
            if pair[0] < least:
                raise InputError(f"{name} must be >= {least}, got {pair[0]}")
        for field in dataclasses.fields(self):
            if getattr(self, field.name) == () and field.name not in self._may_be_empty:
                raise InputError(f"{field.name} must not be ()")
        for name in getattr(self, "activations", ()):
            check_known(ACTIVATIONS, activations=name)
        for size in self.batch_sizes:
            check_whole(1, batch_sizes=size)
        for density in self.densities:
            check_numbers(densities=density)
        if not all(0 < density <= 1 for density in self.densities):
            raise InputError(f"densities must lie in (0, 1], got {self.densities}")
        check_known(FAMILIES, family=self.family)

    def limited_to(self, rows: int) -> "NetworkSpace":
        """The space with batches of at most `rows`, the size of the training set."""
        sizes = tuple(dict.fromkeys(min(size, rows) for size in self.batch_sizes))
        return dataclasses.replace(self, batch_sizes=sizes)

    def to_json(self) -> dict[str, Any]:
        """A dict that `json.dumps` takes and `from_json` reads: the fields."""
        kind = type(self).__name__.removesuffix("Space").lower()
        return {"kind": kind, **dataclasses.asdict(self)}

    @property
    def training_dimensions(self) -> dict[str, Dimension]:
        """Those of how a network is trained."""
        sizes = sorted(self.batch_sizes)
        least, most = self.weight_decay
        return {
            "learning_rate": Real(
                self.learning_rate[0], self.learning_rate[1], log=True
            ),
            "weight_decay": Real(
                least,
                most,
                log=True,
                zero_below=10 * least if most > 10 * least else 0.0,
            ),
            "batch_size": Integer(sizes[0], sizes[-1])
            if self.any_batch_size
            else Choice(tuple(dict.fromkeys(self.batch_sizes))),
        }

    def _density(self, when: tuple[str, tuple[int, ...]] | None = None) -> Choice:
        return Choice(tuple(dict.fromkeys(self.densities)), when=when)

    def _sparsity(
        self, sizes: Sequence[int], densities: Sequence[float], first_family: str = ""
    ) -> tuple[Sparsity | None, ...]:
        """For each junction between these sizes."""
        families = [first_family or self.family, *[self.family] * (len(sizes) - 2)]
        fitted = tuple(
            fitting(family, density, *nodes)
            for family, density, nodes in zip(
                families, densities, pairwise(sizes), strict=True
            )
        )
        return fitted if any(fitted) else ()


def at_least(least: int, most: int) -> tuple[str, tuple[int, ...]] | None:
    """When a dimension matters: at these depths, at the `most`; None is always."""
    return ("depth", tuple(range(least, most + 1))) if least else None


def check_step(name: str, ends: Sequence[int], step: int) -> None:
    """Both ends of a range must be multiples of its step.

    Raises:
      InputError: they are not.
    """
    if step < 1 or any(end % step for end in ends):
        raise InputError(
            f"{name} = {tuple(ends)} must be multiples of "
            f"{'width' if name == 'width' else 'channel'}_step = {step}"
        )


def hyperparameters(values: Values) -> Hyperparameters:
    """Those that the training dimensions name."""
    return Hyperparameters(
        values["learning_rate"], values["weight_decay"], values["batch_size"]
    )
