"""How training programs are compiled on this backend, and kept on disk."""

import os
import pathlib
import tempfile
from functools import cache
from typing import Any

import jax
from absl import logging

_LEVEL = "xla_backend_optimization_level"
# XLA's newer kernels: convolutions in a third to two thirds of the time (jax 0.10.2).
_FAST_CONVOLUTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}
# Beside an H200 (jax 0.11.2) a program of 32 MLPs compiles in 1.3 s with these instead
# of 6.3, and its epochs of MNIST take 0.097 s instead of 0.082. What XLA would try on
# the device for each program differs from run to run, this does not. Convolutions have
# to be tried: else they take 18 times as long.
_FAST_COMPILING: dict[str, str | bool] = {
    "xla_gpu_autotune_level": "0",
    "xla_gpu_enable_triton_gemm": False,
}


def options(*, convolutional: bool) -> dict[str, str | bool]:
    """Compiler options for programs of a population.

    What the environment variable XLA_FLAGS says of one goes before it.

    Args:
      convolutional: whether the program's network has convolutions.
    """
    backend = jax.default_backend()
    wanted: dict[str, str | bool] = {}
    if backend == "gpu" and not convolutional:
        wanted = _FAST_COMPILING
    elif backend == "cpu":
        # LLVM's highest level takes a seventh longer and gains nothing here.
        wanted = {_LEVEL: "1"} | (fast_convolutions() if convolutional else {})
    said = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in wanted.items() if name not in said}


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


def keep(folder: str = "") -> pathlib.Path | None:
    """Keeps compiled programs, so that the next run of a search compiles none.

    Beside them, in a folder of this machine, lie the machine's constants and the
    decoded images of TFDS sets; in a bucket lie programs alone. Switches on JAX's
    persistent compilation cache, for all programs of the process, and has to come
    before the first of them. A place that the environment variable
    JAX_COMPILATION_CACHE_DIR names is used where none is given.

    Args:
      folder: where; empty for `dnc_jax` in the user's cache folder, "off" for none. A
        URL, such as `gs://bucket/programs`, is taken as it is by JAX.

    Returns:
      The folder; None for a URL, for "off", and for a folder that cannot be written,
      of which it warns.
    """
    if folder == "off":
        jax.config.update("jax_compilation_cache_dir", None)
        return None
    folder = folder or os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    if not folder:
        folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "dnc_jax")
    path = _local(folder)
    if path:
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:  # JAX would warn of it once for each program
            logging.warning(
                "compiled programs are not kept, and later runs compile them again: "
                "%s; name a folder that can be written",
                error,
            )
            return keep("off")
    jax.config.update("jax_compilation_cache_dir", str(path or folder))
    # Many programs of half a second each are what a search compiles.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


def folder() -> pathlib.Path | None:
    """Where compiled programs are kept, and what else later runs need not repeat.

    None where nothing is kept, or programs alone, behind a URL.
    """
    settings: Any = jax.config  # made at run time
    place = settings.jax_compilation_cache_dir
    return _local(place) if place else None


def _local(place: str) -> pathlib.Path | None:
    """The folder on this machine; None for a URL, of which a path would lose a `/`."""
    return None if "://" in place else pathlib.Path(place).expanduser()
