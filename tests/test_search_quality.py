"""The benchmark on tables of searched networks, with a table of its own."""

import itertools

import pytest

from dnc_jax.search import Choice, CustomSpace
from experiments.benchmarks import search_quality


@pytest.mark.parametrize("name", ["ours", "random"])
def test_a_search_of_a_table_asks_for_as_many_candidates_as_it_may(name):
    sides = (0, 1, 2, 3, 4)
    space = CustomSpace({"a": Choice(sides), "b": Choice(sides)}, lambda a, b: (a, b))
    values = {(a, b): 1.0 + a * b for a, b in itertools.product(sides, sides)}
    table = search_quality.Table("plane", space, values)
    found = search_quality.SEARCHES[name](table, 0, 8)
    assert len(found) == 8
    assert set(found) <= set(values.values())
