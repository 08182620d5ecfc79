"""MLPs on MNIST for five weights of complexity, in the authors' space.

Command: python -m experiments.reproduction.wc_sweep --config.data.dir=DIR
Time:    9 minutes on 2 cores
Result:  w_c 0: 98.25 % validation accuracy, 478,410 parameters (published: 98.58 %,
         460,000); w_c 10: 92.38 %, 7,850 (published: 92.8 %, 7,900)

With --config=experiments/configs/wc_sweep.py:full the authors' own strategy and
lengths; with :cnn small CNNs on CIFAR-10:

Command: python -m experiments.reproduction.wc_sweep --w_c=0,0.1,10 \
             --config=experiments/configs/wc_sweep.py:cnn --config.data.dir=DIR
Time:    25 minutes on 2 cores
Result:  w_c 0: 76.03 % validation accuracy, 88,218 parameters, the largest of the
         search (published: 93.74 % after 29 hours); w_c 10: 61.31 %, 3,882 (83.82 %,
         302,714)
"""

from typing import Any

from experiments.configs import cifar10_cnn, mnist_mlp


def get_config(settings: str = "quick") -> Any:
    """Settings `quick`, for two cores, `full`, for an accelerator, or `cnn`."""
    if settings == "cnn":
        config = cifar10_cnn.get_config()
        config.search.candidates = 9
        return config
    config = mnist_mlp.get_config()
    config.space.depth = (0, 2)
    if settings == "full":
        config.search.strategy = "greedy"
        config.search.rungs = (100,)
        config.train.epochs = 100
    else:
        config.train.epochs = 30
        config.train.refit = False
    return config
