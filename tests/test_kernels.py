"""Every kernel against the dense product with a mask, in float64."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractDevice, AbstractMesh

from dnc_jax import sparse
from dnc_jax.sparse import choice, gather, kernels, pallas
from tests.oracle import dense_of

KEY = jax.random.key(0)
IMPLS = ("blocks", "groups", "elements", "dense", "pallas")
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


@st.composite
def patterns(draw):
    """Any family, regular or not, in blocks that are square, flat or tall."""
    block = draw(st.sampled_from([(1, 1), (1, 4), (4, 1), (2, 3), (8, 8), (16, 8)]))
    blocks_in, blocks_out = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    n_in, n_out = blocks_in * block[0], blocks_out * block[1]
    key = jax.random.key(draw(st.integers(0, 99)))
    if draw(st.booleans()):
        density = draw(st.floats(0.05, 1))
        return sparse.random(key, n_in, n_out, density=density, block=block)
    density = draw(st.sampled_from(sparse.densities(n_in, n_out, block)))
    return sparse.structured(key, n_in, n_out, density=density, block=block)


def problem(pattern, batch, dtype, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (
        (pattern.block_edges, *pattern.block),
        (pattern.n_in, batch),
        (pattern.n_out, batch),
    )
    return [
        jnp.asarray(rng.normal(size=shape).astype(jnp.dtype(dtype))) for shape in shapes
    ]


def oracle(pattern, weight, x, dy):
    """y, d_weight and dx by the full matrix, in float64."""
    weight, x, dy = (np.asarray(a, np.float64) for a in (weight, x, dy))
    sources, outputs = pattern.edge_list()
    b_in, b_out = pattern.block
    full = dense_of(weight, pattern)
    d_full = (x @ dy.T).reshape(pattern.blocks_in, b_in, pattern.blocks_out, b_out)
    return full.T @ x, d_full.transpose(0, 2, 1, 3)[sources, outputs], full @ dy


def computed(pattern, weight, x, dy, impl):
    def run(pattern, weight, x, dy):
        y, pull = jax.vjp(
            lambda w, x: kernels.matmul(w, pattern, x, impl=impl), weight, x
        )
        return (y, *pull(dy))

    return jax.jit(run)(pattern, weight, x, dy)


def assert_close(results, truths, tolerance):
    for result, truth in zip(results, truths, strict=True):
        error = np.abs(np.asarray(result, np.float64) - truth).max()
        assert error <= tolerance * max(1, np.abs(truth).max())


@pytest.mark.parametrize("impl", [*IMPLS, "auto"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@given(patterns(), st.sampled_from([1, 3, 16, 37]))
@settings(max_examples=5)
def test_output_and_gradients_equal_the_dense_oracle(impl, dtype, pattern, batch):
    arguments = problem(pattern, batch, dtype)
    results = computed(pattern, *arguments, impl)
    assert {result.dtype for result in results} == {jnp.dtype(dtype)}
    assert_close(results, oracle(pattern, *arguments), TOLERANCE[dtype])


@pytest.mark.parametrize("impl", IMPLS)
def test_chunks_and_long_batches_change_nothing(impl, monkeypatch):
    """So small a chunk, so long a batch and so many edges that every loop is run."""
    monkeypatch.setattr(gather, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(kernels, "CHUNK_BYTES", 4096)
    for pattern in (
        sparse.structured(KEY, 26, 39, density=11 / 13),
        sparse.structured(KEY, 88, 55, density=10 / 11, block=(8, 5)),
        sparse.grouped(KEY, 40, 32, density=0.5, side=8),
    ):
        arguments = problem(pattern, 600, "float32")
        results = computed(pattern, *arguments, impl)
        assert_close(results, oracle(pattern, *arguments), 1e-5)


@pytest.mark.parametrize("density", [0.1, 0.4])
@pytest.mark.parametrize("dense_gradient", [False, True])
def test_both_weight_gradients_of_single_elements_equal_the_oracle(
    density, dense_gradient, monkeypatch
):
    """The one by dot products of rows, and the one out of the full product."""
    monkeypatch.setattr(kernels, "break_even", lambda impl: not dense_gradient)
    pattern = sparse.random(KEY, 40, 30, density=density)
    arguments = problem(pattern, 37, "float32")
    results = computed(pattern, *arguments, "elements")
    assert_close(results, oracle(pattern, *arguments), 1e-5)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("block", [(1, 1), (4, 1), (2, 3), (1, 8), (4, 2)])
@pytest.mark.parametrize("regular", [False, True])
def test_the_dense_kernel_finds_its_cells_where_no_table_of_them_is_kept(
    block, regular, backend, monkeypatch
):
    """On a GPU by a scatter, which is forward only: gradients gather as everywhere."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    family = sparse.structured if regular else sparse.random
    pattern = family(KEY, 12 * block[0], 8 * block[1], density=0.25, block=block)
    bare = dataclasses.replace(pattern, cells=None)
    arguments = problem(bare, 9, "float32")
    results = computed(bare, *arguments, "dense")
    assert_close(results, oracle(bare, *arguments), 1e-5)


@pytest.mark.parametrize("machine", ["tpu", "gpu"])
@pytest.mark.parametrize("block", [(64, 64), (128, 128)])
def test_pallas_kernels_of_both_machines_equal_the_oracle(machine, block):
    """In interpret mode, which is all that a CPU can do with them."""
    pattern = sparse.random(KEY, 4 * block[0], 3 * block[1], density=0.4, block=block)
    weight, x, dy = problem(pattern, 150, "float32")
    y = pallas.gather_matmul(
        pattern.sources,
        pattern.edges_in,
        weight,
        gather.rows_of(x, block[0]),
        transpose=True,
        machine=machine,
    )
    dx = pallas.gather_matmul(
        pattern.targets,
        pattern.edges_out,
        weight,
        gather.rows_of(dy, block[1]),
        transpose=False,
        machine=machine,
    )
    d_weight = pallas.edge_outer(
        *gather.ends(pattern),
        gather.rows_of(x, block[0]),
        gather.rows_of(dy, block[1]),
        machine=machine,
    )
    results = (
        y[..., :150].reshape(-1, 150),
        d_weight,
        dx[..., :150].reshape(-1, 150),
    )
    assert_close(results, oracle(pattern, weight, x, dy), 1e-5)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("block", [(16, 128), (64, 64), (128, 32)])
def test_pallas_kernels_compile_for_a_gpu_that_is_not_there(block, dtype, monkeypatch):
    """As far as the code that XLA hands to Triton, under `shard_map` too.

    The weight is of float32, as parameters mostly are.
    """
    monkeypatch.setattr(pallas, "_machine", lambda *_: ("gpu", False))
    pattern = sparse.random(KEY, 512, 256, density=0.4, block=block)
    gpu = AbstractDevice("NVIDIA H200", 132, "gpu")
    mesh = AbstractMesh((1,), ("data",), abstract_device=gpu)
    spec, everywhere = jax.P(None, "data"), jax.P()

    def local(weight, pattern, x):
        def loss(weight, x):
            y = kernels.matmul(weight, pattern, x, impl="pallas")
            return jnp.sum(y.astype(jnp.float32) ** 2)

        return jax.grad(loss, (0, 1))(weight, x)

    weight = jax.ShapeDtypeStruct((pattern.block_edges, *block), jnp.float32)
    sharding = jax.NamedSharding(mesh, spec)
    x = jax.ShapeDtypeStruct((512, 300), dtype, sharding=sharding)
    with jax.sharding.use_abstract_mesh(mesh):
        gradients = jax.jit(
            jax.shard_map(
                local,
                mesh=mesh,
                in_specs=(everywhere, everywhere, spec),
                out_specs=(everywhere, spec),
            )
        )
        known = jax.export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")
        exported = jax.export.export(
            gradients, platforms=["cuda"], disabled_checks=[known]
        )(weight, pattern, x)
    calls = exported.mlir_module().count("@__gpu$xla.gpu.triton")
    assert calls == 3  # the output, and both gradients


def test_an_open_batch_is_exported_for_a_gpu_too(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    pattern = sparse.block(KEY, 256, 256, density=0.25, side=64)
    assert choice.choose(pattern, 8) == "pallas"
    (batch,) = jax.export.symbolic_shape("b")
    weight = jax.ShapeDtypeStruct((pattern.block_edges, 64, 64), jnp.float32)
    x = jax.ShapeDtypeStruct((256, batch), jnp.float32)
    exported = jax.export.export(jax.jit(kernels.matmul), platforms=["cuda"])
    assert "triton" not in exported(weight, pattern, x).mlir_module()


@pytest.mark.parametrize("block", [(16, 16), (32, 128)])
def test_pallas_takes_weights_and_rows_of_different_types(block):
    """For a GPU in tiles of either width, interpreted."""
    pattern = sparse.random(KEY, 128, 256, density=0.4, block=block)
    weight, x, dy = problem(pattern, 40, "float32")
    arguments = weight, x.astype(jnp.bfloat16), dy.astype(jnp.bfloat16)
    results = computed(pattern, *arguments, "pallas")
    assert [r.dtype for r in results] == [jnp.bfloat16, jnp.float32, jnp.bfloat16]
    assert_close(results, oracle(pattern, *arguments), 2e-2)


def test_blocks_that_a_gpu_cannot_take_are_refused_with_those_it_can(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    pattern = sparse.block(KEY, 48, 48, density=1.0, side=24)
    weight, x, _ = problem(pattern, 3, "float32")
    with pytest.raises(ValueError, match=r"24 x 24 .* sides of 16, 32, 64, 128"):
        kernels.matmul(weight, pattern, x, impl="pallas")


@pytest.mark.parametrize("impl", ["blocks", "pallas"])
def test_second_derivatives_are_those_of_the_full_matrix(impl):
    pattern = sparse.random(KEY, 32, 24, density=0.4, block=(8, 8))
    weight, x, dy = problem(pattern, 5, "float32")
    full = jnp.asarray(dense_of(np.asarray(weight), pattern))
    mask = jnp.asarray(pattern.to_dense())

    def norm_of_gradient(product, weight, x):
        def loss(weight, x):
            return jnp.sum(jnp.tanh(product(weight, x)) * dy)

        return sum(jnp.sum(g**2) for g in jax.grad(loss, (0, 1))(weight, x))

    def sparse_product(weight, x):
        return kernels.matmul(weight, pattern, x, impl=impl)

    def dense_product(full, x):
        return (full * mask).T @ x

    gradient = jax.jit(jax.grad(norm_of_gradient, (1, 2)), static_argnums=0)
    d_weight, dx = gradient(sparse_product, weight, x)
    d_full, dx_full = gradient(dense_product, full, x)
    assert_close([dx], [dx_full], 1e-4)
    assert_close([dense_of(np.asarray(d_weight), pattern)], [d_full], 1e-4)


@pytest.mark.parametrize("impl", ["blocks", "groups", "elements", "dense"])
def test_derivatives_go_forwards_too(impl):
    pattern = sparse.random(KEY, 8, 12, density=0.4, block=(2, 4))
    weight, x, dy = problem(pattern, 2, "float32")
    full = jnp.asarray(dense_of(np.asarray(weight), pattern))
    ones = jnp.ones_like(weight)
    mask = jnp.asarray(dense_of(np.asarray(ones), pattern))

    def loss(weight, x, **mode):
        y = kernels.matmul(weight, pattern, x, impl=impl, **mode)
        return jnp.sum(jnp.tanh(y) * dy)

    def forwards(weight, x):
        return loss(weight, x, forward_mode=True)

    def dense(full, x):
        return jnp.sum(jnp.tanh((full * mask).T @ x) * dy)

    @partial(jax.jit, static_argnums=(0, 1))
    def derivatives(loss, of_product, weight, tangent, x):
        """By weight, along the tangent, of both gradients; by x, of the loss, in all
        directions, forwards and backwards."""

        def gradients(weight):
            return jax.grad(loss, (0, 1))(weight, x)

        slopes = jax.jacfwd(of_product, 1)(weight, x), jax.grad(of_product)(weight, x)
        second = jax.jvp(gradients, (weight,), (tangent,))[1]
        return slopes, second, jax.hessian(loss, 1)(weight, x)

    found = derivatives(loss, forwards, weight, ones, x)
    true = derivatives(dense, dense, full, mask, x)
    (by_x, by_weight), (again, mixed), hessian = jax.device_get(found)
    by_weight, again = (dense_of(part, pattern) for part in (by_weight, again))
    found = (by_x, by_weight), (again, mixed), hessian
    assert_close(jax.tree.leaves(found), map(np.asarray, jax.tree.leaves(true)), 1e-5)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: loss(weight, x), (x,), (x,))


def test_pallas_has_no_forward_mode():
    pattern = sparse.random(KEY, 32, 32, density=0.4, block=(16, 16))
    weight, x, _ = problem(pattern, 3, "float32")
    with pytest.raises(ValueError, match="'pallas' has no forward mode; 'auto' and"):
        kernels.matmul(weight, pattern, x, impl="pallas", forward_mode=True)


@pytest.mark.parametrize("impl", IMPLS)
def test_no_kernel_scatters(impl):
    """In the compiled program, forward and backward."""
    for pattern in (
        sparse.random(KEY, 32, 24, density=0.3),
        sparse.random(KEY, 64, 48, density=0.3, block=(8, 8)),
    ):
        weight, x, dy = problem(pattern, 8, "float32")
        lowered = jax.jit(
            lambda w, p, x, dy, impl=impl: jax.vjp(
                lambda w, x: kernels.matmul(w, p, x, impl=impl), w, x
            )[1](dy)
        ).lower(weight, pattern, x, dy)
        # The interpreter of Pallas writes its blocks by dynamic-update-slice.
        assert "scatter" not in lowered.as_text()


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("pattern", "batch", "impl", "on_wide"),
    [
        (sparse.structured(KEY, 64, 64, density=0.125), 8, "elements", "elements"),
        (sparse.structured(KEY, 64, 64, density=0.375), 8, "elements", "dense"),
        (sparse.structured(KEY, 64, 64, density=0.625), 8, "dense", "dense"),
        (sparse.grouped(KEY, 64, 64, density=0.125, side=16), 8, "groups", "groups"),
        (sparse.block(KEY, 256, 256, density=0.25, side=16), 8, "groups", "groups"),
        (sparse.block(KEY, 256, 256, density=0.25, side=16), 16, "blocks", "blocks"),
        (sparse.block(KEY, 64, 64, density=0.75, side=16), 64, "blocks", "dense"),
        (sparse.block(KEY, 64, 64, density=1.0, side=16), 64, "dense", "dense"),
    ],
)
def test_auto_chooses_by_block_density_batch_and_machine(
    pattern, batch, impl, on_wide, wide, monkeypatch
):
    monkeypatch.setattr(choice, "_has_512_bits", lambda: wide)
    assert choice.choose(pattern, batch) == (on_wide if wide else impl)


@pytest.mark.parametrize(
    ("block", "density", "impl"),
    [
        ((128, 128), 0.75, "pallas"),
        ((128, 128), 1.0, "dense"),
        ((64, 128), 0.5, "pallas"),
        ((64, 128), 0.75, "dense"),
        ((32, 32), 0.1875, "pallas"),
        ((32, 64), 0.25, "dense"),
        ((16, 16), 0.0625, "pallas"),
        ((16, 16), 0.125, "dense"),
        ((1, 64), 0.125, "dense"),
        ((48, 48), 0.125, "dense"),
    ],
)
def test_auto_takes_on_a_gpu_what_was_faster_there(block, density, impl, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    sizes = [16 * side for side in block]
    pattern = sparse.structured(KEY, *sizes, density=density, block=block)
    assert choice.choose(pattern, 256) == impl


def test_numpy_tells_how_wide_the_registers_are():
    choice._has_512_bits.cache_clear()
    assert isinstance(choice._has_512_bits(), bool)


def test_an_unknown_kernel_is_refused_with_those_known():
    pattern = sparse.structured(KEY, 8, 8, density=0.5)
    weight, x, _ = problem(pattern, 2, "float32")
    with pytest.raises(ValueError, match="impl must be one of auto, blocks, groups"):
        kernels.matmul(weight, pattern, x, impl="fast")


@pytest.mark.parametrize("impl", [i for i in IMPLS if i != "pallas"])
def test_shard_map_over_the_batch_gives_the_whole_gradient(impl):
    """With the check of what varies over devices switched on."""
    mesh = jax.make_mesh((1,), ("data",))
    spec, everywhere = jax.P(None, "data"), jax.P()
    pattern = sparse.random(KEY, 32, 16, density=0.3, block=(4, 4))
    weight, x, dy = problem(pattern, 8, "float32")
    x, dy = jax.device_put((x, dy), jax.NamedSharding(mesh, spec))

    def local(weight, pattern, x, dy):
        def loss(weight, x):
            return jnp.sum(kernels.matmul(weight, pattern, x, impl=impl) * dy)

        return jax.grad(loss, (0, 1))(weight, x)

    gradients = jax.jit(
        jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(everywhere, everywhere, spec, spec),
            out_specs=(everywhere, spec),
        )
    )(weight, pattern, x, dy)
    assert_close(gradients, oracle(pattern, weight, x, dy)[1:], 1e-5)


@pytest.mark.parametrize("impl", [i for i in IMPLS if i != "pallas"])
def test_vmap_trains_a_different_pattern_in_every_lane(impl):
    lanes = [sparse.structured(k, 32, 16, density=0.25) for k in jax.random.split(KEY)]
    problems = [problem(p, 8, "float32", seed) for seed, p in enumerate(lanes)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)
    arguments = [jnp.stack(a) for a in zip(*problems, strict=True)]

    def run(pattern, weight, x, dy):
        y, pull = jax.vjp(
            lambda w, x: kernels.matmul(w, pattern, x, impl=impl), weight, x
        )
        return (y, *pull(dy))

    results = jax.jit(jax.vmap(run))(stacked, *arguments)
    for lane, (pattern, own) in enumerate(zip(lanes, problems, strict=True)):
        assert_close([r[lane] for r in results], oracle(pattern, *own), 1e-5)


def test_a_batch_without_columns_passes():
    pattern = sparse.structured(KEY, 8, 8, density=0.5)
    weight, x, _ = problem(pattern, 0, "float32")
    assert kernels.matmul(weight, pattern, x, impl="blocks").shape == (8, 0)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_gradient_is_as_exact_as_its_weight_whatever_the_input(impl):
    pattern = sparse.structured(KEY, 32, 32, density=0.5, block=(8, 8))
    weight, x, dy = problem(pattern, 16, "float32")
    x, dy = x.astype(jnp.bfloat16), dy.astype(jnp.bfloat16)
    y, d_weight, dx = computed(pattern, weight, x, dy, impl)
    assert (y.dtype, d_weight.dtype, dx.dtype) == (x.dtype, weight.dtype, x.dtype)
    _, truth, _ = oracle(pattern, weight, x, dy)
    assert_close([d_weight], [truth], 1e-5)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_whole_numbers_are_taken_as_the_weights_type(impl, dtype):
    pattern = sparse.structured(KEY, 12, 8, density=0.5, block=(2, 2))
    weight = problem(pattern, 5, "float32")[0]
    x = np.random.default_rng(0).integers(0, 7, (12, 5)).astype(dtype)
    product = jax.jit(kernels.matmul, static_argnames="impl")
    np.testing.assert_array_equal(
        product(weight, pattern, x, impl=impl),
        product(weight, pattern, x.astype(np.float32), impl=impl),
    )


def test_products_of_groups_are_never_of_single_columns(monkeypatch):
    monkeypatch.setattr(kernels, "CHUNK_BYTES", 4096)
    pattern = sparse.grouped(KEY, 40, 32, density=0.5, side=8)
    weight, x, dy = problem(pattern, 64, "float32")
    _, pull = jax.vjp(
        lambda w, x: kernels.matmul(w, pattern, x, impl="groups"), weight, x
    )
    passes = [
        equation.params["length"]
        for equation in jax.make_jaxpr(pull)(dy).eqns
        if equation.primitive.name == "scan"
    ]
    assert passes == [4], "16 columns each"
