"""What the exported source of a convolutional network consists of."""

from dnc_jax.exporting.layers import Layers, dropout, patterns_of
from dnc_jax.networks import CNN
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.training.checkpoints import Network

# By keyword, which jax2onnx asks for.
_POOL = 'window_shape=(2, 2), strides=(2, 2), padding="SAME"'


def describe(architecture: CNN, network: Network) -> tuple[Layers, list[str], str]:
    """Its layers, the lines that call all but the head, and that one."""
    layers = Layers()
    patterns = patterns_of(network)
    lines: list[str] = []
    for layer, one in enumerate(architecture.convolutions):
        junction, start = network.params[layer], layer - 1
        if layer in architecture.shortcut_starts:
            lines.append("shortcut = x")
        convolution = layers.convolution(junction, patterns[layer], one.stride)
        lines.append(f"x = {convolution}(x)")
        if one.pool:
            lines.append(f"x = nn.max_pool(x, {_POOL})")
        if "scale" in junction:
            norm = layers.batch_norm(junction, network.statistics[layer])
            lines.append(f"x = {norm}(x)")
        if start in architecture.shortcut_starts:
            lines += _shortcut(architecture, start)
        lines.append(f"x = {ACTIVATIONS[architecture.activation].source}(x)")
        lines += dropout(one.dropout)
    head = layers.dense(network.params[-1], patterns[-1])
    return layers, [*lines, "x = x.mean((1, 2))"], head


def _shortcut(architecture: CNN, start: int) -> list[str]:
    """Brings what went into layer `start` to the size that the next one gives."""
    halved = sum(bool(how) for how in architecture.downsampling[start : start + 2])
    pool = f"shortcut = nn.avg_pool(shortcut, {_POOL}, count_include_pad=False)"
    sizes = architecture.channels
    more = sizes[start + 1] - sizes[start - 1]
    pad = f"shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (0, {more})))"
    return [*[pool] * halved, *([pad] if more else []), "x = x + shortcut"]
