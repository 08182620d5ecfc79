"""A sparse MLP on MNIST, and its dense twin.

Command: python -m experiments.train --config=experiments/configs/sparse_mnist.py \
             --config.data.dir=DIR
Time:    53 s on 2 cores
Result:  97.84 % test accuracy with 223,242 parameters (dense: 98.39 %, 1,863,690),
         0.76 s an epoch (dense: 2.25 s)
"""

from typing import Any

import ml_collections

from experiments.configs import digits


def get_config() -> Any:
    """Every field of a training run."""
    config: Any = ml_collections.ConfigDict()
    config.seed = 0
    config.twin = True  # train the dense network of the same sizes too

    config.data = digits.get_config().data
    config.data.name = "mnist"  # or digits, or an .npz or .csv file
    del config.data.augment  # a field of config.train
    del config.data.resident_bytes

    config.network = ml_collections.ConfigDict()
    config.network.hidden = (1024, 1024)
    config.network.activation = "relu"
    config.network.dropout = 0.0
    # One entry for each junction; the nearest possible density is taken.
    config.network.densities = (0.1, 0.125, 1.0)
    config.network.block_inputs = (1, 64, 1)  # nodes that an edge joins ...
    config.network.block_outputs = (64, 64, 1)  # ... to so many nodes
    config.network.families = ("balanced", "structured", "structured")

    config.train = ml_collections.ConfigDict()
    config.train.learning_rate = 1e-3
    config.train.weight_decay = 0.0
    config.train.batch_size = 256
    config.train.augment = False  # crop and flip images
    config.train.epochs = 10
    return config
