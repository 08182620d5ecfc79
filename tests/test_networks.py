import dataclasses
import json
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc_jax.errors import InputError, check_numbers, check_whole
from dnc_jax.networks import (
    CNN,
    MLP,
    Sparsity,
    architecture,
    from_json,
    mlp,
    network,
    to_json,
)
from dnc_jax.networks.draws import normals
from dnc_jax.networks.dropout import dropout, fold_in
from dnc_jax.plain import plain
from dnc_jax.training import Hyperparameters
from tests.oracle import dense_of

architectures = st.builds(
    MLP,
    inputs=st.integers(1, 50),
    hidden=st.lists(st.integers(1, 40), max_size=3).map(tuple),
    outputs=st.integers(2, 12),
    activation=st.sampled_from(["relu", "tanh", "sigmoid"]),
    dropout=st.floats(0, 0.9),
)


@given(architectures)
def test_an_architecture_survives_json(architecture):
    assert from_json(json.loads(json.dumps(to_json(architecture)))) == architecture


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden": (0,)}, "hidden must be a whole number >= 1, got 0"),
        (
            {"hidden": (4,), "activation": "step"},
            "activation must be one of relu.*'step'",
        ),
        ({"hidden": (4,), "dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"hidden": (4,), "sparsity": (None,)}, "describes 1 junctions, .* has 2"),
        (
            {"hidden": (6,), "sparsity": (Sparsity(0.5), None)},
            "0.5 is impossible for 3 x 6 .* nearest: 0.333333 and 0.666667",
        ),
        (
            {"hidden": (4,), "sparsity": (Sparsity(0.5, family="ring"), None)},
            "family must be one of .* got 'ring'",
        ),
    ],
)
def test_an_impossible_architecture_is_refused_by_name(fields, message):
    with pytest.raises(InputError, match=message):
        MLP(inputs=3, outputs=2, **fields)


@pytest.mark.parametrize("sparsity", [0.5, (0.5, None)])
def test_a_density_alone_is_no_sparsity(sparsity):
    with pytest.raises(InputError, match="sparsity must be a tuple with a Sparsity"):
        architecture._check_common(
            types.SimpleNamespace(activation="relu", sparsity=sparsity)
        )


@pytest.mark.parametrize("dense", [MLP(4, (4,), 2), CNN((4, 4, 4), (4,), 2)])
def test_a_sparse_network_begins_with_its_patterns(dense):
    sparse = dataclasses.replace(dense, sparsity=(Sparsity(0.5), None))
    with pytest.raises(InputError, match=r"draw them by network\.patterns"):
        network.init(jax.random.key(0), sparse)


@pytest.mark.parametrize("value", ["3", None, (1, 2)])
def test_what_is_no_number_is_refused_by_name(value):
    check_numbers(nodes=1.5, layers=np.float32(7))
    with pytest.raises(InputError, match="layers must be a number, got"):
        check_numbers(nodes=1.5, layers=value)


@pytest.mark.parametrize("value", [3.5, "3", None, 0, np.int64(0)])
def test_what_is_no_whole_number_is_refused_by_name(value):
    check_whole(1, nodes=1, layers=np.int64(7))
    message = re.escape(f"layers must be a whole number >= 1, got {value!r}")
    with pytest.raises(InputError, match=message):
        check_whole(1, nodes=1, layers=value)


def test_a_block_has_two_sides():
    for block in ("random", (4,), (4, 4, 4)):
        described = object.__new__(Sparsity)  # `__init__` checks annotations, in tests
        vars(described).update(density=0.5, block=block, family="random")
        with pytest.raises(InputError, match=r"block must be \(b_in, b_out\)"):
            described.__post_init__()


def test_a_description_of_something_else_is_refused():
    with pytest.raises(InputError, match="kind must be one of mlp, cnn, got 'rnn'"):
        from_json({"kind": "rnn"})
    with pytest.raises(InputError, match="not the description of an MLP"):
        from_json({"kind": "mlp", "inputs": 3})


def test_the_first_weights_have_the_variance_of_he_and_biases_are_zero():
    params = mlp.init(jax.random.key(0), MLP(400, (300,), 10))
    for junction, fan_in in zip(params, (400, 300), strict=True):
        assert np.std(junction["weight"]) == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
        assert not np.any(junction["bias"])


def test_init_works_under_jit_and_vmap_and_agrees_with_numpy():
    architecture = MLP(7, (5,), 3)
    keys = jax.random.split(jax.random.key(1), 4)
    many = jax.jit(jax.vmap(lambda key: mlp.init(key, architecture)))(keys)
    for i, key in enumerate(keys):
        one = mlp.init(key, architecture)
        assert isinstance(one[0]["weight"], np.ndarray), "nothing is compiled for it"
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6), many, one
        )


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_apply_is_the_chain_of_affine_maps(activation):
    architecture = MLP(6, (5, 4), 3, activation)
    params = mlp.init(jax.random.key(0), architecture)
    x = np.random.default_rng(0).normal(size=(8, 6))
    functions = {
        "relu": lambda a: np.maximum(a, 0),
        "tanh": np.tanh,
        "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    }
    expected = x
    for i, junction in enumerate(params):
        expected = expected @ np.asarray(junction["weight"], np.float64)
        expected = expected + np.asarray(junction["bias"], np.float64)
        if i < 2:
            expected = functions[activation](expected)
    actual = mlp.apply(params, architecture, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-6)


def test_dropout_drops_the_asked_fraction_and_keeps_the_mean():
    x = jnp.ones((400, 300))
    for rate in (0.0, 0.1, 0.5):
        y = np.asarray(dropout(x, rate, np.uint32(3)))
        assert np.mean(y == 0) == pytest.approx(rate, abs=0.005)
        assert y.mean() == pytest.approx(1, abs=0.01)


def test_dropout_of_a_node_does_not_depend_on_the_padding_around_it():
    x = jnp.ones((50, 40))
    padded = jnp.ones((50, 64))
    seed = np.uint32(9)
    np.testing.assert_array_equal(
        dropout(x, 0.3, seed), dropout(padded, 0.3, seed)[:, :40]
    )


def test_dropout_masks_of_neighbouring_seeds_rows_and_columns_are_unrelated():
    masks = [
        np.asarray(dropout(jnp.ones((200, 200)), 0.5, fold_in(np.uint32(1), i))) > 0
        for i in range(2)
    ]
    agreement = [
        np.mean(masks[0] == masks[1]),
        np.mean(masks[0][1:] == masks[0][:-1]),
        np.mean(masks[0][:, 1:] == masks[0][:, :-1]),
    ]
    np.testing.assert_allclose(agreement, 0.5, atol=0.02)


SPARSE = MLP(
    12,
    (16, 8),
    3,
    "tanh",
    0.3,
    (Sparsity(0.5, (1, 4), "balanced"), Sparsity(0.5, (2, 4)), None),
)


def masked(params, patterns):
    """The same network with full weights, zero where there is no edge."""
    full = []
    for junction, pattern in zip(params, patterns, strict=True):
        weight = junction["weight"]
        if pattern:
            weight = dense_of(weight, pattern)
        full.append({"weight": weight, "bias": junction["bias"]})
    return tuple(full)


def test_a_sparse_network_computes_what_its_masked_twin_does():
    patterns = network.patterns(jax.random.key(0), SPARSE)
    params = mlp.init(jax.random.key(1), SPARSE, patterns)
    assert tuple(j["weight"].size for j in params) == SPARSE.edges == (96, 64, 24)
    x = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    apply = jax.jit(mlp.apply, static_argnums=1)
    for seed in (None, np.uint32(7)):
        np.testing.assert_allclose(
            apply(params, SPARSE, x, patterns, dropout_seed=seed),
            apply(masked(params, patterns), SPARSE, x, dropout_seed=seed),
            atol=1e-5,
        )


def test_a_sparse_architecture_survives_json_and_names_its_densities():
    assert from_json(json.loads(json.dumps(to_json(SPARSE)))) == SPARSE
    assert str(SPARSE) == "12-16-8-3 tanh dropout 0.3 density 0.5/0.5/1"
    assert SPARSE.density == (96 + 64 + 24) / (12 * 16 + 16 * 8 + 8 * 3)
    assert MLP(12, (16,), 3).density == 1


def test_the_net_density_is_that_of_the_papers_example():
    network = MLP(800, (100,), 10, sparsity=(Sparsity(0.5), None))
    assert network.edges == (40000, 1000)
    assert network.density == pytest.approx(0.506, abs=5e-4)


def test_patterns_of_another_network_are_refused():
    patterns = network.patterns(jax.random.key(0), SPARSE)
    with pytest.raises(InputError, match=r"edges\) \[\] are not those of 12-16-8-3"):
        network.check(SPARSE, ())
    with pytest.raises(InputError, match=r"\(12, 16, 96\)"):
        network.check(MLP(12, (16, 8), 3), patterns)
    network.check(SPARSE, patterns)


@pytest.mark.parametrize("image", [(28, 28), (28, 28, 1, 1)])
def test_an_image_has_three_sizes(image):
    cnn = object.__new__(CNN)  # `__init__` checks annotations, in tests alone
    vars(cnn).update(image=image, channels=(8,), outputs=10)
    with pytest.raises(ValueError, match=r"\(height, width, channels\), got \(28, 28"):
        cnn.__post_init__()


def test_the_text_of_a_network_names_unusual_families():
    sparsity = (Sparsity(0.25, family="windows"), Sparsity(0.5), None)
    text = str(MLP(64, (8, 8), 10, sparsity=sparsity))
    assert text.endswith("density 0.25 windows/0.5/1")


@pytest.mark.parametrize("shape", [(), (7,), (3, 3, 5, 6), (300, 300)])
def test_normals_are_jaxs_whatever_their_number_is_rounded_to(shape):
    key = jax.random.key(3)
    drawn, truth = normals(key, shape), jax.random.normal(key, shape)
    assert isinstance(drawn, np.ndarray)
    np.testing.assert_array_equal(drawn, truth)
    traced = jax.jit(lambda key: normals(key, shape))(key)
    np.testing.assert_allclose(traced, truth, rtol=1e-6)


def test_numbers_of_numpy_and_jax_become_pythons_own():
    assert plain(np.arange(2)) == (0, 1)
    assert plain([np.float32(0.5), [jnp.int32(3)], "relu"]) == (0.5, (3,), "relu")
    pair = Hyperparameters(1e-3)
    assert plain(pair) is pair
    for kind, fields in (
        (MLP, {"inputs": np.int64(6), "hidden": np.array([4, 5]), "outputs": 3}),
        (CNN, {"image": [6, 6, 1], "channels": np.array([4]), "outputs": np.int8(3)}),
        (Hyperparameters, {"learning_rate": jnp.ones(()), "batch_size": np.int64(8)}),
    ):
        # `__init__` checks annotations, in tests alone.
        defaults = {f.name: f.default for f in dataclasses.fields(kind)}
        made = object.__new__(kind)
        vars(made).update(defaults | fields)
        made.__post_init__()
        assert json.loads(json.dumps(dataclasses.asdict(made)))
        assert hash(made) == hash(dataclasses.replace(made))
