"""How large the weights of dense MLPs are after training on MNIST.

Command: python -m experiments.reproduction.weights --config.data.dir=DIR
Time:    80 s on 2 cores that others shared
Result:  51.8 and 43.2 % of the weights of the first junctions are below a tenth of the
         largest, 25.6 and 24.8 % of the last ones
"""

from typing import Any

from experiments.configs import density_sweep


def get_config(settings: str = "quick") -> Any:
    """Settings `quick`, for two cores, or `full`, for an accelerator."""
    config = density_sweep.get_config(settings)
    del config.families, config.densities
    config.layers = ((784, 112, 10), (784, 100, 100, 100, 10))
    config.train.learning_rate = 1e-3
    config.train.weight_decay = 0.0  # which makes weights small by itself
    return config
