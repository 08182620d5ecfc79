"""Sparse junctions, dense and convolutional, as functions and as Flax modules."""

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as orbax
import pytest
from flax import linen as nn
from flax import nnx, serialization

from dnc_jax import sparse
from tests.oracle import dense_of

KEY, OTHER = jax.random.split(jax.random.key(0))
PATTERN = sparse.structured(KEY, 128, 96, density=0.125)

# One program each, where an operation at a time would compile twenty.
apply, conv_apply = jax.jit(sparse.apply), jax.jit(sparse.conv_apply)


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_parameters_may_be_those_of_nnx():
    class Layer(nnx.Module):
        def __init__(self):
            self.pattern = nnx.data(PATTERN)
            self.weight = nnx.Param(sparse.init(KEY, PATTERN, bias=None)["weight"])

        def __call__(self, x):
            return sparse.apply({"weight": self.weight}, self.pattern, x)

    x = normal(4, 128)
    found = nnx.jit(lambda layer, x: layer(x))(Layer(), x)
    expected = apply(sparse.init(KEY, PATTERN), PATTERN, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_bias_is_a_number_or_none():
    assert "bias" not in sparse.init(KEY, PATTERN, bias=None)
    assert "bias" not in sparse.conv_init(KEY, PATTERN, bias=None)
    for bias in (True, False):
        with pytest.raises(ValueError, match=f"or None for none; got {bias}"):
            sparse.init(KEY, PATTERN, bias=bias)
        with pytest.raises(ValueError, match=f"or None for none; got {bias}"):
            sparse.linen.Dense(PATTERN, bias=bias).init(KEY, jnp.ones((1, 128)))


def test_the_initial_scale_comes_from_the_true_fan_in():
    pattern = sparse.random(KEY, 200, 300, density=0.3)
    weight = np.asarray(sparse.init(KEY, pattern, bias=0.1)["weight"]).ravel()
    _, outputs = pattern.edge_list()
    fan_in = np.bincount(outputs)[outputs]
    # Variance 2 / fan_in for each edge, so the scaled weights have variance 2.
    assert np.var(weight * np.sqrt(fan_in)) == pytest.approx(2, rel=0.05)
    assert np.unique(sparse.init(KEY, pattern, bias=0.1)["bias"]) == np.float32(0.1)


@pytest.mark.parametrize("shape", [(128,), (5, 128), (2, 3, 128)])
def test_leading_axes_are_kept(shape):
    params = sparse.init(KEY, PATTERN, bias=0.5)
    x = normal(*shape)
    y = apply(params, PATTERN, x)
    wanted = x @ dense_of(params["weight"], PATTERN) + 0.5
    np.testing.assert_allclose(y, wanted, atol=1e-5)


def test_features_first_is_the_transpose():
    params = sparse.init(KEY, PATTERN, bias=0.5)
    x = normal(7, 128)
    first = jax.jit(partial(sparse.apply, axis=0))(params, PATTERN, x.T)
    np.testing.assert_allclose(first.T, apply(params, PATTERN, x), atol=1e-6)


@pytest.mark.parametrize(
    ("kernel_size", "strides", "padding", "block"),
    [
        ((1, 1), (1, 1), "SAME", (1, 1)),
        ((1, 1), (2, 1), "VALID", (4, 2)),
        ((3, 3), (1, 1), "SAME", (4, 2)),
        ((3, 3), (2, 1), "SAME", (1, 1)),
        ((2, 3), (2, 1), "VALID", (1, 1)),
    ],
)
def test_convolutions_equal_xlas_with_a_masked_kernel(
    kernel_size, strides, padding, block
):
    pattern = sparse.random(KEY, 8, 6, density=0.4, block=block)
    params = sparse.conv_init(KEY, pattern, kernel_size=kernel_size, bias=0.3)
    x = normal(2, 7, 6, 8)
    kernel = jnp.asarray(dense_of(params["weight"], pattern), jnp.float32)

    def ours(params, x):
        return sparse.conv_apply(params, pattern, x, strides=strides, padding=padding)

    def theirs(kernel, x):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    @partial(jax.jit, static_argnums=0)
    def gradients(function, weights, x, dy):
        y, pull = jax.vjp(function, weights, x)
        return y, *pull(dy)

    dy = normal(*jax.eval_shape(theirs, kernel, x).shape)
    y, d_params, dx = gradients(ours, params, x, dy)
    wanted, d_kernel, dx_wanted = gradients(theirs, kernel, x, dy)
    np.testing.assert_allclose(y, wanted + 0.3, atol=1e-5)
    np.testing.assert_allclose(dx, dx_wanted, atol=1e-4)
    mask = pattern.to_dense()
    np.testing.assert_allclose(
        dense_of(d_params["weight"], pattern), np.asarray(d_kernel) * mask, atol=1e-4
    )


def test_stored_images_and_half_precision_are_convolved_as_exact_as_they_can_be():
    pattern = sparse.structured(KEY, 12, 8, density=0.5)
    params = sparse.conv_init(OTHER, pattern, bias=0.1)
    image = np.random.default_rng(0).integers(-100, 100, (2, 6, 5, 12)).astype(np.int8)
    exact = conv_apply(params, pattern, image.astype(np.float32))
    np.testing.assert_array_equal(conv_apply(params, pattern, image), exact)
    x = jnp.asarray(image.astype(jnp.bfloat16))
    half = conv_apply(params, pattern, x)
    assert half.dtype == jnp.bfloat16
    single = params | {"weight": params["weight"][0, 0]}
    one = apply(single, pattern, x)
    assert one.dtype == jnp.bfloat16
    exact_one = apply(single, pattern, image.astype(np.float32))
    for rounded, whole in ((half, exact), (one, exact_one)):
        error = np.sqrt(np.mean((np.float32(rounded) - whole) ** 2))
        # Rounded once, at the end: 1.7e-3; after each tap, or before the bias: 2.4e-3.
        assert error < 2e-3 * np.sqrt(np.mean(whole**2))


def test_convolution_weights_scale_with_taps_and_channels():
    pattern = sparse.structured(KEY, 64, 64, density=0.25)
    weight = np.asarray(sparse.conv_init(KEY, pattern)["weight"])
    assert weight.shape == (3, 3, 1024, 1, 1)
    assert weight.var() == pytest.approx(2 / (9 * 16), rel=0.05)


@pytest.mark.parametrize(
    "module", [sparse.linen.Dense(PATTERN), sparse.linen.Dense(PATTERN, bias=0.5)]
)
def test_the_flax_module_is_the_function(module):
    x = normal(5, 128)
    variables = module.init(KEY, x)
    assert variables["params"]["junction"]["weight"].size == PATTERN.edges
    y = jax.jit(module.apply)(variables, x)
    wanted = sparse.apply(variables["params"]["junction"], PATTERN, x)
    np.testing.assert_allclose(y, wanted, atol=1e-6)


def test_the_flax_convolution_is_the_function():
    pattern = sparse.structured(KEY, 8, 4, density=0.5)
    module = sparse.linen.Conv(pattern, strides=(2, 2))
    x = normal(2, 6, 6, 8)
    variables = jax.jit(module.init)(KEY, x)
    wanted = jax.jit(partial(sparse.conv_apply, strides=(2, 2)))(
        variables["params"]["junction"], pattern, x
    )
    y = jax.jit(module.apply)(variables, x)
    np.testing.assert_allclose(y, wanted, atol=1e-6)


def test_a_flax_module_runs_the_pattern_that_was_saved_with_it():
    x = normal(5, 128)
    variables = sparse.linen.Dense(PATTERN).init(KEY, x)
    redrawn = sparse.linen.Dense(sparse.structured(OTHER, 128, 96, density=0.125))
    np.testing.assert_array_equal(
        redrawn.apply(variables, x), sparse.linen.Dense(PATTERN).apply(variables, x)
    )


def test_sparse_modules_stand_in_a_flax_network():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(sparse.linen.Dense(PATTERN)(x))
            return nn.Dense(3)(x)

    x = normal(5, 128)
    variables = Net().init(KEY, x)

    def loss(params):
        return Net().apply({**variables, "params": params}, x).sum()

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    assert gradient["Dense_0"]["junction"]["weight"].size == PATTERN.edges


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: sparse.apply(p, PATTERN, jnp.ones((4, 96))), r"\(4, 96\).* 128"),
        (lambda p: sparse.apply(p, PATTERN, jnp.ones((4, 128)), axis=0), r"\(4, 128\)"),
        (lambda p: sparse.apply(p, PATTERN, jnp.ones((128, 128)), axis=1), "got 1"),
        (
            lambda p: sparse.apply(
                p, sparse.structured(KEY, 128, 96, density=0.25), jnp.ones((4, 128))
            ),
            r"\(1536, 1, 1\) .* \(3072, 1, 1\)",
        ),
        (lambda p: sparse.conv_apply(p, PATTERN, jnp.ones((4, 128))), r"\(4, 128\)"),
        (
            lambda p: sparse.conv_apply(
                {"weight": p["weight"][None, None]},
                PATTERN,
                jnp.ones((1, 2, 2, 128)),
                padding="FULL",
            ),
            "FULL",
        ),
        (
            lambda p: sparse.conv_apply(
                {"weight": jnp.tile(p["weight"], (3, 3, 1, 1, 1))},
                PATTERN,
                jnp.ones((1, 5, 2, 128)),
                padding="VALID",
            ),
            "image of 5 x 2 pixels is smaller than the kernel of 3 x 3",
        ),
    ],
)
def test_what_does_not_fit_the_pattern_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(sparse.init(KEY, PATTERN))


def test_flax_modules_compute_in_one_type_and_keep_another_and_need_no_bias():
    module = sparse.linen.Dense(PATTERN, bias=None, dtype=jnp.bfloat16)
    x = normal(5, 128)
    variables = module.init(KEY, x)
    weight = variables["params"]["junction"].pop("weight")
    assert weight.dtype == jnp.float32
    assert variables["params"]["junction"] == {}
    y = module.apply({"params": {"junction": {"weight": weight}}}, x)
    assert y.dtype == jnp.bfloat16
    exact = sparse.apply({"weight": weight}, PATTERN, x)
    np.testing.assert_allclose(np.float32(y), exact, atol=0.05)


def test_a_flax_module_without_its_patterns_runs_its_own():
    module = sparse.linen.Conv(sparse.structured(KEY, 8, 4, density=0.5), strides=2)
    x = normal(2, 6, 6, 8)
    variables = jax.jit(module.init)(KEY, x)
    run = jax.jit(module.apply)
    np.testing.assert_array_equal(
        run({"params": variables["params"]}, x), run(variables, x)
    )


def test_flax_saves_and_restores_the_pattern_with_the_parameters():
    x = normal(5, 128)
    module = sparse.linen.Dense(PATTERN)
    variables = module.init(KEY, x)
    saved = serialization.to_bytes(variables)
    other = sparse.linen.Dense(sparse.structured(OTHER, 128, 96, density=0.125))
    restored = serialization.from_bytes(other.init(OTHER, x), saved)
    np.testing.assert_array_equal(other.apply(restored, x), module.apply(variables, x))
    uneven = sparse.random(KEY, 12, 10, density=0.3)
    again = serialization.from_bytes(uneven, serialization.to_bytes(uneven))
    assert (again.to_dense() == uneven.to_dense()).all()


@pytest.mark.parametrize("family", [sparse.random, sparse.structured])
def test_orbax_restores_a_module_without_knowing_what_it_was(family, tmp_path):
    x = normal(5, 12)
    module = sparse.linen.Dense(family(KEY, 12, 8, density=0.25))
    variables = jax.jit(module.init)(KEY, x)
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", variables)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "saved")
    run = jax.jit(module.apply)
    np.testing.assert_array_equal(run(restored, x), run(variables, x))


def _sharded(x, mesh, *spec):
    return jax.device_put(x, jax.NamedSharding(mesh, jax.P(*spec)))


@pytest.mark.parametrize("axis", [0, -1])
def test_arrays_on_a_mesh_of_explicit_axes_keep_their_rows_where_they_are(axis):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    pattern = sparse.structured(KEY, 12, 8, density=0.25)
    params = sparse.init(KEY, pattern, bias=0.5)
    x = normal(4, 12) if axis else normal(12, 4)
    spec = ("data", None) if axis else (None, "data")

    @jax.jit
    def found(params, x):
        y, pull = jax.vjp(
            lambda *a: sparse.apply(a[0], pattern, a[1], axis=axis), params, x
        )
        return y, pull(y)

    on_mesh = found(params, _sharded(x, mesh, *spec))
    assert on_mesh[0].sharding.spec == jax.P(*spec)
    jax.tree.map(
        partial(np.testing.assert_allclose, atol=1e-5), on_mesh, found(params, x)
    )
    replicated = _sharded(params, mesh)
    assert sparse.apply(replicated, pattern, x, axis=axis).shape == on_mesh[0].shape


def test_a_convolution_takes_images_on_a_mesh_of_explicit_axes():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    pattern = sparse.structured(KEY, 8, 4, density=0.5)
    params = sparse.conv_init(KEY, pattern)
    images = normal(2, 6, 6, 8)
    y = conv_apply(params, pattern, _sharded(images, mesh, "data"))
    assert y.sharding.spec == jax.P("data", None, None, None)
    expected = conv_apply(params, pattern, images)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("side", [1, 16])
@pytest.mark.parametrize("nodes", [64, 1024])
def test_a_function_of_a_pattern_is_exported_for_any_batch(nodes, side):
    pattern = sparse.block(KEY, nodes, nodes, density=0.25, side=side)
    params = sparse.init(KEY, pattern)
    (batch,) = jax.export.symbolic_shape("batch")
    rows = jax.ShapeDtypeStruct((batch, nodes), jnp.float32)
    exported = jax.export.export(jax.jit(sparse.apply))(params, pattern, rows)
    read = jax.export.deserialize(exported.serialize())
    x = normal(5, nodes)
    expected = apply(params, pattern, x)
    np.testing.assert_allclose(read.call(params, pattern, x), expected, atol=1e-5)


@pytest.mark.parametrize("impl", ["blocks", "groups", "elements", "dense"])
def test_a_gradient_is_exported_for_any_batch(impl):
    pattern = sparse.block(KEY, 64, 32, density=0.25, side=4)
    params = sparse.init(KEY, pattern)

    @jax.jit
    def gradients(params, x):
        def loss(params, x):
            return jnp.sum(sparse.apply(params, pattern, x, impl=impl) ** 2)

        return jax.grad(loss, (0, 1))(params, x)

    (batch,) = jax.export.symbolic_shape("batch")
    rows = jax.ShapeDtypeStruct((batch, 64), jnp.float32)
    exported = jax.export.export(gradients)(params, rows)
    x = normal(5, 64)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
        exported.call(params, x),
        gradients(params, x),
    )


def test_a_pattern_is_shown_by_its_size():
    text = "Pattern(128 x 96, block=(1, 1), edges=1536, density=0.125)"
    assert repr(PATTERN) == text
    assert "Pattern(" in repr(jax.tree.map(lambda leaf: "*", PATTERN))


def test_sides_below_1_are_refused():
    pattern = sparse.structured(KEY, 8, 4, density=0.5)
    with pytest.raises(ValueError, match=r"kernel_size must be >= 1, got \(3, 0\)"):
        sparse.conv_init(KEY, pattern, kernel_size=(3, 0))
    params = sparse.conv_init(KEY, pattern, kernel_size=3)
    with pytest.raises(ValueError, match="strides must be >= 1, got 0"):
        sparse.conv_apply(params, pattern, jnp.ones((1, 4, 4, 8)), strides=0)
