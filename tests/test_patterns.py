"""Patterns: what they store, how families draw them, and what is refused."""

import dataclasses
import inspect
import itertools
import json
import math
import pickle

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_jax import InputError, sparse
from dnc_jax.sparse import families
from dnc_jax.sparse.pattern import grid

KEY = jax.random.key(0)
# Small junctions of every family: (n_in, n_out) and the constant degrees, if any.
FAMILIES = {
    "random": lambda key: sparse.random(key, 12, 10, density=0.3),
    "structured": lambda key: sparse.structured(key, 12, 8, density=0.25),
    "balanced": lambda key: sparse.balanced(key, 12, 10, density=0.25),
    "block": lambda key: sparse.block(key, 24, 16, density=0.5, side=4),
    "grouped": lambda key: sparse.grouped(key, 12, 8, density=5 / 12, side=4),
    "type 1": lambda key: clash_free(key, 1, False),
    "type 1 dither": lambda key: clash_free(key, 1, True),
    "type 2": lambda key: clash_free(key, 2, False),
    "type 2 dither": lambda key: clash_free(key, 2, True),
    "type 3": lambda key: clash_free(key, 3, False),
    "type 3 dither": lambda key: clash_free(key, 3, True),
    "block_diagonal": lambda key: sparse.block_diagonal(key, 12, 8, blocks=4),
    "butterfly": lambda key: sparse.butterfly(key, 16, 8),
    "butterfly wide": lambda key: sparse.butterfly(key, 8, 32, block=(2, 4)),
    "mixed_radix": lambda key: sparse.mixed_radix(key, 12, 12, radices=(3, 4), stage=1),
    "windows": lambda key: sparse.windows(key, (5, 4, 2), 8, window=(3, 2), group=2),
}
FAN_IN = {  # of each output, where it is constant
    "structured": 3,
    "block": 12,
    "grouped": 5,
    "type 1": 3,
    "type 1 dither": 3,
    "type 2": 3,
    "type 2 dither": 3,
    "type 3": 3,
    "type 3 dither": 3,
    "block_diagonal": 3,
    "butterfly": 8,
    "butterfly wide": 6,
    "mixed_radix": 4,
    "windows": 12,
}
UNEVEN_FAN_OUT = {"balanced", "random", "grouped", "windows"}


def clash_free(key, kind, dither):
    return sparse.clash_free(
        key, 12, 8, density=0.25, memories=4, kind=kind, dither=dither
    )


def edges_of(pattern):
    sources, outputs = pattern.edge_list()
    return sorted(zip(sources.tolist(), outputs.tolist(), strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_300_draws_have_no_duplicate_edge_and_exact_degrees(name):
    seen = set()
    for key in jax.random.split(KEY, 300):
        pattern = FAMILIES[name](key)
        seen.add(tuple(edges_of(pattern)))
        described = pattern.describe()
        assert described.duplicate_edges == 0
        dense = pattern.to_dense()
        assert dense.sum() == pattern.edges == described.edges
        fan_in, fan_out = dense.sum(0), dense.sum(1)
        assert described.fan_in == (fan_in.min(), fan_in.max())
        assert described.fan_out == (fan_out.min(), fan_out.max())
        assert described.unconnected_inputs == (fan_out == 0).sum()
        assert described.unconnected_outputs == (fan_in == 0).sum()
        if name in FAN_IN:
            assert (fan_in == FAN_IN[name]).all()
        if name not in UNEVEN_FAN_OUT:
            assert (fan_out == fan_out[0]).all()
    assert len(seen) > 1, "every key draws the same pattern"


@pytest.mark.parametrize("family", sparse.FAMILIES)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 1))
@settings(max_examples=25)
def test_edges_are_counted_without_drawing(family, rows, columns, density):
    nodes, block = (2 * rows, 3 * columns), (2, 3)
    if not sparse.FAMILIES[family].blocks:
        block = (1, 1)
    if family == "windows":  # of square images
        nodes, block = (rows * rows * (1 + 2 * (columns % 2)), 3 * columns), (1, 3)
    counted = sparse.edge_count(
        family, *nodes, density=density, block=block, nearest=True
    )
    if family != "random":  # of which every density is possible
        density = counted / (nodes[0] * nodes[1])
    drawn = sparse.draw(KEY, family, *nodes, density=density, block=block)
    assert drawn.edges == counted
    if family == "balanced":
        fan_in, fan_out = drawn.describe()[5:7]
        assert fan_in[0] == fan_in[1]
        assert fan_out[1] - fan_out[0] <= 3


@pytest.mark.parametrize("name", FAMILIES)
def test_both_directions_list_the_same_edges(name):
    pattern = FAMILIES[name](KEY)
    sources, outputs = pattern.edge_list()
    listed = np.asarray(pattern.edges_out)
    for block_in, numbers in enumerate(listed):
        real = numbers[numbers < pattern.block_edges]
        assert (sources[real] == block_in).all()
        targets = np.asarray(pattern.targets)[block_in][numbers < pattern.block_edges]
        assert (outputs[real] == targets).all()
    assert sorted(listed[listed < pattern.block_edges]) == list(
        range(pattern.block_edges)
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_key_draws_the_same_pattern(name):
    assert edges_of(FAMILIES[name](KEY)) == edges_of(FAMILIES[name](KEY))


def test_the_leaves_are_int32_and_the_rest_is_static():
    pattern = sparse.random(KEY, 12, 10, density=0.3)
    leaves, structure = jax.tree.flatten(pattern)
    assert leaves
    assert {leaf.dtype for leaf in leaves} == {np.dtype("int32")}
    assert jax.tree.unflatten(structure, leaves).edges == pattern.edges
    assert hash(structure) == hash(jax.tree.structure(pattern))
    assert pickle.loads(pickle.dumps(structure)) == structure


def test_random_draws_the_ceiling_of_cells_uniformly():
    counts = np.zeros((6, 5))
    for key in jax.random.split(KEY, 400):
        pattern = sparse.random(key, 6, 5, density=0.21)
        assert pattern.edges == math.ceil(0.21 * 30)
        counts += pattern.to_dense()
    # Binomial(400, 7/30): mean 93, standard deviation 8.5.
    assert abs(counts.mean() - 400 * 7 / 30) < 1e-9
    assert counts.min() > 93 - 5 * 8.5
    assert counts.max() < 93 + 5 * 8.5


def test_structured_draws_every_edge_about_as_often():
    counts = sum(
        sparse.structured(key, 6, 4, density=0.5).to_dense().astype(int)
        for key in jax.random.split(KEY, 400)
    )
    # Binomial(400, 1/2): mean 200, standard deviation 10.
    assert np.abs(counts - 200).max() < 50


@given(
    st.integers(1, 30), st.integers(1, 30), st.data(), st.sampled_from([(1, 1), (2, 3)])
)
@settings(max_examples=60)
def test_structured_has_the_density_asked_for(n_in, n_out, data, block):
    n_in, n_out = n_in * block[0], n_out * block[1]
    density = data.draw(st.sampled_from(sparse.densities(n_in, n_out, block)))
    pattern = sparse.structured(KEY, n_in, n_out, density=density, block=block)
    assert pattern.density == pytest.approx(density)
    dense = pattern.to_dense()
    assert len(set(dense.sum(0))) == len(set(dense.sum(1))) == 1


def test_a_full_mixed_radix_network_joins_all_nodes_by_one_path():
    radices = (2, 3, 2)
    product = np.eye(12)
    for stage in range(3):
        junction = sparse.mixed_radix(KEY, 12, 12, radices=radices, stage=stage)
        product = product @ junction.to_dense()
    assert (product == 1).all()


def test_butterfly_stages_are_powers_of_two_apart():
    pattern = sparse.butterfly(KEY, 16, 16, stages=(0, 3))
    assert pattern.describe().fan_in == (3, 3)
    # Up to the permutation of inputs: outputs q, q^1, q^8 and q^9 share inputs.
    shared = pattern.to_dense().T.astype(int) @ pattern.to_dense()
    for q in range(16):
        assert set(np.flatnonzero(shared[q])) == {q, q ^ 1, q ^ 8, q ^ 9}


def test_sides_are_pythons_own_whatever_they_were():
    unchecked = inspect.unwrap(sparse.from_edges)
    ends = np.arange(2)
    listed = unchecked(ends, ends, 8, 8, [np.int64(4), 4])
    assert json.dumps(listed.block) == "[4, 4]"
    assert isinstance(listed.block, tuple)
    with pytest.raises(ValueError, match=r"two sides, \(b_in, b_out\), got 4"):
        inspect.unwrap(grid)(16, 8, 4)


def test_dense_and_back():
    for name, family in FAMILIES.items():
        pattern = family(KEY)
        again = sparse.from_dense(pattern.to_dense(), pattern.block)
        assert edges_of(again) == edges_of(pattern), name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sparse.structured(KEY, 8, 6, density=0.3), "nearest: 0.5 "),
        (lambda: sparse.structured(KEY, 8, 12, density=0.3), "0.25 and 0.5"),
        (lambda: sparse.grouped(KEY, 10, 8, density=0.25, side=4), "0.2 and 0.3"),
        (
            lambda: sparse.structured(KEY, 16, 12, density=0.3, block=(2, 3)),
            "16 x 12 nodes in blocks of 2 x 3 .* nearest: 0.25 and 0.5",
        ),
        (lambda: sparse.random(KEY, 8, 6, density=0.0), r"\(0, 1\], got 0"),
        (lambda: sparse.random(KEY, 8, 6, density=1.5), r"\(0, 1\], got 1.5"),
        (lambda: sparse.structured(KEY, 8, 6, density=-1.0), "got -1"),
        (lambda: sparse.block(KEY, 10, 8, density=0.5, side=4), "10 .* multiple .* 4"),
        (
            lambda: sparse.clash_free(KEY, 10, 5, density=0.2, memories=4),
            "4 memories for 10 inputs",
        ),
        (
            lambda: sparse.clash_free(KEY, 8, 4, density=0.5, memories=2, kind=4),
            "1, 2 or 3, got 4",
        ),
        (
            lambda: sparse.clash_free(KEY, 64, 16, density=15 / 16, memories=1),
            "fan_in 60 does not divide n_in 64",
        ),
        (
            lambda: sparse.clash_free_patterns(
                12, 8, density=0.25, memories=4, dither=True
            ),
            "fan_in 3 and 4 memories",
        ),
        (lambda: sparse.block_diagonal(KEY, 12, 9, blocks=2), "9 .* 2 blocks"),
        (lambda: sparse.butterfly(KEY, 12, 12), "12 by 12"),
        (lambda: sparse.butterfly(KEY, 8, 8, stages=(3,)), r"\[0, 1, 2\], got \[3\]"),
        (lambda: sparse.mixed_radix(KEY, 12, 8, radices=(2,)), "12 and 8"),
        (lambda: sparse.mixed_radix(KEY, 12, 12, radices=(5,)), "12 blocks"),
        (
            lambda: sparse.mixed_radix(KEY, 12, 12, radices=(2,), stage=1),
            r"0 \.\. 0, got 1",
        ),
        (lambda: sparse.windows(KEY, (4, 4, 1), 8, window=(5, 2)), "does not fit"),
        (lambda: sparse.from_edges(np.array([0.5]), np.array([0]), 2, 2), "float64"),
        (
            lambda: sparse.from_edges(np.array([0, 2]), np.zeros(2, int), 2, 2),
            "block 2 .* 2",
        ),
        (lambda: sparse.from_edges(np.array([-1]), np.array([0]), 2, 2), "block -1"),
        (lambda: sparse.from_edges(np.array([0]), np.array([5]), 2, 4), "block 5 .* 4"),
        (
            lambda: sparse.from_edges(np.array([1, 1]), np.array([0, 0]), 2, 2),
            "input block 1 to output block 0",
        ),
        (
            lambda: sparse.from_edges(np.array([1, 0]), np.array([0]), 2, 2),
            "2 input blocks but 1 output",
        ),
        (
            lambda: sparse.from_edges(np.zeros(0, int), np.zeros(0, int), 2, 2),
            "at least one edge",
        ),
        (lambda: sparse.from_dense(np.ones(3)), r"shape \(3,\)"),
        (lambda: sparse.from_dense(np.eye(4), (2, 2)), "present in part"),
        (lambda: sparse.scatter([]), "got none"),
        (
            lambda: sparse.edge_count("clash_free", 4, 4, density=0.5, block=(2, 2)),
            "'clash_free' joins single nodes",
        ),
        (
            lambda: sparse.edge_count("ring", 4, 4, density=0.5),
            "family must be one of structured, balanced, .*'ring'",
        ),
    ],
)
def test_bad_input_names_the_value_and_the_limit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_impossible_density_is_rounded_where_asked():
    assert sparse.structured(KEY, 8, 12, density=0.3, nearest=True).density == 0.25
    assert sparse.structured(KEY, 8, 12, density=0.01, nearest=True).density == 0.25
    grouped = sparse.grouped(KEY, 10, 8, density=0.34, side=4, nearest=True)
    assert grouped.density == pytest.approx(0.3)


def test_every_pattern_is_reachable_for_a_tiny_structured_junction():
    """3 x 3 with degree 1: the six permutation matrices."""
    drawn = {
        tuple(edges_of(sparse.structured(key, 3, 3, density=1 / 3)))
        for key in jax.random.split(KEY, 200)
    }
    assert drawn == {
        tuple(sorted(zip(range(3), p, strict=True)))
        for p in itertools.permutations(range(3))
    }


def test_a_table_of_cells_is_kept_where_it_is_small_beside_the_edges_or_at_all():
    def cells(n_in, n_out, edges):
        at = np.arange(edges)
        return sparse.from_edges(at % n_in, at // n_in, n_in, n_out).cells

    assert cells(256, 256, 300) is not None  # 65,536 cells
    assert cells(257, 256, 300) is None
    assert cells(512, 512, 39_322) is not None  # 15.0004 %
    assert cells(512, 512, 39_321) is None


def test_lists_are_filled_up_with_their_own_last_entry():
    pattern = sparse.from_edges(np.array([0, 1, 2]), np.array([0, 1, 1]), 3, 2)
    assert np.asarray(pattern.sources).tolist() == [[0, 0], [1, 2]]
    assert np.asarray(pattern.edges_in).tolist() == [[0, 3], [1, 2]]
    assert np.asarray(pattern.targets).tolist() == [[0], [1], [1]]


ONE = np.zeros(1, int)


def test_blocks_of_nothing_and_nodes_of_none_are_refused():
    for n_in, n_out, block in ((4, 4, (0, 1)), (4, 4, (1, 0)), (0, 4, (1, 1))):
        with pytest.raises(ValueError, match="must be a whole number >= 1, got 0"):
            sparse.from_edges(ONE, ONE, n_in, n_out, block)
    with pytest.raises(ValueError, match="the nearest that is: 8"):
        sparse.from_edges(ONE, ONE, 9, 4, (4, 1))
    with pytest.raises(ValueError, match="the nearest that is: 4"):
        sparse.from_edges(ONE, ONE, 1, 4, (4, 1))


def test_sizes_and_densities_of_other_types_are_refused_by_name():
    check_density, check_grid = map(inspect.unwrap, (families.check_density, grid))
    with pytest.raises(InputError, match="density must be a number, got 'a half'"):
        check_density("a half")
    for n_in, block, message in (
        (8.0, (1, 1), "n_in must be a whole number >= 1, got 8.0"),
        (8, (2, 2.0), "b_out must be a whole number >= 1, got 2.0"),
    ):
        with pytest.raises(InputError, match=message):
            check_grid(n_in, 8, block)


def test_a_density_that_floating_point_lifts_over_a_whole_number_is_not_rounded_up():
    assert 0.07 * 100 > 7
    assert sparse.edge_count("random", 10, 10, density=0.07) == 7
    assert sparse.edge_count("random", 10, 10, density=0.0701) == 8
    assert sparse.edge_count("random", 10, 10, density=1e-6) == 1
    assert sparse.edge_count("random", 10, 10, density=1.0) == 100
    assert sparse.edge_count("random", 10_000, 10_000, density=1.0) == 10**8


def test_a_density_next_to_a_possible_one_is_impossible():
    with pytest.raises(ValueError, match=r"nearest: 0.25 and 0.5"):
        sparse.structured(KEY, 8, 4, density=0.2505)
    with pytest.raises(ValueError, match=r"nearest: 0.25 "):
        sparse.structured(KEY, 8, 4, density=0.2)


def test_a_density_in_the_six_digits_of_an_error_is_possible():
    pattern = sparse.structured(KEY, 6, 3, density=0.333333)
    assert pattern.density == pytest.approx(1 / 3)


def test_an_input_is_drawn_by_the_odds_of_its_remaining_edges():
    generator, degrees = np.random.default_rng(0), np.array([5, 1, 1, 1, 1, 1])
    first = [families._draw(generator, degrees, 10, 1)[0, 0] for _ in range(600)]
    # Odds of 5 to 5, and five times 1 to 9: 9 of 14, binomial of deviation 0.02.
    assert abs(np.mean(np.equal(first, 0)) - 9 / 14) < 0.06


def test_a_butterfly_of_one_block_joins_it_to_all():
    assert sparse.butterfly(KEY, 1, 4).density == 1.0
    assert sparse.butterfly(KEY, 6, 2, block=(2, 2)).density == 1.0


def test_a_mixed_radix_stage_steps_back_by_its_stride():
    pattern = sparse.mixed_radix(KEY, 12, 12, radices=(3, 4), stage=1)
    for q, sources in enumerate(np.asarray(pattern.sources)):
        first = (np.asarray(pattern.sources)[0] + q) % 12
        assert sorted(sources) == sorted(first)
    gaps = np.diff(np.sort(np.asarray(pattern.sources)[0]))
    assert set(gaps) == {3}


def test_a_description_counts_nodes_and_not_blocks():
    # Input block 0 goes to both outputs, 1 to one, 2 to none; output 2 has none.
    sources, outputs = np.array([0, 0, 1]), np.array([0, 1, 1])
    pattern = sparse.from_edges(sources, outputs, 6, 9, (2, 3))
    told = pattern.describe()
    assert (told.edges, told.density) == (18, 18 / 54)
    assert (told.fan_in, told.fan_out) == ((0, 4), (0, 6))
    assert (told.unconnected_inputs, told.unconnected_outputs) == (2, 3)
    assert told.duplicate_edges == 0
    tall = sparse.from_dense(np.ones((6, 3)))  # more inputs than outputs
    assert tall.describe().duplicate_edges == 0
    twice = dataclasses.replace(
        sparse.structured(KEY, 4, 2, density=0.5), sources=np.array([[1, 1], [0, 2]])
    )
    assert twice.describe().duplicate_edges == 1


def test_stacked_patterns_say_that_they_are_several():
    one = sparse.structured(jax.random.key(0), 8, 4, density=0.5)
    stacked = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), one)
    for describe in (stacked.describe, stacked.to_dense, stacked.edge_list):
        with pytest.raises(ValueError, match=r"2 stacked patterns .* take one of them"):
            describe()
    first = jax.tree.map(lambda leaf: leaf[0], stacked)
    assert first.describe() == one.describe()


def test_only_matrices_are_patterns_and_their_blocks_are_single_nodes():
    for shape in ((4,), (2, 2, 2)):
        with pytest.raises(ValueError, match="an adjacency matrix has 2 axes, got"):
            sparse.from_dense(np.ones(shape))
    assert sparse.from_dense(np.eye(3)).block == (1, 1)
