"""Which kernel is fastest: by block, density, batch and machine, as was measured."""

import functools
from typing import Any

import jax
import numpy as np

from dnc_jax.sparse.pattern import Pattern

_SMALL = 8  # a block side below this is too thin for a matrix product
# Densities above which the dense product is faster, by kernel, measured as in
# experiments/benchmarks/sparse.py on 2 cores: with registers of 512 bits the dense
# product takes half the time, and what gathers hardly less. The last is of the weight
# gradient of single elements alone.
_BREAK_EVEN_512 = {"elements": 0.25, "groups": 0.6, "blocks": 0.6, "d_weight": 0.08}
_BREAK_EVEN = {"elements": 0.5, "groups": 0.75, "blocks": 0.8, "d_weight": 0.18}
# The same of "pallas" on an H200 (4096 x 4096, batch 4096, bfloat16), by the shorter
# side of a block. Patterns in other blocks are dense there.
_BREAK_EVEN_GPU = {16: 0.12, 32: 0.2, 64: 0.55, 128: 0.8}


def choose(pattern: Pattern, batch: int) -> str:
    """The kernel that `impl="auto"` takes.

    By block, density and device, on a CPU by the batch too. `kernels.matmul` takes
    "dense" for "pallas" where that cannot be.
    """
    b_in, b_out = pattern.block
    backend = jax.default_backend()
    if backend == "tpu":
        # Narrow gathers starve a wide machine.
        return "blocks" if min(b_in, b_out) >= 16 and pattern.density < 0.5 else "dense"
    if backend == "gpu":
        fits = b_in in _BREAK_EVEN_GPU and b_out in _BREAK_EVEN_GPU
        most = _BREAK_EVEN_GPU[min(b_in, b_out)] if fits else 0
        return "pallas" if pattern.density <= most else "dense"
    if backend != "cpu":
        return "dense"
    if max(b_in, b_out) < _SMALL:
        impl = "elements"
    elif b_in < _SMALL or batch < b_out:
        # Of a small batch the products of "groups" are fewer numbers than the weights
        # that "blocks" transposes.
        impl = "groups"
    else:
        impl = "blocks"
    return "dense" if pattern.density > break_even(impl) else impl


def break_even(impl: str) -> float:
    """The density above which the dense product is faster than this kernel's."""
    return (_BREAK_EVEN_512 if _has_512_bits() else _BREAK_EVEN)[impl]


@functools.cache
def _has_512_bits() -> bool:
    """Whether the processor has registers of 512 bits, as far as NumPy knows."""
    config: Any = np.show_config(mode="dicts")
    found = config["SIMD Extensions"]["found"]
    return any(name.startswith("AVX512") or name == "X86_V4" for name in found)
