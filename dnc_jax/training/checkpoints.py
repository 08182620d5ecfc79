"""Trained networks on disk; data only, never code."""

import dataclasses
import json
import os
import pathlib
import shutil
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from dnc_jax.errors import InputError
from dnc_jax.networks import Architecture, from_json, mlp, to_json
from dnc_jax.networks.mlp import Patterns
from dnc_jax.sparse import Pattern, from_edges
from dnc_jax.training.data import Dataset, normalise
from dnc_jax.training.hyperparameters import Hyperparameters
from dnc_jax.typing import Array, Params

_DESCRIPTION, _PARAMS, _PATTERNS = "architecture.json", "params", "patterns.npz"
_UNREADABLE = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network: call it on examples as they are stored.

    Attributes:
      architecture, hyperparameters: what it is and how it was trained.
      params: its weights; `mlp.apply(params, architecture, x, patterns)` takes
        them.
      mean, scale: of the data it was trained on, applied by calling.
      example_shape: shape of one example.
      labels: of the classes, as the data named them; empty in regression.
      target_mean, target_scale: undone by calling in regression; empty otherwise.
      patterns: of its sparse junctions; empty for a dense network.
    """

    architecture: Architecture
    hyperparameters: Hyperparameters
    params: Params
    mean: np.ndarray
    scale: np.ndarray
    example_shape: tuple[int, ...]
    patterns: Patterns = ()
    labels: tuple[str, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_scale: tuple[float, ...] = ()

    @classmethod
    def trained_on(
        cls,
        data: Dataset,
        architecture: Architecture,
        hyperparameters: Hyperparameters,
        params: Params,
        patterns: Patterns = (),
    ) -> "Network":
        """The network with what `data` says of its inputs and outputs."""
        return cls(
            architecture,
            hyperparameters,
            params,
            data.mean,
            data.scale,
            data.train.x.shape[1:],
            patterns,
            data.labels,
            data.target_mean,
            data.target_scale,
        )

    def __call__(self, x: Array) -> jax.Array:
        """Outputs [B, C] for raw examples [B, *example_shape], e.g. uint8 images.

        Logits of the classes, or predictions in the units of the targets.

        Raises:
          ValueError: the examples have another shape.
        """
        if tuple(x.shape[1:]) != self.example_shape:
            raise ValueError(
                f"examples have shape {tuple(x.shape[1:])}, this network takes "
                f"[B, {', '.join(map(str, self.example_shape))}]"
            )
        x = normalise(x, self.mean, self.scale)
        outputs = mlp.apply(self.params, self.architecture, x, self.patterns)
        if not self.target_mean:
            return outputs
        mean, scale = jnp.array([self.target_mean]), jnp.array([self.target_scale])
        return outputs / scale + mean


def save(path: str | os.PathLike[str], network: Network) -> None:
    """Writes a network to the folder `path`, replacing what was saved there before.

    The folder holds `architecture.json`, an Orbax checkpoint of the parameters and,
    for a sparse network, the edges of its patterns in `patterns.npz`. It appears
    whole or not at all.
    """
    path = pathlib.Path(path).absolute()
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    description = {
        "architecture": to_json(network.architecture),
        "hyperparameters": dataclasses.asdict(network.hyperparameters),
        "preprocessing": {
            "mean": network.mean.tolist(),
            "scale": network.scale.tolist(),
            "example_shape": list(network.example_shape),
        },
        "labels": list(network.labels),
        "target_mean": network.target_mean,
        "target_scale": network.target_scale,
    }
    (partial / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    if network.patterns:
        np.savez(partial / _PATTERNS, allow_pickle=False, **_edges(network.patterns))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(partial / _PARAMS, _named(network.params))
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)


def load(path: str | os.PathLike[str]) -> Network:
    """The network that `save` wrote, ready to be called.

    Raises:
      InputError: there is none, or it is damaged.
    """
    path = pathlib.Path(path).absolute()
    try:
        description = json.loads((path / _DESCRIPTION).read_text())
        architecture = from_json(description["architecture"])
        hyperparameters = Hyperparameters(**description["hyperparameters"])
        preprocessing = description["preprocessing"]
        patterns = _load_patterns(path / _PATTERNS, architecture)
        template = jax.eval_shape(
            lambda key: mlp.init(key, architecture, patterns), _key()
        )
        with ocp.StandardCheckpointer() as checkpointer:
            stored = checkpointer.restore(path / _PARAMS, _named(template))
    except _UNREADABLE as error:
        raise InputError(f"no readable network in {path}: {error}") from error
    return Network(
        architecture,
        hyperparameters,
        tuple(stored[name] for name in sorted(stored)),
        np.asarray(preprocessing["mean"], np.float32),
        np.asarray(preprocessing["scale"], np.float32),
        tuple(preprocessing["example_shape"]),
        patterns,
        tuple(description["labels"]),
        tuple(description["target_mean"]),
        tuple(description["target_scale"]),
    )


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
    mlp.check(architecture, tuple(patterns))
    return tuple(patterns)


def _key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.key(0))


def _named(params: Params) -> dict[str, Any]:
    """Junctions by name, so that a checkpoint reads well in any tool."""
    return {f"junction_{i:02d}": dict(junction) for i, junction in enumerate(params)}
