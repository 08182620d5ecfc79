"""What the exported source of a multilayer perceptron consists of."""

from typing import Any

import numpy as np

from dnc_jax.training.checkpoints import Network

_ACTIVATIONS = {"relu": "nn.relu", "tanh": "jnp.tanh", "sigmoid": "nn.sigmoid"}


def describe(network: Network) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Its variables by their Flax path, and the words of the template."""
    architecture = network.architecture
    patterns = network.patterns or (None,) * len(architecture.junctions)
    arrays: dict[str, np.ndarray] = {}
    layers: list[str] = []
    for junction, pattern, nodes in zip(
        network.params, patterns, architecture.sizes[1:], strict=True
    ):
        kind = "Sparse" if pattern else "Dense"
        name = f"{kind}_{sum(kind in layer for layer in layers)}"
        if pattern:
            sources = np.asarray(pattern.sources)
            numbers = np.arange(sources.size).reshape(sources.shape)
            edges = numbers if pattern.edges_in is None else pattern.edges_in
            arrays[f"pattern.{name}.sources"] = sources
            arrays[f"pattern.{name}.edges"] = np.asarray(edges, np.int32)
            layers.append(f"Sparse({nodes}, {pattern.block_edges}, {pattern.block})")
        else:
            layers.append(f"nn.Dense({nodes})")
        arrays[f"params.{name}.kernel"] = np.asarray(junction["weight"])
        arrays[f"params.{name}.bias"] = np.asarray(junction["bias"])
    words = {
        "hidden": layers[:-1],
        "head": layers[-1],
        "activation": _ACTIVATIONS[architecture.activation],
        "sparse": any(patterns),
    }
    return arrays, words
