import jax

from dnc_jax.training import compilation
from tests.launches import Running

TWICE = """
import os

os.environ.pop("XLA_FLAGS", None)

import jax
import numpy as np

from dnc_jax.networks import CNN, MLP
from dnc_jax.training import Hyperparameters, compilation, data, population, trainer

compilation.keep(FOLDER)
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
x = np.random.default_rng(0).integers(0, 255, (400, 4, 4, 1)).astype(np.uint8)
y = np.arange(400) % 2
examples = data.from_arrays((x, y), (x, y), name="noise")
networks = [CNN((4, 4, 1), (4,), 2), MLP(16, (8,), 2)]
order = jax.random.key(1)
for number in range(3):
    events.clear()
    if number < 2:
        jax.clear_caches()
    outcomes = population.train(
        [
            population.Job(one, Hyperparameters(), jax.random.key(0), 0, 1, 1)
            for one in networks
        ],
        population.Programs(examples, order),
    )
    for outcome in ("hits", "misses"):
        print(sum(name.endswith("cache_" + outcome) for name in events))
for one, outcome in zip(networks, outcomes):
    key = jax.random.key(0)
    _, alone = trainer.train(
        key, one, Hyperparameters(), examples, order_key=order, epochs=1
    )
    print(abs(alone.val_loss[0] - outcome.val_loss[0]))
"""


def test_a_second_run_reads_every_program_and_a_later_search_needs_none(tmp_path):
    # Compiled as users have it, not as tests do, and equal to the network by itself.
    done = Running(code=TWICE.replace("FOLDER", repr(str(tmp_path / "programs"))))
    output, error = done.communicate()
    assert done.returncode == 0, error
    _, first_misses, hits, misses, *third, cnn, mlp = map(float, output.split())
    assert first_misses >= 4, "two programs for each network"
    assert (hits >= 4, misses) == (True, 0)
    assert third == [0, 0], "what it trained before was still there"
    assert max(cnn, mlp) < 1e-5
    assert error == ""


def test_a_gpu_compiles_quickly_what_needs_no_trying(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XLA_FLAGS", "")
    quick = compilation.options(convolutional=False)
    assert quick["xla_gpu_autotune_level"] == "0"
    assert compilation.options(convolutional=True) == {}
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=4")
    assert set(quick) - set(compilation.options(convolutional=False)) == {
        "xla_gpu_autotune_level"
    }


def test_programs_are_kept_in_the_users_cache_folder_or_nowhere(monkeypatch, tmp_path):
    told = {}
    monkeypatch.setattr(compilation.jax.config, "update", told.__setitem__)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    assert compilation.keep("off") is None
    assert told == {"jax_compilation_cache_dir": None}
    assert compilation.keep() == tmp_path / "dnc_jax"
    assert told["jax_compilation_cache_dir"] == str(tmp_path / "dnc_jax")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert compilation.keep() == tmp_path / "elsewhere"
    assert compilation.keep(str(tmp_path / "own")) == tmp_path / "own"


def test_a_folder_that_cannot_be_written_is_said_once_and_not_used(
    monkeypatch, tmp_path, caplog
):
    told = {}
    monkeypatch.setattr(compilation.jax.config, "update", told.__setitem__)
    (tmp_path / "file").write_text("")
    with caplog.at_level("WARNING"):
        assert compilation.keep(str(tmp_path / "file" / "programs")) is None
    assert told == {"jax_compilation_cache_dir": None}
    (warning,) = caplog.messages
    assert "compiled programs are not kept" in warning


def test_a_bucket_keeps_programs_alone_and_is_no_folder_here(monkeypatch):
    told, bucket = {}, "gs://bucket/programs"
    monkeypatch.setattr(compilation.jax.config, "update", told.__setitem__)
    assert compilation.keep(bucket) is None
    assert told["jax_compilation_cache_dir"] == bucket
    told.clear()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", bucket)
    assert compilation.keep() is None
    assert told["jax_compilation_cache_dir"] == bucket
    monkeypatch.undo()
    before = compilation.folder()
    try:
        jax.config.update("jax_compilation_cache_dir", bucket)
        assert compilation.folder() is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before and str(before))
