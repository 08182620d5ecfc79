import tracemalloc

import jax
import numpy as np
import pytest

from dnc_jax import InputError
from dnc_jax.footprint import complexity
from dnc_jax.networks import MLP
from dnc_jax.search import Candidate, MLPSpace, Trial
from dnc_jax.search.results import SearchResult
from dnc_jax.search.winner import retrain
from dnc_jax.training import Hyperparameters, data, feed, population, rows, trainer

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (120, 5, 4, 2), dtype=np.uint8)
Y = RNG.integers(0, 3, 120)
TEST = (X[:30], Y[:30])


def write(folder, train=(X, Y), test=TEST, at=(50, 51)):
    """The arrays as files, those of training in three shards."""
    folder.mkdir(exist_ok=True)
    for letter, of_train, of_test in zip("xy", train, test, strict=True):
        for number, part in enumerate(np.split(of_train, at)):
            np.save(folder / f"{letter}tr-{number:05}.npy", part)
        np.save(folder / f"{letter}te.npy", of_test)
    return str(folder)


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def in_memory(split):
    return data.Split(*map(np.asarray, split))


@pytest.mark.parametrize("channels", ["last", "first"])
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_a_folder_is_the_data_set_of_its_arrays(tmp_path, channels, kind):
    x = X.astype(kind)
    folder = write(tmp_path / "set", (x, Y), (x[:30], Y[:30]))
    found = data.load(folder, channels=channels)
    wanted = data.from_arrays((x, Y), (x[:30], Y[:30]), name=folder, channels=channels)
    for name in ("train", "validation", "test"):
        split = getattr(found, name)
        assert isinstance(split.x, rows.FileRows)
        assert split.x.shape == getattr(wanted, name).x.shape
        assert split.x.dtype == getattr(wanted, name).x.dtype
        assert_same(in_memory(split), getattr(wanted, name))
    assert_same(found[5:], wanted[5:])
    assert str(found) == str(wanted)


def test_rows_are_read_in_any_order():
    one = rows.FileRows(np.split(X, (50, 51)))
    for index in (np.array([119, 0, 50, 50, 3]), slice(45, 60), slice(0), np.arange(0)):
        np.testing.assert_array_equal(one[index], X[index])
    some = one.only(np.array([70, 2, 51]))
    np.testing.assert_array_equal(some[np.array([2, 0])], X[[51, 70]])
    both = rows.joined(some, one)
    assert isinstance(both, rows.FileRows)
    np.testing.assert_array_equal(both, np.concatenate([X[[70, 2, 51]], X]))
    np.testing.assert_array_equal(rows.joined(some, X), np.asarray(both))


def test_moments_are_those_of_numpy(monkeypatch):
    monkeypatch.setattr(rows, "_BLOCK_BYTES", 1000)
    for x, axes in ((X, (0, 1, 2)), (X.reshape(120, -1), 0), (X[..., 0], None)):
        mean, spread = rows.moments(x)
        np.testing.assert_allclose(mean, np.atleast_1d(x.mean(axes)), rtol=1e-12)
        np.testing.assert_allclose(spread, np.atleast_1d(x.std(axes)), rtol=1e-12)


def test_networks_of_a_folder_are_those_of_memory_to_rounding(tmp_path):
    folder = write(tmp_path / "set")
    whole = data.load(folder)._replace(resident_bytes=1_600)  # of 3,360
    wanted = data.from_arrays((X, Y), TEST)
    job = population.Job(
        MLP(40, (6,), 3), Hyperparameters(3e-3, 1e-4, 16), jax.random.key(0), 0, 2, 2
    )
    (streamed,), (resident,) = (
        population.train([job], population.Programs(one, jax.random.key(1)))
        for one in (whole, wanted)
    )
    alone, _ = trainer.train(
        jax.random.key(0),
        job.architecture,
        job.hyperparameters,
        whole,
        order_key=jax.random.key(1),
        epochs=2,
        keep_last=True,
    )
    for one in (streamed.snapshot.params, alone.params):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5),
            tuple(one),
            tuple(resident.snapshot.params),
        )
    np.testing.assert_allclose(streamed.val_loss, resident.val_loss, rtol=1e-5)
    assert streamed.val_accuracy == resident.val_accuracy


def test_validation_and_test_rows_are_streamed_too(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer.feed, "EVALUATION_BATCH", 7)
    monkeypatch.setattr(trainer.feed, "free_bytes", lambda: 1_000.0)
    folder = data.load(write(tmp_path / "set"))
    params = trainer.init(jax.random.key(0), MLP(40, (6,), 3)).params
    network = (trainer.Trained(params), MLP(40, (6,), 3))
    jax.clear_caches()
    streamed = trainer.evaluate(*network, folder.test, folder.view)
    monkeypatch.undo()
    jax.clear_caches()
    whole = trainer.evaluate(*network, in_memory(folder.test), folder.view)
    np.testing.assert_allclose(streamed, whole, rtol=1e-6)


def test_a_winners_rows_keep_to_the_data_sets_own_limit(monkeypatch):
    rows = data.from_arrays((X, Y), TEST, resident_bytes=500)  # of 1,320 of the test
    one = Candidate(MLP(40, (6,), 3), Hyperparameters(3e-3, 1e-4, 16))
    trial = Trial(
        0, one, 0, 1, (1.0,), (0.5,), complexity(one.architecture), 0, 0, "done"
    )
    feeds = []

    class Spied(feed.Feed):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            feeds.append((self.count, self.streamed))

    monkeypatch.setattr(feed, "Feed", Spied)
    rest = [None] * (len(SearchResult._fields) - 1)
    retrain(SearchResult([trial], *rest), MLPSpace(40, 3), rows, seed=0, epochs=1)
    assert feeds == [(96, True), (24, True), (30, True)]


def test_a_large_set_is_not_held_in_memory(tmp_path):
    x = np.lib.format.open_memmap(
        tmp_path / "xtr.npy", "w+", np.float32, (10_000, 40, 40)
    )
    x[::2] = 1
    x.flush()
    np.save(tmp_path / "ytr.npy", np.arange(10_000) % 2)
    np.save(tmp_path / "xte.npy", x[:10])
    np.save(tmp_path / "yte.npy", np.arange(10) % 2)
    size = x.nbytes
    del x
    tracemalloc.start()
    problem = data.load(str(tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert problem.train.x.nbytes == 0.8 * size
    assert peak < 0.4 * size
    np.testing.assert_allclose(problem.mean, 0.5, atol=1e-6)


def test_what_a_folder_lacks_is_named(tmp_path):
    folder = tmp_path / "set"
    write(folder)
    (folder / "yte.npy").unlink()
    with pytest.raises(InputError, match=r"has no file yte\.npy"):
        data.load(str(folder))
    write(folder)
    np.save(folder / "xtr-00001.npy", np.zeros((1, 5, 4), np.uint8))
    with pytest.raises(InputError, match=r"xtr-00001.*shards differ in their number"):
        data.load(str(folder))
    write(folder)
    (folder / "ytr-00002.npy").unlink()
    with pytest.raises(InputError, match="120 examples but labels"):
        data.load(str(folder))


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00torn"])
def test_a_damaged_file_is_refused(tmp_path, content):
    folder = write(tmp_path / "set")
    (tmp_path / "set" / "xte.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*xte\.npy"):
        data.load(folder)


def test_a_pickle_among_the_files_is_not_opened(tmp_path):
    folder = write(tmp_path / "set")
    bad = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "set" / "xte.npy", bad, allow_pickle=True)
    with pytest.raises(InputError, match=r"cannot read .*xte\.npy"):
        data.load(folder)


def test_a_bad_value_in_a_file_is_found(tmp_path):
    x = X.astype(np.float32)
    x[77, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"1 of 120 examples .* row 77"):
        data.load(write(tmp_path / "set", (x, Y), TEST))
