"""Trained networks on disk; data only, never code."""

import contextlib
import dataclasses
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax.errors import InputError, check_kind
from dnc_jax.files import new_folder
from dnc_jax.footprint.complexity import complexity
from dnc_jax.networks import Architecture, from_json, network, to_json
from dnc_jax.networks.patterns import Patterns
from dnc_jax.sparse import Pattern, from_edges
from dnc_jax.training import arrays
from dnc_jax.training.data import Dataset, normalise
from dnc_jax.training.hyperparameters import Hyperparameters
from dnc_jax.training.trainer import Trained
from dnc_jax.typing import Array, Params, Statistics

_DESCRIPTION, _PARAMS, _PATTERNS = "architecture.json", "params", "patterns.npz"
_UNREADABLE = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A trained network: call it on examples as they are stored.

    Equal to itself alone, as functions are, so that `jax.jit(network)` works.

    Attributes:
      architecture, hyperparameters: what it is and how it was trained.
      params: its weights; `network.apply` takes them.
      mean, scale: of the data it was trained on, applied by calling.
      example_shape: shape of one example.
      labels: of the classes, as the data has them; empty in regression.
      target_mean, target_scale: undone by calling in regression; empty otherwise.
      patterns: of its sparse junctions; empty for a dense network.
      statistics: of its batch norms; empty where there is none.
      columns: names of its features, where the data has them.
    """

    architecture: Architecture
    hyperparameters: Hyperparameters
    params: Params
    mean: np.ndarray
    scale: np.ndarray
    example_shape: tuple[int, ...]
    patterns: Patterns = ()
    labels: tuple[Any, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_scale: tuple[float, ...] = ()
    statistics: Statistics = ()
    columns: tuple[str, ...] = ()

    @classmethod
    def trained_on(
        cls,
        data: Dataset,
        architecture: Architecture,
        hyperparameters: Hyperparameters,
        trained: Trained,
    ) -> "Network":
        """The network with what `data` says of its inputs and outputs."""
        return cls(
            architecture,
            hyperparameters,
            trained.params,
            data.mean,
            data.scale,
            data.train.x.shape[1:],
            trained.patterns,
            data.labels,
            data.target_mean,
            data.target_scale,
            trained.statistics,
            data.columns,
        )

    def __repr__(self) -> str:
        """What it is; all its weights would say less."""
        parameters = complexity(self.architecture).parameters
        return f"<Network {self.architecture}, {parameters:,} parameters>"

    def __call__(self, x: Array) -> jax.Array:
        """Outputs [B, C] for raw examples [B, *example_shape], e.g. uint8 images.

        Logits of the classes, or predictions in the units of the targets.

        Raises:
          InputError: the examples have another shape.
        """
        outputs = self.standardised(x)
        if not self.target_mean:
            return outputs
        mean, scale = jnp.array([self.target_mean]), jnp.array([self.target_scale])
        return outputs / scale + mean

    def predict(self, x: Any) -> np.ndarray:
        """What the network says of raw examples [B, *example_shape].

        Labels [B] of the most probable classes, as the data has them (their indices
        where there are none), or predictions in the units of the targets, [B, C], or
        [B] of one target.

        Raises:
          InputError: the examples have another shape or other columns, or are no finite
            numbers.
        """
        outputs = np.asarray(self(self._checked(x)))
        if self.target_mean:
            return outputs[:, 0] if len(self.target_mean) == 1 else outputs
        best = outputs.argmax(1)
        return np.array(self.labels)[best] if self.labels else best

    def probabilities(self, x: Any) -> np.ndarray:
        """Of each class for raw examples, in the order of `labels`: [B, C].

        Raises:
          InputError: as `predict`, or the network predicts numbers.
        """
        if self.target_mean:
            raise InputError("this network predicts numbers and has no classes")
        return np.asarray(jax.nn.softmax(self(self._checked(x))))

    def _checked(self, x: Any) -> np.ndarray:
        columns = tuple(map(str, getattr(x, "columns", ())))
        if self.columns and columns and columns != self.columns:
            raise InputError(
                f"x has columns {', '.join(columns)}, the network was trained on "
                f"{', '.join(self.columns)}; give these, in their order: "
                "x[list(network.columns)]"
            )
        return arrays.numbers_of(x, "x")

    def standardised(self, x: Array) -> jax.Array:
        """As calling, but predictions in units of the training targets' spread.

        Raises:
          InputError: the examples have another shape.
        """
        if not isinstance(x, jax.Array):
            x = np.asarray(x)
            if x.dtype.kind in "iu" and x.itemsize > 4:
                x = x.astype(np.float32)  # JAX would keep the lower 32 bits
        x = jnp.asarray(x)
        if x.shape[1:] != self.example_shape or not x.ndim:
            raise InputError(
                f"examples have shape {x.shape}, this network takes "
                f"[B, {', '.join(map(str, self.example_shape))}]"
            )
        x = normalise(x, self.mean, self.scale)
        return network.apply(
            self.params, self.architecture, x, self.patterns, self.statistics
        )


def save(path: str | os.PathLike[str], trained: Network) -> None:
    """Writes a network to the folder `path`, replacing what was saved there before.

    The folder holds `architecture.json`, an Orbax checkpoint of the parameters and,
    for a sparse network, the edges of its patterns in `patterns.npz`. It appears
    whole or not at all, see `files.new_folder`.

    Raises:
      InputError: as `check_place`, or what is no network.
      OSError: it cannot be written; what was there before is kept.
    """
    check_kind(Network, "winner.network", trained=trained)
    check_place(path)
    description = {
        "architecture": to_json(trained.architecture),
        "hyperparameters": dataclasses.asdict(trained.hyperparameters),
        "preprocessing": {
            "mean": trained.mean.tolist(),
            "scale": trained.scale.tolist(),
            "example_shape": list(trained.example_shape),
            "columns": list(trained.columns),
        },
        "labels": list(trained.labels),
        "target_mean": trained.target_mean,
        "target_scale": trained.target_scale,
    }
    with new_folder(path) as folder:
        (folder / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        if trained.patterns:
            np.savez(folder / _PATTERNS, allow_pickle=False, **_edges(trained.patterns))
        params = _named(trained.params, trained.statistics)
        with _simply_named(folder) as link, _checkpointer() as checkpointer:
            checkpointer.save(link / _PARAMS, params)


def check_place(
    path: str | os.PathLike[str],
    names: tuple[str, ...] = (_DESCRIPTION, _PARAMS, _PATTERNS),
) -> None:
    """Whether a folder may be written at `path`, in place of one of its kind.

    Args:
      path: of the folder.
      names: of what such a folder holds; each has the first, a file.

    Raises:
      InputError: `path` holds something else, which would be lost.
    """
    path = pathlib.Path(path)
    inside = {one.name for one in path.iterdir()} if path.is_dir() else set()
    is_file = path.exists() and not path.is_dir()
    if is_file or (inside and not (path / names[0]).is_file()):
        raise InputError(
            f"{path} exists and holds no {names[0]}: it is something else than would "
            "be replaced; move it away, or name a new folder"
        )
    if others := sorted(inside - {*names, "__pycache__"}):
        raise InputError(
            f"{path} holds {others[0]} too, which would be lost; move it away, or name "
            "a new folder"
        )


def load(path: str | os.PathLike[str]) -> Network:
    """The network that `save` wrote, ready to be called.

    Raises:
      InputError: there is none, or it is damaged.
    """
    path = pathlib.Path(path).absolute()
    if (path / "best" / _DESCRIPTION).is_file():
        raise InputError(f"{path} holds a search; its network is in {path / 'best'}")
    try:
        description = json.loads((path / _DESCRIPTION).read_text())
        architecture = from_json(description["architecture"])
        hyperparameters = Hyperparameters(**description["hyperparameters"])
        preprocessing = description["preprocessing"]
        patterns = _load_patterns(path / _PATTERNS, architecture)
        template = jax.eval_shape(
            lambda key: _named(
                network.init(key, architecture, patterns),
                network.statistics(architecture),
            ),
            jax.random.key(0),
        )
        with _simply_named(path) as link, _checkpointer() as checkpointer:
            stored = checkpointer.restore(link / _PARAMS, template)
        # Orbax compares no shapes of what was NumPy's when it was saved.
        shapes, wanted = (jax.tree.map(np.shape, tree) for tree in (stored, template))
        if shapes != wanted:
            raise ValueError(f"parameters of shapes {shapes}, not {wanted}")
        return Network(
            architecture,
            hyperparameters,
            _listed(stored, "junction"),
            np.asarray(preprocessing["mean"], np.float32),
            np.asarray(preprocessing["scale"], np.float32),
            tuple(preprocessing["example_shape"]),
            patterns,
            tuple(description["labels"]),
            tuple(description["target_mean"]),
            tuple(description["target_scale"]),
            _listed(stored, "running"),
            tuple(preprocessing.get("columns", ())),
        )
    except _UNREADABLE as error:
        raise InputError(f"no readable network in {path}: {error}") from error


def _edges(patterns: Patterns) -> dict[str, np.ndarray]:
    """Input and output block of every edge, [2, E] int32, by junction."""
    return {
        f"junction_{i:02d}": np.stack(pattern.edge_list())
        for i, pattern in enumerate(patterns)
        if pattern
    }


def _load_patterns(path: pathlib.Path, architecture: Architecture) -> Patterns:
    if not architecture.sparsity:
        return ()
    patterns: list[Pattern | None] = [None] * len(architecture.sparsity)
    with np.load(path, allow_pickle=False) as edges:
        for i, sparsity in enumerate(architecture.sparsity):
            if sparsity:
                sources, outputs = edges[f"junction_{i:02d}"]
                n_in, n_out = architecture.junctions[i]
                patterns[i] = from_edges(sources, outputs, n_in, n_out, sparsity.block)
    network.check(architecture, tuple(patterns))
    return tuple(patterns)


@contextlib.contextmanager
def _simply_named(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folder, or a link to it instead of a name with brackets or backslashes.

    Orbax takes a path for a pattern, and with brackets loses what it has written;
    TensorStore takes backslashes for slashes.
    """
    if not set("[]\\") & set(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory() as elsewhere:
        link = pathlib.Path(elsewhere, "folder")
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _checkpointer() -> Any:
    """For this process by itself: Orbax would wait for all the others."""
    import orbax.checkpoint as ocp  # a third of a second, for those who save or load

    number = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=number,
        active_processes={number},
        barrier_sync_key_prefix=f"process_{number}",
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _named(params: Params, statistics: Statistics) -> dict[str, Any]:
    """Junctions and running statistics by name, so that any tool shows them well."""
    trees = {"junction": params, "running": statistics}
    return {
        f"{name}_{i:02d}": dict(layer)
        for name, tree in trees.items()
        for i, layer in enumerate(tree)
    }


def _listed(stored: dict[str, Any], name: str) -> tuple[Any, ...]:
    keys = [key for key in stored if key.startswith(name)]
    # By number: as text, junction_100 comes before junction_11.
    keys.sort(key=lambda key: int(key.rpartition("_")[2]))
    return tuple(stored[key] for key in keys)
