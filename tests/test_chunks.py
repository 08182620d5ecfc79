import os
import types

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc_jax.networks import MLP, Sparsity, mlp
from dnc_jax.search import Candidate
from dnc_jax.search.chunks import Chunks
from dnc_jax.search.rungs import Rungs
from dnc_jax.search.strategies import Evaluation
from dnc_jax.training import Hyperparameters, under_way
from dnc_jax.training.population import Progress, Snapshot

TREE = {"a": ({"w": np.arange(6.0, dtype=np.float32)}, None), "b": (1, 0.1, "x")}


def progress(seed, hidden, epochs=2):
    params = mlp.init(jax.random.key(seed), MLP(6, hidden, 3))
    params = jax.tree.map(np.asarray, params)
    curve = tuple(np.float32(1 / (seed + 3)).item() for _ in range(epochs))
    return Progress(0, Snapshot(params, params, params, 7), curve, curve, 0.5)


def test_a_tree_survives_the_disk_bit_for_bit(tmp_path):
    under_way.write(tmp_path / "f", TREE)
    read = under_way.read(tmp_path / "f")
    assert read["b"] == TREE["b"]
    assert read["a"][1] is None
    assert read["a"][0]["w"].dtype == np.float32
    np.testing.assert_array_equal(read["a"][0]["w"], TREE["a"][0]["w"])
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@given(st.data())
def test_whatever_byte_is_damaged_the_file_counts_as_missing(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "f"
    under_way.write(path, TREE)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    path.write_bytes(content)
    assert under_way.read(path) is None


def test_a_pickle_planted_with_a_right_digest_is_not_run(tmp_path):
    class Planted:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    array = np.empty(1, object)
    array[0] = Planted()
    np.savez(tmp_path / "f.npz", tree=np.asarray('{"array": "0"}'), **{"0": array})
    content = (tmp_path / "f.npz").read_bytes()
    assert b"mkdir" in content
    (tmp_path / "f").write_bytes(content + under_way._digest(content))
    assert under_way.read(tmp_path / "f") is None
    assert not (tmp_path / "run").exists()


def test_what_is_no_data_is_refused_and_the_file_before_kept(tmp_path):
    under_way.write(tmp_path / "f", TREE)
    before = (tmp_path / "f").read_bytes()
    with pytest.raises(TypeError, match="set is neither data nor"):
        under_way.write(tmp_path / "f", {"a": {1, 2}})
    assert (tmp_path / "f").read_bytes() == before


NAMED = {3: "c", 4: "d", 11: "k"}


def test_chunks_of_a_rung_survive_the_disk_and_old_ones_go(tmp_path):
    chunks = Chunks(tmp_path)
    chunks.save(1, {3: "c", 11: "k"}, [progress(0, (5, 4)), progress(1, ())])
    chunks.save(1, {4: "d"}, [progress(2, (8,))])
    chunks.save(2, {3: "c"}, [progress(3, (5, 4))])
    loaded = chunks.load(1, NAMED)
    assert loaded.keys() == {3, 11, 4}
    saved = progress(1, ())
    assert loaded[11]._replace(snapshot=None) == saved._replace(snapshot=None)
    assert loaded[11].snapshot.step == 7
    jax.tree.map(
        np.testing.assert_array_equal, loaded[11].snapshot.mu, saved.snapshot.mu
    )
    chunks.forget(2)
    assert chunks.load(1, NAMED) == {}
    assert chunks.load(2, NAMED).keys() == {3}
    chunks.remove()
    assert not list(tmp_path.iterdir())


def test_a_chunk_of_another_version_or_damaged_counts_as_missing(tmp_path):
    chunks = Chunks(tmp_path)
    chunks.save(1, {3: "c"}, [progress(0, (5,))])
    chunks.save(1, {4: "d"}, [progress(1, (5,))])
    (path,) = (tmp_path / "under_way").glob("rung-1-3")
    content = under_way.read(path)
    content["progress"][0]["novelty"] = 1
    under_way.write(path, content)
    assert chunks.load(1, NAMED).keys() == {4}
    path.write_bytes(b"torn")
    assert chunks.load(1, NAMED).keys() == {4}
    under_way.write(path, {"members": ((3, "c"),), "progress": content["progress"]})
    assert chunks.load(1, NAMED).keys() == {4}


def test_networks_that_differ_in_their_blocks_alone_have_other_names():
    """In what their files are told apart by; for people they are written alike."""
    alike = [
        Candidate(
            MLP(8, (8,), 2, sparsity=(Sparsity(0.5, block), None)), Hyperparameters()
        )
        for block in ((1, 1), (1, 2))
    ]
    assert str(alike[0]) == str(alike[1])
    named = Rungs._named(
        types.SimpleNamespace(_search=""),
        [Evaluation(i, candidate, 0, 0, 1) for i, candidate in enumerate(alike)],
    )
    assert named[0] != named[1]


def test_without_a_folder_nothing_is_kept():
    chunks = Chunks(None)
    chunks.save(1, {3: "c"}, [progress(0, (5,))])
    assert chunks.load(1, NAMED) == {}
    chunks.remove()


def test_a_chunk_of_a_candidate_of_another_name_is_of_another_search(tmp_path):
    chunks = Chunks(tmp_path)
    assert not chunks.begun
    chunks.save(1, {3: "c", 4: "other"}, [progress(0, (5,)), progress(1, (5,))])
    assert chunks.load(1, NAMED).keys() == {3}
    assert chunks.begun
