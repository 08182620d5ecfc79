"""Clash-free patterns of the three types, by the published example and by hand."""

import jax
import numpy as np
import pytest

from dnc_jax import sparse

KEY = jax.random.key(0)


def edges_of(pattern):
    return frozenset(zip(*map(np.ndarray.tolist, pattern.edge_list()), strict=True))


def test_the_worked_example_of_type_3():
    """n_in 12, fan_out 2, n_out 8, z 4; the seeds are those of the paper's example."""
    reads = {0: {4, 1, 10}, 1: {11, 8, 5}, 2: {2, 3, 0}, 3: {9, 6, 7}}
    wanted = {(i, o + half) for half in (0, 4) for o, ins in reads.items() for i in ins}
    for key in jax.random.split(KEY, 400):
        pattern = sparse.clash_free(key, 12, 8, density=0.25, memories=4, kind=3)
        if edges_of(pattern) == wanted:
            return
    # 81 seed vectors, all equally likely: missed with probability 0.7 %.
    pytest.fail("phi = (1, 0, 2, 2) was not drawn in 400 tries")


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize("dither", [False, True])
def test_every_cycle_reads_each_memory_once(kind, dither):
    """With fan_in equal to the number of memories an output's reads are a cycle."""
    pattern = sparse.clash_free(
        KEY, 12, 9, density=1 / 3, memories=4, kind=kind, dither=dither
    )
    for inputs in np.asarray(pattern.sources):
        assert sorted(inputs % 4) == [0, 1, 2, 3]


def test_clash_free_patterns_are_counted_as_published():
    counts = [
        sparse.clash_free_patterns(9, 6, density=1 / 3, memories=3, kind=kind)
        for kind in (1, 2, 3)
    ]
    assert counts == [46656, 729, 27]
    # z divides fan_in: dither multiplies by 1; fan_in 1 divides z: by z!.
    assert (
        sparse.clash_free_patterns(9, 6, density=1 / 3, memories=3, kind=3, dither=True)
        == 27
    )
    assert (
        sparse.clash_free_patterns(8, 8, density=1 / 8, memories=2, kind=3, dither=True)
        == 2 * 4**2
    )


def test_counts_of_type_3_are_what_is_drawn():
    drawn = {
        edges_of(sparse.clash_free(key, 4, 4, density=0.25, memories=2, kind=3))
        for key in jax.random.split(KEY, 100)
    }
    assert len(drawn) == sparse.clash_free_patterns(
        4, 4, density=0.25, memories=2, kind=3
    )


@pytest.mark.parametrize(
    ("kind", "count"), [(1, (6 * 6**4) ** 2), (2, (6 * 3**4) ** 2), (3, 6 * 3**4)]
)
def test_dither_is_counted_by_hand(kind, count):
    # 4 memories of 3 inputs, fan_in 2: 4! / 2!^2 = 6 orders for each of fan_out 2.
    assert count == sparse.clash_free_patterns(
        12, 12, density=1 / 6, memories=4, kind=kind, dither=True
    )
