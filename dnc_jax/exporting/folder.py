"""Writes a trained network as source code, weights and a compiled program."""

import os
import pathlib
from collections.abc import Callable
from types import ModuleType

import jax
import numpy as np

from dnc_jax.errors import check_kind
from dnc_jax.exporting import cnn, mlp
from dnc_jax.exporting.layers import Layers
from dnc_jax.files import new_folder
from dnc_jax.networks import CNN, MLP
from dnc_jax.networks.cnn import EPSILON, MOMENTUM
from dnc_jax.training.checkpoints import Network, check_place

MODEL, WEIGHTS, PREDICT, PROGRAM, README = (
    "model.py",
    "weights.safetensors",
    "predict.py",
    "model.jax_export",
    "README.md",
)
_PLATFORMS = ("cpu", "cuda", "tpu")
# What the source of each kind of architecture is made of: its layers, the lines that
# call them, the last layer.
_WRITERS: dict[type, Callable[..., tuple[Layers, list[str], str]]]
_WRITERS = {MLP: mlp.describe, CNN: cnn.describe}


def export(network: Network, path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes `network` to the folder `path`, which then runs without dnc_jax.

    The folder holds `model.py`, a short Flax module of exactly this network;
    `weights.safetensors`, with its weights, the edges of sparse junctions and the
    statistics that its inputs are normalised by; `predict.py`, a command line;
    `model.jax_export`, the same as StableHLO, which `jax.export.deserialize` reads
    without any Python code of the network; and a README.md. It appears whole or not
    at all, see `files.new_folder`.

    Args:
      network: as `dnc_jax.load` returns it.
      path: a new folder, or one that an export is in, which is replaced.

    Returns:
      The path.

    Raises:
      InputError: `path` holds something else, or what is no network.
      OSError: it cannot be written; what was there before is kept.
    """
    import jinja2
    from safetensors.numpy import save

    check_kind(Network, "winner.network", network=network)
    path = pathlib.Path(path)
    check_place(path, (MODEL, WEIGHTS, PREDICT, PROGRAM, README))
    architecture = network.architecture
    layers, lines, head = _WRITERS[type(architecture)](architecture, network)
    data = {"data.mean": network.mean, "data.scale": network.scale}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dnc_jax.exporting"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    words = {
        "network": network,
        "classes": architecture.outputs,
        "groups": architecture.inputs // len(network.mean),  # of features or pixels
        "shape": (
            architecture.image
            if isinstance(architecture, CNN)
            else (architecture.inputs,)
        ),
        "layers": layers,
        "lines": lines,
        "head": head,
        "epsilon": EPSILON,
        "momentum": MOMENTUM,
    }
    arrays = layers.arrays | data
    weights = save({name: np.ascontiguousarray(a) for name, a in arrays.items()})
    with new_folder(path) as folder:
        for name in (MODEL, PREDICT, README):
            text = environment.get_template(f"{name}.jinja").render(words)
            (folder / name).write_text(text, encoding="utf-8")
        (folder / WEIGHTS).write_bytes(weights)
        (folder / PROGRAM).write_bytes(_program(folder, network.example_shape))
    return path


def _program(folder: pathlib.Path, example_shape: tuple[int, ...]) -> bytes:
    """The exported code itself, compiled for any number of examples in float32."""
    module = _imported(folder / MODEL)
    network, variables = module.Network(), module.load()
    (batch,) = jax.export.symbolic_shape("batch")
    examples = jax.ShapeDtypeStruct((batch, *example_shape), np.float32)
    exported = jax.export.export(
        jax.jit(lambda x: network.apply(variables, x)), platforms=_PLATFORMS
    )
    # Flax's own layers add a bias of one axis to a batch of two.
    with jax.numpy_rank_promotion("allow"):
        return bytes(exported(examples).serialize())


def _imported(path: pathlib.Path) -> ModuleType:
    """The module; an import would leave its bytecode in the export."""
    module = ModuleType("exported_model")
    module.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), vars(module))
    return module
