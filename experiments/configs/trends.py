"""Three trends of pre-defined sparsity on MNIST: junctions, inputs, weight decay.

Command: python -m experiments.reproduction.trends --config.data.dir=DIR
Time:    4.3 minutes on 2 cores
Result:  (a) is undecided, (c) agrees at every density, (e) is undecided
"""

from typing import Any

from experiments.configs import density_sweep


def get_config(settings: str = "quick") -> Any:
    """Settings `quick`, for two cores, or `full`, for an accelerator."""
    config = density_sweep.get_config(settings)
    del config.layers, config.families, config.densities
    # (a) densities of three junctions 800-100-100-10 with equally many edges.
    config.junctions = (
        ((0.09, 0.08, 1.0), (0.07, 0.24, 1.0), (0.05, 0.4, 1.0), (0.03, 0.56, 1.0)),
        ((0.04, 0.08, 1.0), (0.03, 0.16, 1.0), (0.02, 0.24, 1.0), (0.01, 0.32, 1.0)),
    )
    # (c) the first junction from pixels, and from so many leading components.
    config.components = 200
    config.first = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    # (e) L2 penalties, and the densities of 800-100-10 that each is tried with.
    config.decays = (0.0, 1e-5, 1e-4, 1e-3)
    config.densities = ((0.04, 1.0), (0.19, 1.0), (1.0, 1.0))
    config.train.epochs = {"quick": 8, "full": 50}[settings]
    return config
