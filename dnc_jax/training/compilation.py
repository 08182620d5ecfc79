"""How training programs are compiled on this backend."""

from functools import cache

import jax

# XLA's newer kernels: convolutions in a third to two thirds of the time (jax 0.10.2).
_FAST_CONVOLUTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def options(*, convolutional: bool) -> dict[str, str | bool]:
    """Compiler options for programs of a population.

    Args:
      convolutional: whether the program's network has convolutions.
    """
    if jax.default_backend() != "cpu":
        return {}
    # LLVM's highest level takes a seventh longer and gains nothing here.
    level: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}
    return level | (fast_convolutions() if convolutional else {})


@cache
def fast_convolutions() -> dict[str, str | bool]:
    """The option that speeds convolutions up, where this XLA knows it; else none."""
    if jax.default_backend() != "cpu":
        return {}
    program = jax.jit(lambda x: x + 1).lower(0.0)
    try:
        program.compile(compiler_options=dict(_FAST_CONVOLUTIONS))
    except jax.errors.JaxRuntimeError:
        return {}
    return dict(_FAST_CONVOLUTIONS)
