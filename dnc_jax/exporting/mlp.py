"""What the exported source of a multilayer perceptron consists of."""

from dnc_jax.exporting.layers import Layers, dropout, patterns_of
from dnc_jax.networks import MLP
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.training.checkpoints import Network


def describe(architecture: MLP, network: Network) -> tuple[Layers, list[str], str]:
    """Its layers, the lines that call all but the last, and that one."""
    layers = Layers()
    activation = ACTIVATIONS[architecture.activation].source
    called = [
        layers.dense(junction, pattern)
        for junction, pattern in zip(network.params, patterns_of(network), strict=True)
    ]
    lines: list[str] = []
    for layer in called[:-1]:
        lines += [f"x = {activation}({layer}(x))", *dropout(architecture.dropout)]
    return layers, lines, called[-1]
