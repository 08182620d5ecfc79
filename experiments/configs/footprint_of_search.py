"""What training, tuning and an architecture search on MNIST take.

Command: python -m experiments.reproduction.footprint_of_search --config.data.dir=DIR
Time:    2.2 minutes on 2 cores
Result:  with tuning 2.76 times, with architecture search 4.63 times the energy of one
         training, estimated (published, of models of language: 2,010 and 3,260 times)
"""

from typing import Any

import ml_collections

from experiments.configs import mnist_mlp


def get_config(settings: str = "quick") -> Any:
    """Settings `quick`, for two cores, or `full`, for an accelerator."""
    config = mnist_mlp.get_config()
    config.model = ml_collections.ConfigDict()  # trained alone, and tuned
    config.model.hidden = (112,)
    config.model.learning_rate = 1e-3
    config.model.batch_size = 128
    config.energy.region = "US"
    config.energy.pue = 1.58  # as in Strubell's figures
    # Where nothing is counted: 12 W a core, an assumption; 0 leaves energy empty.
    config.energy.tdp_watts = 24.0
    config.energy.utilisation = 1.0
    config.train.refit = False
    if settings == "quick":
        config.search.candidates = 16
        config.search.brackets = 1
        config.train.epochs = 20
    return config
