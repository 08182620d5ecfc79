"""How training programs are compiled on this backend, and kept on disk."""

import os
import pathlib
from functools import cache
from typing import Any

import jax

_LEVEL = "xla_backend_optimization_level"
# XLA's newer kernels: convolutions in a third to two thirds of the time (jax 0.10.2).
_FAST_CONVOLUTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def options(*, convolutional: bool) -> dict[str, str | bool]:
    """Compiler options for programs of a population.

    A level of optimisation in the environment variable XLA_FLAGS goes before theirs.

    Args:
      convolutional: whether the program's network has convolutions.
    """
    if jax.default_backend() != "cpu":
        return {}
    level: dict[str, str | bool] = {}
    if _LEVEL not in os.environ.get("XLA_FLAGS", ""):
        # LLVM's highest level takes a seventh longer and gains nothing here.
        level[_LEVEL] = "1"
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


def keep(folder: str = "") -> pathlib.Path | None:
    """Keeps compiled programs on disk, so that the next run of a search compiles none.

    Beside them lie the machine's constants and the decoded images of TFDS sets.
    Switches on JAX's persistent compilation cache, for all programs of the process,
    and has to come before the first of them. A folder that the environment variable
    JAX_COMPILATION_CACHE_DIR names is used where none is given.

    Args:
      folder: where; empty for `dnc_jax` in the user's cache folder, "off" for none.

    Returns:
      The folder, or None.
    """
    if folder == "off":
        jax.config.update("jax_compilation_cache_dir", None)
        return None
    folder = folder or os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    path = pathlib.Path(folder).expanduser() if folder else caches / "dnc_jax"
    jax.config.update("jax_compilation_cache_dir", str(path))
    # Many programs of half a second each are what a search compiles.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


def folder() -> pathlib.Path | None:
    """Where compiled programs are kept, and what else later runs need not repeat."""
    settings: Any = jax.config  # made at run time
    path = settings.jax_compilation_cache_dir
    return pathlib.Path(path) if path else None
