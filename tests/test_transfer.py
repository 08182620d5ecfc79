import jax
import numpy as np
import pytest

from dnc_jax import InputError
from dnc_jax.networks import CNN, MLP, Sparsity
from dnc_jax.search import MLPSpace
from dnc_jax.search.transfer import adapted, training_space
from dnc_jax.training.data import from_arrays


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (60, 6, 6, 2), np.uint8), np.arange(60) % 3
    return from_arrays((x, y), (x, y))


def test_hidden_layers_stay_and_the_ends_fit_the_data(images):
    assert adapted(MLP(64, (20, 9), 10, "tanh", 0.2), images) == MLP(
        72, (20, 9), 3, "tanh", 0.2
    )
    deep = CNN((8, 8, 1), (4, 6), 10, shortcuts=0)
    assert adapted(deep, images) == CNN((6, 6, 2), (4, 6), 3)


def test_sparse_junctions_get_a_density_that_their_new_size_allows(images):
    network = MLP(
        64, (16, 8), 10, sparsity=(Sparsity(0.25), Sparsity(0.5, (2, 2)), None)
    )
    moved = adapted(network, images)
    assert (moved.inputs, moved.outputs, len(moved.sparsity)) == (72, 3, 3)
    assert moved.sparsity[0].density == pytest.approx(0.25, rel=0.1)
    assert moved.sparsity[2] is None


def test_the_nearest_density_is_that_of_the_new_size_and_the_same_family(images):
    first = Sparsity(0.0625, family="structured")  # which 72 by 16 nodes cannot have
    moved = adapted(MLP(64, (16,), 10, sparsity=(first, None)), images)
    assert moved.sparsity == (Sparsity(0.125), None)
    random = Sparsity(0.0625, family="random")
    moved = adapted(MLP(64, (16,), 10, sparsity=(random, None)), images)
    assert moved.sparsity == (random, None)
    # Between 2 and 3 nodes there is no structured pattern but all edges.
    dense = adapted(MLP(64, (2,), 10, sparsity=(None, Sparsity(0.5))), images)
    assert dense == MLP(72, (2,), 3)


def test_a_cnn_is_not_taken_to_rows_that_are_no_images(small):
    with pytest.raises(InputError, match=r"takes images \[H, W, channels\]"):
        adapted(CNN((8, 8, 1), (4,), 10), small)


def test_only_the_training_varies_after_a_transfer(small):
    found = [adapted(MLP(9, (n,), 2), small) for n in (5, 7, 5)]
    space = training_space(found, MLPSpace(6, 4, learning_rate=(1e-3, 1e-2)))
    drawn = space.sample(jax.random.key(0), 20)
    assert {one.architecture for one in drawn} == set(found)
    assert len(space.dimensions["architecture"].values) == len(set(found))
    assert len({one.hyperparameters.weight_decay for one in drawn}) > 10
    assert len({one.hyperparameters.batch_size for one in drawn}) > 1
    assert len({one.hyperparameters.learning_rate for one in drawn}) > 10
    assert all(1e-3 <= one.hyperparameters.learning_rate <= 1e-2 for one in drawn)
    assert space.largest() == found[1]
    with pytest.raises(InputError, match="at least one architecture"):
        training_space([], MLPSpace(6, 4))
