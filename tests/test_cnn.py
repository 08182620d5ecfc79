import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import dnc_jax
from dnc_jax.networks import CNN, Sparsity, cnn, network
from dnc_jax.networks.convolution import convolution
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

    ours, pull = jax.vjp(lambda *a: convolution(*a, stride), x, weight)
    expected, pull_reference = jax.vjp(reference, x, weight)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    gradient = jax.random.normal(jax.random.key(2), expected.shape)
    for one, other in zip(pull(gradient), pull_reference(gradient), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_a_network_computes_layer_by_layer_what_its_description_says():
    params = network.init(jax.random.key(0), FULL)
    params = jax.tree.map(lambda p: p + 0.1, params)  # biases and offsets count too
    running = jax.tree.map(lambda s: s + 0.5, network.statistics(FULL))

    def conv(x, layer, stride=1):
        weight = params[layer]["weight"]
        form = ("NHWC", "HWIO", "NHWC")
        strides = (stride, stride)
        y = lax.conv_general_dilated(x, weight, strides, "SAME", dimension_numbers=form)
        return y + params[layer]["bias"].reshape(1, 1, 1, -1)

    def norm(x, layer):
        mean, variance, scale, offset = (
            tree[layer][name].reshape(1, 1, 1, -1)
            for tree, name in (
                (running, "mean"),
                (running, "variance"),
                (params, "scale"),
                (params, "offset"),
            )
        )
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + offset

    def pixels(x, reduce, fill):
        x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)), **fill)
        rows = [reduce([x[:, i], x[:, i + 1]], axis=0) for i in range(0, x.shape[1], 2)]
        x = np.stack(rows, 1)
        columns = range(0, x.shape[2], 2)
        return np.stack(
            [reduce([x[:, :, i], x[:, :, i + 1]], axis=0) for i in columns], 2
        )

    x = jnp.asarray(images()).reshape(-1, 7, 8, 3)
    a = jnp.tanh(norm(conv(x, 0), 0))
    b = jnp.tanh(conv(a, 1, stride=2))  # 4 x 4; the first shortcut begins before it
    c = norm(conv(b, 2), 2)
    left = pixels(a, np.mean, {"mode": "edge"})  # the lone last row is its own mean
    c = jnp.tanh(c + np.pad(left, ((0, 0),) * 3 + ((0, 4),)))
    d = pixels(conv(c, 3), np.max, {"constant_values": -np.inf})
    d = jnp.tanh(norm(d, 3))
    e = conv(d, 4) + np.pad(pixels(c, np.mean, {}), ((0, 0),) * 3 + ((0, 4),))
    features = jnp.tanh(e).mean((1, 2))
    expected = features @ params[5]["weight"] + params[5]["bias"].reshape(1, -1)
    actual = network.apply(params, FULL, images(), (), running)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_in_training_a_batch_is_normalised_by_itself_and_moves_the_statistics():
    one = CNN((4, 4, 1), (3,), 2, batch_norm=(True,))
    params = network.init(jax.random.key(0), one)
    x = images(5, (4, 4, 1))
    _, moved = network.train_apply(
        params, one, x, (), network.statistics(one), seed=np.uint32(1)
    )
    hidden = convolution(x.reshape(5, 4, 4, 1), params[0]["weight"])
    mean, variance = hidden.mean((0, 1, 2)), hidden.var((0, 1, 2))
    np.testing.assert_allclose(moved[0]["mean"], 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(moved[0]["variance"], 0.9 + 0.1 * variance, atol=1e-6)


def test_dropout_is_of_training_only_and_its_rate_may_be_traced():
    params = network.init(jax.random.key(0), FULL)
    running = network.statistics(FULL)

    def train(architecture, rates=None, seed=3):
        return network.train_apply(
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
    params = network.init(jax.random.key(1), SPARSE, patterns)
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
        network.apply(params, SPARSE, images(), patterns, running),
        network.apply(tuple(full), FULL, images(), (), running),
        atol=1e-5,
    )


def test_first_weights_have_the_variance_of_he():
    architecture = CNN((8, 8, 16), (64, 64), 10)
    params = cnn.init(jax.random.key(0), architecture)
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
    assert max(history.val_accuracy) > (0.25 if augment else 0.9)
    architecture = SMALL if augment else sparse
    saved = dnc_jax.Network.trained_on(digits, architecture, hyperparameters, trained)
    checkpoints.save(tmp_path / "best", saved)
    loaded = dnc_jax.load(tmp_path / "best")
    assert loaded.architecture == architecture
    outputs = saved(digits.test.x)
    np.testing.assert_array_equal(loaded(digits.test.x), outputs)
    test = trainer.evaluate(
        trained.params,
        architecture,
        digits.test,
        digits.mean,
        digits.scale,
        trained.patterns,
        trained.statistics,
    )
    hits = outputs.argmax(-1) == digits.test.y
    assert float(test.accuracy) == pytest.approx(hits.mean(), abs=1e-6)


def test_crops_are_windows_of_the_padded_image_and_half_are_turned():
    image = np.arange(1, 61, dtype=np.uint8).reshape(1, 6, 10, 1)
    many = np.repeat(image, 400, axis=0)
    crops = np.asarray(augmentation.crop_and_flip(many, np.uint32(5)))
    assert crops.dtype == np.uint8
    padded = np.pad(image[0], ((4, 4), (4, 4), (0, 0)))
    windows = [padded[i : i + 6, j : j + 10] for i in range(9) for j in range(9)]
    index = {w.tobytes(): k for k, w in enumerate(windows)}
    index |= {w[:, ::-1].tobytes(): 100 + k for k, w in enumerate(windows)}
    found = [index[crop.tobytes()] for crop in crops]
    assert 140 < sum(k >= 100 for k in found) < 260
    assert len({k % 100 for k in found}) > 70, "of 81 windows"
    other = augmentation.crop_and_flip(many, np.uint32(6))
    assert not np.array_equal(other, crops)
