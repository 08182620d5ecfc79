"""Sets of TFDS: what is decoded, what is kept, what is refused."""

import logging
import pathlib
import types

import jax
import numpy as np
import pytest

from dnc_jax.errors import InputError
from dnc_jax.training import compilation, data, image_sets

TFDS_DIR = pathlib.Path(__file__).parents[2] / "shared" / "data" / "tfds"


class FakeSource(list):
    """A TFDS data source of images that hold their own number."""

    def __getitems__(self, numbers):
        return [self[number] for number in numbers]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A prepared set of 6 training and 4 test images, and how often it was decoded."""
    import tensorflow_datasets

    folder = tmp_path / "tfds" / "faces" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "faces-train.array_record").write_bytes(b"rows")
    state = types.SimpleNamespace(folder=folder, decoded=[], side=2)

    def as_data_source(split):
        state.decoded.append(split)
        sides = [2] * {"train": 5, "test": 3}[split] + [state.side]
        return FakeSource(
            {"image": np.full((side, 2, 1), number, np.uint8), "label": number % 2}
            for number, side in enumerate(sides)
        )

    state.builder = types.SimpleNamespace(
        name="faces",
        info=types.SimpleNamespace(
            features={"image": 0, "label": 0}, splits={"train": 0, "test": 0}
        ),
        data_path=folder,
        as_data_source=as_data_source,
    )
    monkeypatch.setattr(tensorflow_datasets, "builder", lambda *_, **__: state.builder)
    return state


@pytest.fixture
def cache(tmp_path):
    """The folder of compiled programs and decoded rows, for one test."""
    before = compilation.folder()
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", before and str(before))


def read(prepared):
    return image_sets.read("faces", prepared.folder.parents[1])


def check(rows):
    (x, y), (test_x, test_y) = rows
    assert x.dtype == np.uint8
    assert y.dtype == np.int32
    np.testing.assert_array_equal(x[:, 0, 0, 0], range(6))
    np.testing.assert_array_equal(y, [0, 1] * 3)
    assert test_x.shape == (4, 2, 2, 1)
    assert len(test_y) == 4


def test_decoded_rows_are_kept_for_the_next_process(prepared, cache):
    for _ in range(2):
        check(read(prepared))
    assert prepared.decoded == ["train", "test"]
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


def test_a_set_prepared_anew_is_decoded_anew(prepared, cache):
    read(prepared)
    (prepared.folder / "faces-train.array_record").write_bytes(b"other rows")
    read(prepared)
    assert len(prepared.decoded) == 4


def test_a_damaged_copy_is_decoded_again_and_replaced(prepared, cache):
    read(prepared)
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-300])
    check(read(prepared))
    check(read(prepared))
    assert len(prepared.decoded) == 4


def test_nothing_is_kept_of_large_sets_or_where_nothing_may_be(
    prepared, cache, monkeypatch
):
    monkeypatch.setattr(image_sets, "_KEPT_BYTES", 30)  # of 40
    check(read(prepared))
    assert not cache.exists()
    jax.config.update("jax_compilation_cache_dir", None)
    check(read(prepared))
    assert not cache.exists()


def test_a_folder_that_cannot_be_written_costs_decoding_only(prepared, cache):
    cache.write_text("a file where a folder should be")
    for _ in range(2):
        check(read(prepared))
    assert len(prepared.decoded) == 4


def test_images_of_different_shapes_are_refused_with_both(prepared, cache):
    prepared.side = 3
    with pytest.raises(InputError, match=r"\(2, 2, 1\) and \(3, 2, 1\); one is needed"):
        read(prepared)
    assert not cache.exists()


def test_a_set_without_labels_or_without_a_split_is_refused(prepared):
    prepared.builder.info.splits = {"train": 0}
    with pytest.raises(InputError, match=r"no split 'test', only \['train'\]"):
        read(prepared)
    prepared.builder.info.features = {"image": 0}
    with pytest.raises(InputError, match="not an image-classification set"):
        read(prepared)


@pytest.mark.skipif(not TFDS_DIR.is_dir(), reason="no TFDS data directory beside us")
def test_mnist_is_read_through_tfds_without_tensorflow(cache, monkeypatch):
    """The first 3000 images of both splits: decoding all takes half a minute."""
    import tensorflow_datasets

    builder = tensorflow_datasets.builder("mnist", data_dir=str(TFDS_DIR))
    whole = builder.as_data_source
    monkeypatch.setattr(builder, "as_data_source", lambda s: whole(f"{s}[:3000]"))
    monkeypatch.setattr(tensorflow_datasets, "builder", lambda *_, **__: builder)
    problem = data.load("mnist", data_dir=str(TFDS_DIR))
    assert problem.train.x.shape == (2400, 28, 28, 1)
    assert problem.train.x.dtype == np.uint8
    assert len(problem.test.y) == 3000
    assert problem.mean[0] == pytest.approx(33.3, abs=0.5)
    assert set(problem.train.y) == set(range(10))
    assert len(list(cache.glob("rows-mnist-*.npz"))) == 1


def test_the_reader_keeps_quiet_about_the_file_layout_only(caplog):
    logger = logging.getLogger("absl")
    with image_sets._quiet():
        logger.error("File x was created with group size 256.")
        logger.error("File x is damaged.")
    assert [record.getMessage() for record in caplog.records] == ["File x is damaged."]
