import dataclasses
import json
import shutil
import tempfile

import jax
import numpy as np
import pandas
import pytest

import dnc_jax
from dnc_jax import InputError
from dnc_jax.networks import MLP, Sparsity, mlp
from dnc_jax.networks.network import patterns as draw_patterns
from dnc_jax.training import Hyperparameters, checkpoints, trainer
from dnc_jax.training.data import from_arrays


def network(hidden=(5, 4)):
    architecture = MLP(6, hidden, 3, "tanh", 0.1)
    return dnc_jax.Network(
        architecture,
        Hyperparameters(1e-3, 1e-5, 64),
        mlp.init(jax.random.key(0), architecture),
        np.array([2.0, 1.0, 0.5], np.float32),
        np.array([0.5, 2.0, 1.0], np.float32),
        (1, 2, 3),
    )


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4), tuple(range(2, 14))])
def test_a_loaded_network_gives_the_same_logits(tmp_path, hidden):
    saved, path = network(hidden), tmp_path / "[1] a\\b *?ü"
    checkpoints.save(path, saved)
    loaded = dnc_jax.load(path)
    assert loaded.architecture == saved.architecture
    assert loaded.hyperparameters == saved.hyperparameters
    x = np.random.default_rng(0).integers(0, 255, (9, 1, 2, 3), np.uint8)
    np.testing.assert_array_equal(jax.jit(loaded)(x), jax.jit(saved)(x))


def test_saving_again_replaces_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # needed by odd names alone
    checkpoints.save(tmp_path / "best", network((5,)))
    checkpoints.save(tmp_path / "best", network((7,)))
    assert dnc_jax.load(str(tmp_path / "best")).architecture.hidden == (7,)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_network_predicts_names_or_numbers():
    x = np.random.default_rng(0).integers(0, 255, (9, 1, 2, 3), np.uint8)
    named = dataclasses.replace(network(), labels=("cat", "dog", "owl"))
    best = np.asarray(named(x)).argmax(1)
    assert named.predict(x).tolist() == [named.labels[i] for i in best]
    assert network().predict(x).tolist() == best.tolist()
    numbers = dataclasses.replace(
        network(), target_mean=(9.0, 8.0, 7.0), target_scale=(1.0, 2.0, 3.0)
    )
    np.testing.assert_array_equal(numbers.predict(x), np.asarray(numbers(x)))
    with pytest.raises(InputError, match="predicts numbers and has no classes"):
        numbers.probabilities(x)
    counted = dataclasses.replace(network(), labels=(3, 7, 11))
    assert counted.predict(x).dtype.kind == "i"
    likely = counted.probabilities(x)
    np.testing.assert_allclose(likely.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(likely.argmax(1), best)
    with pytest.raises(InputError, match="x: 1 of 9 examples hold NaN"):
        named.predict(np.where(np.arange(9)[:, None, None, None] == 4, np.nan, x))


def test_a_network_knows_the_columns_of_its_table(tmp_path):
    frame = pandas.DataFrame({"age": np.arange(40.0), "size": np.arange(40) % 7})
    rows = from_arrays((frame, frame["age"] / 3))
    architecture = MLP(2, (), 1)
    params = mlp.init(jax.random.key(0), architecture)
    made = dnc_jax.Network.trained_on(
        rows, architecture, Hyperparameters(), trainer.Trained(params)
    )
    checkpoints.save(tmp_path / "best", made)
    loaded = dnc_jax.load(tmp_path / "best")
    found = loaded.predict(frame.convert_dtypes())
    assert found.shape == (40,)
    np.testing.assert_allclose(found, np.asarray(made(frame.to_numpy()))[:, 0])
    with pytest.raises(InputError, match=r"x has columns size, age, .* age, size;"):
        loaded.predict(frame[["size", "age"]])
    with pytest.raises(InputError, match="column 'size' of type <U1; numbers are need"):
        loaded.predict(frame.assign(size="L"))
    with pytest.raises(InputError, match=r"holds a search; its network is in .*best"):
        dnc_jax.load(tmp_path)


def test_whole_numbers_beyond_32_bits_are_taken_as_they_are():
    x = np.array([[[[2**33 + 5, 0, 1], [7, 2**40, 3]]]])
    saved = network()
    np.testing.assert_array_equal(saved(x), saved(x.astype(np.float32)))
    assert not np.array_equal(saved(x), saved(x.astype(np.int32)))


def test_a_network_refuses_examples_of_another_shape():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), this network takes \[B, 1"):
        network()(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"shape \(\), this network takes"):
        network()(np.zeros(()))


def test_a_network_is_a_function_that_jit_takes():
    saved = network()
    x = np.ones((4, 1, 2, 3), np.float32)
    np.testing.assert_allclose(jax.jit(saved)(x), saved(x), rtol=1e-6)
    assert saved == saved
    assert saved != network()


def test_saving_replaces_a_network_and_nothing_else(tmp_path):
    (tmp_path / "empty").mkdir()
    checkpoints.save(tmp_path / "empty", network())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("my own")
    (tmp_path / "file").write_text("my own")
    for name in ("mine", "file"):
        with pytest.raises(InputError, match=r"exists and holds no architecture\.json"):
            checkpoints.save(tmp_path / name, network())
    (tmp_path / "mine" / "architecture.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds thesis\.txt too, which would be lost"):
        checkpoints.save(tmp_path / "mine", network())
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "my own"
    assert (tmp_path / "file").read_text() == "my own"


def damage_description(path):
    (path / "architecture.json").write_text("{")


def damage_params(path):
    shutil.rmtree(path / "params")


def damage_sizes(path):
    description = json.loads((path / "architecture.json").read_text())
    description["architecture"]["hidden"] = [6, 4]
    (path / "architecture.json").write_text(json.dumps(description))


def damage_mean(path):
    description = json.loads((path / "architecture.json").read_text())
    del description["preprocessing"]["mean"], description["labels"]
    (path / "architecture.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    "damage",
    [shutil.rmtree, damage_description, damage_params, damage_sizes, damage_mean],
)
def test_a_damaged_network_is_refused_with_its_path(tmp_path, damage):
    checkpoints.save(tmp_path / "best", network())
    damage(tmp_path / "best")
    with pytest.raises(InputError, match=r"no readable network in .*best"):
        dnc_jax.load(tmp_path / "best")


def sparse_network(density, seed=0):
    sparsity = (Sparsity(density), None) if density < 1 else ()
    architecture = MLP(600, (600,), 3, sparsity=sparsity)
    patterns = draw_patterns(jax.random.key(seed), architecture)
    return dnc_jax.Network(
        architecture,
        Hyperparameters(),
        mlp.init(jax.random.key(1), architecture, patterns),
        np.zeros(1, np.float32),
        np.ones(1, np.float32),
        (600,),
        patterns,
    )


def bytes_in(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_a_sparse_network_is_loaded_with_the_pattern_it_was_saved_with(tmp_path):
    saved = sparse_network(0.05, seed=7)
    checkpoints.save(tmp_path / "best", saved)
    loaded = dnc_jax.load(tmp_path / "best")
    x = np.random.default_rng(0).normal(size=(9, 600))
    np.testing.assert_array_equal(jax.jit(loaded)(x), jax.jit(saved)(x))
    assert loaded.patterns[1] is None
    np.testing.assert_array_equal(
        loaded.patterns[0].to_dense(), saved.patterns[0].to_dense()
    )


def test_a_sparse_checkpoint_holds_only_edges(tmp_path):
    checkpoints.save(tmp_path / "sparse", sparse_network(0.05))
    checkpoints.save(tmp_path / "dense", sparse_network(1.0))
    dense, edges = 600 * 600, 18000
    assert bytes_in(tmp_path / "dense") > 0.8 * 4 * dense
    # A weight and two indices of 4 bytes for each edge, and what any checkpoint has.
    assert bytes_in(tmp_path / "sparse") < 12 * edges + 60_000


def test_a_pattern_that_is_not_the_architectures_is_refused_with_both(tmp_path):
    checkpoints.save(tmp_path / "best", sparse_network(0.05))
    checkpoints.save(tmp_path / "other", sparse_network(0.1))
    shutil.copy(tmp_path / "other/patterns.npz", tmp_path / "best/patterns.npz")
    with pytest.raises(InputError, match=r"\(600, 600, 36000\).*\(600, 600, 18000\)"):
        dnc_jax.load(tmp_path / "best")
    (tmp_path / "best/patterns.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"no readable network in .*best"):
        dnc_jax.load(tmp_path / "best")
    (tmp_path / "best/patterns.npz").unlink()
    with pytest.raises(InputError, match=r"no readable network.*patterns\.npz"):
        dnc_jax.load(tmp_path / "best")


def test_more_than_a_hundred_junctions_come_back_in_their_order(tmp_path):
    saved = network(hidden=(2,) * 101)
    checkpoints.save(tmp_path / "best", saved)
    loaded = dnc_jax.load(tmp_path / "best")
    for one, other in zip(loaded.params, saved.params, strict=True):
        np.testing.assert_array_equal(one["weight"], other["weight"])


def test_a_folder_beside_a_network_that_looks_like_its_own_is_left_alone(tmp_path):
    for name in ("best.old", "best.partial"):
        checkpoints.save(tmp_path / name, network((3,)))
    for _ in range(2):
        checkpoints.save(tmp_path / "best", network((5,)))
    for name in ("best.old", "best.partial"):
        assert dnc_jax.load(tmp_path / name).architecture.hidden == (3,)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_no_examples_have_no_logits(dtype):
    saved = network((5,))
    none = np.zeros((0, *saved.example_shape), dtype)
    assert saved(none).shape == saved.probabilities(none).shape == (0, 3)
    assert saved.predict(none).shape == (0,)
