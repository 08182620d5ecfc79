"""What all tests share: strict JAX settings, and small problems that are quick."""

import functools
import gc
import os
import pathlib
import shutil
import tempfile

import hypothesis
import jax
import numpy as np
import pytest

from tests import checked

checked.install()

from dnc_jax.footprint import locks  # noqa: E402
from dnc_jax.training import (  # noqa: E402
    compilation,
    costs,
    data,
    machine,
    programs,
)

# All processes of a run of the tests share compiled programs.
_CACHE = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp()
compilation.keep(os.environ["JAX_COMPILATION_CACHE_DIR"])
# Writing a tiny program takes longer than compiling it once more.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)

# Tests compile much and run little. LLVM's passes would take two thirds of their time,
# XLA's newer way to write fused loops half of the rest (jax 0.11.1 knows no other), and
# splitting programs among the cores a seventh of what is left.
_OLD_FUSION = jax.__version_info__ < (0, 11)
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_backend_optimization_level=0",
        "--xla_cpu_parallel_codegen_split_count=1",
        *["--xla_cpu_use_fusion_emitters=false"] * _OLD_FUSION,
        os.environ.get("XLA_FLAGS", ""),
    ]
)

_STARTING = {
    path.name
    for path in pathlib.Path(__file__).parent.glob("test_*.py")
    if "tests.launches" in path.read_text()
}

# Two runs of the tests on one machine do not wait for each other's counters.
locks.NAMESPACE = f"dnc_jax-test-{os.getpid()}"

jax.config.update("jax_numpy_rank_promotion", "raise")

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def pytest_collection_modifyitems(items) -> None:
    """Files that start processes come first, so that one worker has most of them.

    Each worker that starts one imports everything once more, to fork it from there.
    """
    items.sort(key=lambda item: item.path.name not in _STARTING)


def pytest_collection_finish() -> None:
    """Tests leave little garbage: the search for it was a fourteenth of their time."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture(scope="session", autouse=True)
def constants() -> None:
    """Of the cost model, kept for processes that tests start: they measure nothing."""
    folder = compilation.folder()
    if folder and not machine.path(folder).exists():
        machine.keep(folder, costs.CostModel())


# Kept apart from those that tests compile: they are of the same names and shapes.
_as_users = functools.lru_cache(128)(programs._function.__wrapped__)


@pytest.fixture
def as_users_compile(monkeypatch) -> None:
    """Programs of populations with all passes that tests leave out otherwise."""
    own = compilation.options
    fused = {"xla_cpu_use_fusion_emitters": True} if _OLD_FUSION else {}
    monkeypatch.delenv("XLA_FLAGS")  # whose level would go before that of programs
    monkeypatch.setattr(compilation, "options", lambda **kind: own(**kind) | fused)
    monkeypatch.setattr(programs, "_function", _as_users)


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def small() -> data.Dataset:
    """Two noisy clouds of four classes: 160 training rows of 6 features."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 6)) * 2

    def split(rows: int) -> data.Split:
        y = rng.integers(0, 4, rows)
        return data.Split(
            (centres[y] + rng.normal(size=(rows, 6))).astype(np.float32), y
        )

    return data.from_arrays(split(200), split(60), name="clouds")


def pytest_unconfigure() -> None:
    if _CACHE:
        shutil.rmtree(_CACHE, ignore_errors=True)
