"""MLPs on MNIST with ten minutes to search: more rungs, brackets that a model proposes.

Command: python -m experiments.search --config=experiments/configs/mnist_mlp_long.py \
             --config.data.dir=DIR
Time:    649 s on 2 cores, 591 s of them searching
Result:  98.49 % validation, 98.41 % test accuracy, 352,644 parameters

Small and good, 387 s, 336 s of them searching: 98.32 %, 98.30 % and 69,644 with
--config.objective.w_c=0.1 --config.constraints.max_parameters=70000
--config.space.width=(20,1000)
(complexity counts over that of the space's largest network: in a space of large ones
w_c = 0.1 asks for less)
"""

from typing import Any

from experiments.configs import mnist_mlp


def get_config() -> Any:
    """MNIST, longer."""
    config = mnist_mlp.get_config()
    config.search.candidates = 27
    config.search.rungs = (2, 6, 18, 54)
    config.search.brackets = 10
    config.budget.seconds = 590.0
    config.train.epochs = 54
    return config
