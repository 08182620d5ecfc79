import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import dnc_jax
from dnc_jax.networks import CNN, Sparsity, network
from dnc_jax.networks.convolution import convolution, im2col
from dnc_jax.training import Hyperparameters, augmentation, checkpoints, trainer
from tests.oracle import dense_of

FULL = CNN(
    (7, 8, 3),
    (4, 4, 8, 8, 12),
    5,
    "tanh",
    ("", "stride", "", "pool", ""),
    (True, False, True, True, False),
    (0.1, 0.0, 0.3, 0.0, 0.2),
    shortcuts=2,
)
SPARSE = dataclasses.replace(
    FULL,
    sparsity=(
        None,
        Sparsity(0.5),
        Sparsity(0.5, (1, 4), "balanced"),
        Sparsity(0.25),
        None,
        Sparsity(0.4, (1, 1), "random"),
    ),
)


init = jax.jit(network.init, static_argnums=1)
apply = jax.jit(network.apply, static_argnums=1)
train_apply = jax.jit(network.train_apply, static_argnums=1)


def images(count=6, shape=(7, 8, 3)):
    x = np.random.default_rng(0).normal(size=(count, *shape))
    return x.reshape(count, -1).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 6), (7, 5), (1, 4)])
def test_a_convolution_and_its_gradients_are_those_of_lax(stride, size):
    x = jax.random.normal(jax.random.key(0), (3, *size, 4))
    weight = jax.random.normal(jax.random.key(1), (3, 3, 4, 5))

    def reference(x, weight):
        return lax.conv_general_dilated(
            x,
            weight,
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    @partial(jax.jit, static_argnums=0)
    def gradients(function, x, weight, dy):
        y, pull = jax.vjp(function, x, weight)
        return y, *pull(dy)

    dy = jax.random.normal(
        jax.random.key(2), jax.eval_shape(reference, x, weight).shape
    )
    expected = gradients(reference, x, weight, dy)
    for ours, least, most in (
        (partial(convolution, stride=stride), 0, 2e-5),
        (partial(im2col, stride=stride), 0, 2e-5),
        # In bfloat16, of 8 binary digits.
        (partial(convolution, stride=stride, form="grouped"), 1e-4, 2e-2),
        (partial(convolution, stride=stride, form="im2col"), 1e-4, 2e-2),
    ):
        for one, other in zip(gradients(ours, x, weight, dy), expected, strict=True):
            assert one.dtype == jnp.float32
            error = np.linalg.norm(one - other) / np.linalg.norm(other)
            assert least <= error < most


def correlated(x, layer, stride=1):
    """A convolution with SAME padding as its definition says, in NumPy."""
    weight = np.asarray(layer["weight"], np.float64)
    sizes = [-(-n // stride) for n in x.shape[1:3]]
    pads = [
        max((m - 1) * stride + 3 - n, 0)
        for m, n in zip(sizes, x.shape[1:3], strict=True)
    ]
    edges = [(pad // 2, pad - pad // 2) for pad in pads]
    x = np.pad(x, ((0, 0), *edges, (0, 0)))
    spans = [(m - 1) * stride + 1 for m in sizes]
    return np.asarray(layer["bias"]) + sum(
        x[:, i : i + spans[0] : stride, j : j + spans[1] : stride] @ weight[i, j]
        for i in range(3)
        for j in range(3)
    )


def squares(x, reduce, **pad):
    """2 x 2 pixels reduced to one, in NumPy."""
    edges = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
    x = np.pad(x, edges, **pad)
    parts = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
    return reduce(parts, axis=0)


def test_a_network_computes_layer_by_layer_what_its_description_says():
    params = init(jax.random.key(0), FULL)
    params = jax.tree.map(lambda p: np.asarray(p) + 0.1, params)  # biases count too
    running = jax.tree.map(lambda s: np.asarray(s) + 0.5, network.statistics(FULL))

    def norm(x, layer):
        spread = np.sqrt(running[layer]["variance"] + 1e-5)
        scaled = (x - running[layer]["mean"]) / spread * params[layer]["scale"]
        return scaled + params[layer]["offset"]

    def widened(x):
        return np.pad(x, ((0, 0),) * 3 + ((0, 4),))

    x = images().reshape(-1, 7, 8, 3)
    a = np.tanh(norm(correlated(x, params[0]), 0))
    b = np.tanh(correlated(a, params[1], stride=2))  # 4 x 4 pixels
    c = norm(correlated(b, params[2]), 2)
    # From before the second layer; the mean of a lone last row is of that row.
    c = np.tanh(c + widened(squares(a, np.mean, mode="edge")))
    d = squares(correlated(c, params[3]), np.max, constant_values=-np.inf)
    d = np.tanh(norm(d, 3))
    e = np.tanh(correlated(d, params[4]) + widened(squares(c, np.mean)))
    expected = e.mean((1, 2)) @ params[5]["weight"] + params[5]["bias"]
    actual = apply(params, FULL, images(), (), running)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_in_training_a_batch_is_normalised_by_itself_and_moves_the_statistics():
    one = CNN((4, 4, 1), (3,), 2, batch_norm=(True,))
    params = init(jax.random.key(0), one)
    x = images(5, (4, 4, 1))
    _, moved = train_apply(
        params, one, x, (), network.statistics(one), seed=np.uint32(1)
    )
    hidden = convolution(x.reshape(5, 4, 4, 1), params[0]["weight"])
    mean, variance = hidden.mean((0, 1, 2)), hidden.var((0, 1, 2))
    np.testing.assert_allclose(moved[0]["mean"], 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(moved[0]["variance"], 0.9 + 0.1 * variance, atol=1e-6)


def test_dropout_is_of_training_only_and_its_rate_may_be_traced():
    params = init(jax.random.key(0), FULL)
    running = network.statistics(FULL)

    def train(architecture, rates=None, seed=3):
        return train_apply(
            params,
            architecture,
            images(),
            (),
            running,
            seed=np.uint32(seed),
            rates=rates,
        )[0]

    dropped = train(FULL)
    assert not np.allclose(dropped, train(FULL, seed=4))
    assert not np.allclose(dropped, train(dataclasses.replace(FULL, dropout=())))
    traced = train(network.structure(FULL), network.rates(FULL))
    np.testing.assert_allclose(traced, dropped, atol=1e-6)


def test_a_sparse_cnn_computes_what_its_masked_twin_does():
    patterns = network.patterns(jax.random.key(0), SPARSE)
    params = init(jax.random.key(1), SPARSE, patterns)
    assert tuple(layer["weight"].size for layer in params) == SPARSE.edges
    network.check(SPARSE, patterns)
    full = []
    for layer, pattern in zip(params, patterns, strict=True):
        weight = layer["weight"]
        if pattern and weight.ndim == 5:
            taps = weight.reshape(9, *weight.shape[2:])
            weight = jnp.stack([dense_of(tap, pattern) for tap in taps])
            weight = weight.reshape(3, 3, *weight.shape[1:])
        elif pattern:
            weight = dense_of(weight, pattern)
        full.append({**layer, "weight": weight})
    running = network.statistics(SPARSE)
    np.testing.assert_allclose(
        apply(params, SPARSE, images(), patterns, running),
        apply(tuple(full), FULL, images(), (), running),
        atol=1e-5,
    )


def test_gradients_can_be_derived_forwards_and_backwards():
    """Of batch norm, biases, a convolution and a sparse head."""
    cnn = CNN(
        (4, 3, 2), (2,), 2, "tanh", ("stride",), (True,),
        sparsity=(None, Sparsity(0.5)),
    )  # fmt: skip
    patterns = network.patterns(jax.random.key(1), cnn)
    params = init(jax.random.key(0), cnn, patterns)
    statistics, x = network.statistics(cnn), images(3, (4, 3, 2))
    direction = jax.tree.map(
        lambda p: jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), params
    )

    def loss(params):
        outputs, _ = network.train_apply(
            params, cnn, x, patterns, statistics, seed=jnp.uint32(0)
        )
        return jnp.sum(jnp.tanh(outputs))

    def slope(params):
        gradient = jax.grad(loss)(params)
        parts = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)
        return sum(jax.tree.leaves(parts))

    @jax.jit
    def along(params):
        forwards = jax.jvp(jax.grad(loss), (params,), (direction,))[1]
        return forwards, jax.grad(slope)(params)

    forwards, backwards = along(params)
    for one, other in zip(
        jax.tree.leaves(forwards), jax.tree.leaves(backwards), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(forwards)) > 0.1


def test_first_weights_have_the_variance_of_he():
    architecture = CNN((8, 8, 16), (64, 64), 10)
    params = init(jax.random.key(0), architecture)
    for layer, fan_in in zip(params, (144, 576, 64), strict=True):
        assert np.std(layer["weight"]) == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
        assert not np.any(layer["bias"])


SMALL = CNN((8, 8, 1), (8, 16), 10, "relu", ("", "stride"), (True, True), (0.0, 0.1))


@pytest.mark.parametrize("augment", [False, True])
def test_a_cnn_learns_is_saved_and_loaded(digits, tmp_path, augment):
    sparse = dataclasses.replace(SMALL, sparsity=(None, Sparsity(0.5), None))
    hyperparameters = Hyperparameters(1e-2, 1e-5, 64)
    trained, history = trainer.train(
        jax.random.key(0),
        SMALL if augment else sparse,
        hyperparameters,
        digits._replace(augment=augment),
        order_key=jax.random.key(1),
        epochs=10,
    )
    # A crop may move 4 of a digit's 8 pixels out of sight.
    assert max(history.val_accuracy) > (0.25 if augment else 0.75)
    architecture = SMALL if augment else sparse
    saved = dnc_jax.Network.trained_on(digits, architecture, hyperparameters, trained)
    checkpoints.save(tmp_path / "best", saved)
    loaded = dnc_jax.load(tmp_path / "best")
    assert loaded.architecture == architecture
    outputs = jax.jit(saved)(digits.test.x)
    np.testing.assert_array_equal(jax.jit(loaded)(digits.test.x), outputs)
    test = trainer.evaluate(trained, architecture, digits.test, digits.view)
    hits = outputs.argmax(-1) == digits.test.y
    assert float(test.accuracy) == pytest.approx(float(hits.mean()), abs=1e-6)


def test_crops_are_windows_of_the_padded_image_and_half_are_turned():
    image = np.arange(1, 61, dtype=np.uint8).reshape(1, 6, 10, 1)
    many = np.repeat(image, 400, axis=0)
    crop_and_flip = jax.jit(augmentation.crop_and_flip)
    crops = np.asarray(crop_and_flip(many, np.uint32(5)))
    assert crops.dtype == np.uint8
    padded = np.pad(image[0], ((4, 4), (4, 4), (0, 0)))
    windows = [padded[i : i + 6, j : j + 10] for i in range(9) for j in range(9)]
    index = {w.tobytes(): k for k, w in enumerate(windows)}
    index |= {w[:, ::-1].tobytes(): 100 + k for k, w in enumerate(windows)}
    found = [index[crop.tobytes()] for crop in crops]
    assert 140 < sum(k >= 100 for k in found) < 260
    assert len({k % 100 for k in found}) > 70, "of 81 windows"
    other = crop_and_flip(many, np.uint32(6))
    assert not np.array_equal(other, crops)
