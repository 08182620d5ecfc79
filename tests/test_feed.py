import functools
import os
import threading

import jax
import numpy as np
import pytest

from dnc_jax import InputError
from dnc_jax.networks import CNN, MLP
from dnc_jax.training import Hyperparameters, data, feed, population, trainer

ORDER = jax.random.key(7)
ROW = 6 * 6 * 2 + 4  # bytes


@pytest.fixture(scope="module")
def pictures():
    """160 training images of 6 x 6 x 2 with 3 classes."""
    rng = np.random.default_rng(0)

    def split(rows):
        x = rng.integers(0, 256, (rows, 6, 6, 2), dtype=np.uint8)
        return data.Split(x, rng.integers(0, 3, rows))

    return data.from_arrays(split(200), split(60), name="pictures", augment=True)


def fed(rows, limit, readers=1):
    order = functools.partial(trainer.epoch_order, ORDER, rows=len(rows.y))
    return feed.Feed(rows, float(limit), order, readers)


def batches(one, epoch, batch_size):
    """Labels and pictures, batch by batch, and the shapes of the segments."""
    found, shapes = [], set()
    for steps, order, rows in one.epoch(epoch, batch_size):
        shapes.add(rows.x.shape)
        for step in range(steps):
            at = slice(step * batch_size, (step + 1) * batch_size)
            take = at if np.ndim(order) == 0 else np.asarray(order)[at]
            found.append((np.asarray(rows.y)[take], np.asarray(rows.x)[take]))
    return found, shapes


@pytest.mark.parametrize("batch_size", [16, 13, 160])
@pytest.mark.parametrize("limit", [1, 40 * ROW, 100 * ROW])
def test_a_stream_has_the_batches_of_resident_rows(pictures, batch_size, limit):
    resident, streamed = fed(pictures.train, 1e9), fed(pictures.train, limit)
    assert not resident.streamed
    assert streamed.streamed
    for epoch in (0, 1):
        wanted, _ = batches(resident, epoch, batch_size)
        found, shapes = batches(streamed, epoch, batch_size)
        assert len(found) == len(wanted) == 160 // batch_size
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
        assert len(shapes) == 1, "one program runs all segments"


def test_two_segments_of_each_reader_fit_the_limit(pictures):
    streamed = fed(pictures.train, 80 * ROW, readers=2)
    _, ((rows, *_),) = batches(streamed, 0, 5)
    assert rows == 20


def test_the_next_segment_is_gathered_while_one_trains(pictures):
    gathered = threading.Semaphore(0)

    def place(tree):
        gathered.release()
        return tree

    order = functools.partial(trainer.epoch_order, ORDER, rows=160)
    streamed = feed.Feed(pictures.train, 32.0 * ROW, order, 1, place)
    segments = streamed.epoch(0, 16)
    next(segments)
    assert gathered.acquire(timeout=10)
    assert gathered.acquire(timeout=10), "the second, which nobody has asked for"
    segments.close()


JOBS = [
    (MLP(72, (9, 5), 3, dropout=0.2), 32),
    (CNN((6, 6, 2), (4,), 3, "relu", ("pool",), (True,), (0.1,)), 13),
]


def assert_same(tree, other):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), tree, other
    )


def test_streamed_networks_are_those_of_resident_rows_to_rounding(pictures):
    jobs = [
        population.Job(
            architecture, Hyperparameters(3e-3, 1e-4, batch), jax.random.key(n), 0, 2, 2
        )
        for n, (architecture, batch) in enumerate(JOBS)
    ]
    resident, streamed = (
        population.train(jobs, population.Programs(one, ORDER))
        for one in (pictures, pictures._replace(resident_bytes=120 * ROW))
    )
    for one, other in zip(resident, streamed, strict=True):
        assert one.snapshot.step == other.snapshot.step
        assert_same(one.val_loss, other.val_loss)
        assert_same(one.snapshot.params, other.snapshot.params)


def test_a_network_trained_alone_from_a_stream_is_the_same(pictures):
    architecture, batch = JOBS[0]

    def train(one):
        return trainer.train(
            jax.random.key(0),
            architecture,
            Hyperparameters(3e-3, 1e-4, batch),
            one,
            order_key=ORDER,
            epochs=2,
        )

    trained, history = train(pictures)
    streamed, other = train(pictures._replace(resident_bytes=64 * ROW))
    assert_same(trained.params, streamed.params)
    assert_same(history.val_loss, other.val_loss)
    assert_same(history.train_loss, other.train_loss)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a CPU's memory")
def test_a_container_may_have_less_memory_than_the_machine(monkeypatch, tmp_path):
    machine = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    second, first = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    monkeypatch.setattr(feed, "_CONTAINER_LIMITS", (second, first))
    assert feed.free_bytes() == machine, "no container"
    second.write_text("max\n")
    first.write_text(f"{2**63 - 4096}\n")
    assert feed.free_bytes() == machine, "a container without a limit"
    first.write_text("2000000\n")
    assert feed.free_bytes() == 2e6
    second.write_text("1000000\n")
    assert feed.free_bytes() == 1e6


def test_a_negative_limit_is_refused(pictures):
    with pytest.raises(InputError, match="resident_bytes must be a whole number >= 0"):
        data.from_arrays(pictures.train, pictures.test, resident_bytes=-1)


def test_orders_of_many_epochs_are_not_all_kept(pictures, monkeypatch):
    drawn = []

    def order(number):
        drawn.append(number)
        return trainer.epoch_order(ORDER, number, rows=160)

    monkeypatch.setattr(feed, "_ORDER_BYTES", 3 * 4 * 160)
    one = feed.Feed(pictures.train, 1e9, order)
    whole = fed(pictures.train, 1e9)
    for epoch in (0, 1, 2, 0, 3, 0, 1):
        for part, other in zip(
            one.epoch(epoch, 16), whole.epoch(epoch, 16), strict=True
        ):
            np.testing.assert_array_equal(part.order, other.order)
    # The first was used again and again, the second gave way to the fourth.
    assert drawn == [0, 1, 2, 3, 1]
