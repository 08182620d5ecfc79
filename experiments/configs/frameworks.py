"""Searches on MNIST by several frameworks, for equal minutes.

Command: python -m experiments.reproduction.frameworks --environments=DIR \
             --config.data.dir=DIR
Time:    12 minutes on 2 cores (AMD EPYC, AVX2)
Result:  98.09 % test accuracy in 91 s (AutoKeras 98.11 %, AutoGluon 98.06 %, Optuna
         96.94 %, KerasTuner 94.86 %, each in 2 minutes)
"""

from typing import Any

import ml_collections

from experiments.configs import mnist_mlp


def get_config(settings: str = "quick") -> Any:
    """Settings `quick`, for two cores, or `full`, for an accelerator."""
    config: Any = ml_collections.ConfigDict()
    config.seed = 0  # of the validation rows and of the first search
    config.networks = 1  # seeds of each framework; more say more
    config.data = mnist_mlp.get_config().data
    config.seconds = {"quick": 120.0, "full": 1800.0}[settings]  # of each search
    config.frameworks = ("ours", "optuna", "keras_tuner", "autokeras", "autogluon")
    config.train = ml_collections.ConfigDict()
    config.train.epochs = {"quick": 20, "full": 50}[settings]  # of our winner
    config.search = mnist_mlp.get_config().search
    if settings == "quick":
        config.search.brackets = 1
    return config
