"""Small CNNs on CIFAR-10, on a machine without an accelerator.

Command: python -m experiments.search --config=experiments/configs/cifar10_cnn.py \
             --config.data.dir=DIR
Time:    570 s on 2 cores, 348 s of them searching
Result:  76.10 % validation, 74.73 % test accuracy, 88,218 parameters
"""

from typing import Any

import ml_collections

from experiments.configs import digits


def get_config() -> Any:
    """The default search over CNNs of at most 100,000 parameters."""
    config = digits.get_config()
    config.data.name = "cifar10"
    config.space = ml_collections.ConfigDict()
    config.space.kind = "cnn"
    config.space.depth = (4, 8)  # convolutions
    config.space.first_channels = (8, 32)
    config.space.max_channels = 64
    config.space.channel_step = 8
    config.space.activations = ("relu",)
    config.space.downsampling = ("pool", "stride")
    config.space.halvings = (2, 3)  # of the image, spread over the layers
    config.space.batch_norm = (0.5, 1.0)  # fractions of the layers that have it
    config.space.dropout = (0.0, 0.25)
    config.space.dropout_rate = (0.15,)
    config.space.dropout_first = (0.1,)
    config.space.shortcuts = (0, 4, 2)
    config.space.densities = (1.0,)  # kept fractions of weights to choose from
    config.space.family = "balanced"  # of sparse patterns, of `sparse.FAMILIES`
    config.space.learning_rate = (3e-4, 1e-2)
    config.space.weight_decay = (1e-6, 1e-3)
    config.space.batch_sizes = (64, 128)
    config.constraints.max_parameters = 100_000
    config.search.candidates = 12
    config.search.rungs = (1, 3, 9)
    config.search.brackets = 1
    config.budget.seconds = 720.0
    config.train.epochs = 10
    config.train.refit = False
    return config
