"""Dimensions, spaces and constraints."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc_jax import InputError
from dnc_jax.footprint import complexity
from dnc_jax.networks import CNN, MLP, presets
from dnc_jax.search import (
    Candidate,
    Choice,
    CNNSpace,
    Constraints,
    CustomSpace,
    Integer,
    MLPSpace,
    Real,
    constraints,
    make_space,
    space_from_json,
)
from dnc_jax.search.constraints import Limited
from dnc_jax.search.network_space import fitting
from dnc_jax.sparse import edge_count
from dnc_jax.training import Hyperparameters
from dnc_jax.training.timing import EpochCost

SPACE = MLPSpace(6, 4, width=(4, 24), depth=(0, 2), batch_sizes=(32, 64))
SPARSE = MLPSpace(64, 10, densities=(1.0, 0.5, 0.2, 0.1), width_step=10)
IMAGES = CNNSpace((8, 8, 1), 10, first_channels=(8, 16), depth=(2, 9), halvings=(1, 2))
PAPER = CNNSpace((32, 32, 3), 10, densities=(1.0, 0.5))
SPACES = {"mlp": SPACE, "sparse": SPARSE, "images": IMAGES, "paper": PAPER}

every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


@every_space
def test_points_with_the_same_values_have_one_place(space):
    units = space.draw(np.random.default_rng(0), 50)
    places, active = space.snap(units)
    values = space.decode(units)
    assert space.decode(places) == values
    np.testing.assert_allclose(space.encode(values), places)
    assert [row.sum() for row in active] == [len(point) for point in values]


@every_space
def test_what_is_inactive_changes_nothing(space):
    units = space.draw(np.random.default_rng(1), 50)
    _, active = space.snap(units)
    assert not active.all()
    other = np.where(active, units, 1 - units)
    assert space.candidates(other) == space.candidates(units)


@every_space
def test_spaces_and_candidates_survive_json(space):
    assert space_from_json(json.loads(json.dumps(space.to_json()))) == space
    for candidate in space.sample(jax.random.key(0), 20):
        again = Candidate.from_json(json.loads(json.dumps(candidate.to_json())))
        assert again == candidate


@every_space
def test_a_sobol_sequence_covers_the_space_and_depends_on_the_key_alone(space):
    one, two = (space.sobol(jax.random.key(3), 15) for _ in range(2))
    assert one == two != space.sobol(jax.random.key(4), 15)
    units = space.draw_sobol(np.random.default_rng(0), 16)
    halves = (units > 0.5).sum(axis=0)
    np.testing.assert_array_equal(halves, 8)


def test_a_space_of_ones_own_is_a_dict_and_a_function_and_survives_json():
    def build(rate, depth, first, second=None):
        hidden = (first, second) if second else (first,)
        return Candidate(MLP(6, hidden, 4), Hyperparameters(rate))

    space = CustomSpace(
        {
            "depth": Choice((1, 2)),
            "first": Integer(4, 8),
            "second": Integer(4, 8, when=("depth", (2,))),
            "rate": Real(1e-4, 1e-1, log=True),
        },
        build,
    )
    described = json.loads(json.dumps(space.to_json()))
    again = CustomSpace.from_json(described, build)
    assert again.dimensions == space.dimensions
    key = jax.random.key(0)
    assert again.sample(key, 9) == space.sample(key, 9)
    assert space.largest() == MLP(6, (8, 8), 4)


def test_a_limited_space_of_ones_own_keeps_its_limits_through_json():
    def build(width):
        return Candidate(MLP(6, (width,), 4), Hyperparameters())

    limits = Constraints(max_parameters=100)
    space = limits.limited(CustomSpace({"width": Integer(2, 64)}, build))
    described = json.loads(json.dumps(space.to_json()))
    again = space_from_json(described, build)
    assert isinstance(again, Limited)
    assert again.constraints == limits
    key = jax.random.key(0)
    assert again.sample(key, 9) == space.sample(key, 9)
    with pytest.raises(InputError, match="read with its function"):
        space_from_json(described)
    with pytest.raises(InputError, match="constraints, which would be lost"):
        CustomSpace.from_json(described, build)


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        (Choice((1, 2)), 3),
        (Choice(("a", "b")), "c"),
        (Integer(8, 64, step=8), 12),
        (Integer(8, 64), "8"),
        (Real(0.0, 1.0), 2),
    ],
)
def test_a_condition_that_never_holds_is_refused(other, wanted):
    with pytest.raises(InputError, match=f"depends on a = {wanted!r}, which .* never"):
        CustomSpace({"a": other, "b": Integer(0, 1, when=("a", (wanted,)))}, dict)


def test_a_condition_on_the_zero_below_a_range_holds():
    rate = Real(0.001, 1.0, zero_below=0.01)
    space = CustomSpace({"a": rate, "b": Integer(1, 3, when=("a", (0.0,)))}, dict)
    assert {"a": 0.0, "b": 2} in space.decode(np.array([[0.0, 0.5]]))


def test_what_describes_no_custom_space_is_refused():
    with pytest.raises(InputError, match="not the description of a custom space"):
        space_from_json({"kind": "custom"}, dict)


def test_numbers_of_a_narrow_range_differ():
    narrow = Real(0.9990, 0.9999).decode(np.linspace(0, 1, 50))
    assert len(set(narrow)) == 50
    assert min(narrow) == 0.999
    assert max(narrow) == 0.9999


def test_a_space_without_dimensions_or_with_a_condition_on_a_later_one_is_refused():
    with pytest.raises(InputError, match="at least one dimension"):
        CustomSpace({}, dict)
    later = {"a": Integer(0, 1, when=("b", (1,))), "b": Integer(0, 1)}
    with pytest.raises(InputError, match="a depends on 'b', which must come before"):
        CustomSpace(later, dict)


def test_a_space_that_allows_next_to_nothing_says_so():
    class Nothing(CustomSpace):
        def allows(self, candidate):
            return False

    space = Nothing({"a": Integer(0, 1)}, lambda a: a)
    with pytest.raises(InputError, match="only 0 of the 2 wanted are allowed"):
        space.sample(jax.random.key(0), 2)


# Networks


@given(st.integers(0, 1000))
def test_every_candidate_is_inside_the_space_and_survives_json(seed):
    space = MLPSpace(6, 4)
    for candidate in space.sample(jax.random.key(seed), 5):
        network, training = candidate.architecture, candidate.hyperparameters
        assert 0 <= len(network.hidden) <= 3
        assert all(20 <= width <= 400 for width in network.hidden)
        assert 0 <= network.dropout <= 0.5
        assert 1e-5 <= training.learning_rate <= 1e-1
        assert training.weight_decay == 0 or 1e-5 <= training.weight_decay <= 1e-3
        assert training.batch_size in space.batch_sizes
        again = Candidate.from_json(json.loads(json.dumps(candidate.to_json())))
        assert again == candidate


def test_samples_depend_on_the_key_alone():
    one, two = (SPACE.sample(jax.random.key(3), 20) for _ in range(2))
    assert one == two != SPACE.sample(jax.random.key(4), 20)


def test_the_largest_network_of_the_papers_space_has_the_papers_size():
    space = MLPSpace(784, 10, depth=(0, 2))
    assert complexity(space.largest()).parameters == 478_410


def test_no_network_of_the_space_is_larger_than_the_largest():
    space = MLPSpace(50, 40, depth=(0, 3), width=(1, 3))
    limit = complexity(space.largest()).parameters
    candidates = space.sample(jax.random.key(0), 200)
    assert max(complexity(c.architecture).parameters for c in candidates) <= limit


def test_batches_are_cut_to_the_training_rows():
    space = MLPSpace(6, 4, batch_sizes=(32, 128, 512)).limited_to(100)
    assert space.batch_sizes == (32, 100)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": (30, 20)}, "^width: lower 30 > upper 20"),
        ({"depth": (-1, 2)}, "^depth must be >= 0, got -1"),
        ({"learning_rate": (0.0, 1.0)}, "^learning_rate must be >="),
        ({"dropout": (0.0, 1.0)}, "^dropout must be < 1"),
        ({"activations": ("relu", "step")}, "^activations must be one of relu.*'step"),
        ({"activations": ()}, "must not be"),
        ({"batch_sizes": (0,)}, "batch_sizes must be a whole number >= 1, got 0"),
        ({"width": (20,)}, "must be .lower, upper."),
    ],
)
def test_an_impossible_range_is_refused_by_name(fields, message):
    with pytest.raises(InputError, match=message):
        MLPSpace(6, 4, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dropout_rate": (0.3, 1.0)}, r"^dropout_rate must lie in \[0, 1\)"),
        ({"batch_norm": (1.5,)}, r"^batch_norm must lie in \[0, 1\]"),
        ({"downsampling": ()}, r"^downsampling must not be \(\)"),
        ({"first_channels": (16, 1024)}, "^max_channels = 512 must be at least"),
    ],
)
def test_an_impossible_range_of_cnns_is_refused_by_name(fields, message):
    with pytest.raises(InputError, match=message):
        CNNSpace((8, 8, 1), 10, **fields)


def test_a_limited_space_refuses_more_candidates_than_memory_holds():
    limited = Constraints(max_parameters=10_000).limited(MLPSpace(6, 4))
    with pytest.raises(InputError, match="at most 1,000,000 candidates at a time"):
        limited.sample(jax.random.key(0), 10**9)


def test_the_papers_cnns_grow_within_its_limits_and_halve_where_it_says():
    for candidate in PAPER.sample(jax.random.key(0), 100):
        network = candidate.architecture
        assert isinstance(network, CNN)
        assert 4 <= len(network.channels) <= 16
        assert 16 <= network.channels[0] <= 64
        for before, after in zip(network.channels, network.channels[1:], strict=False):
            assert before <= after <= min(2 * before, 512)
        halved = tuple(bool(how) for how in network.downsampling)
        assert halved == presets.downsampled_layers(network.channels)


def test_a_widening_of_0_repeats_the_channels_and_of_1_doubles_them_up_to_the_most():
    space = CNNSpace((8, 8, 1), 10, depth=(4, 4), max_channels=100)
    values = {"depth": 4, "channels_1": 40}
    assert space.channels(values | {f"widening_{i}": 0.0 for i in (2, 3, 4)}) == (
        (40,) * 4
    )
    assert space.channels(values | {f"widening_{i}": 1.0 for i in (2, 3, 4)}) == (
        (40, 80, 100, 100)
    )


def test_halvings_asked_for_are_spread_over_the_layers():
    space = CNNSpace((32, 32, 3), 10, depth=(8, 8), halvings=(3,))
    (candidate,) = space.sample(jax.random.key(0), 1)
    places = [i for i, how in enumerate(candidate.architecture.downsampling) if how]
    assert places == [1, 3, 5]


@given(
    st.sampled_from(["balanced", "structured", "random"]),
    st.sampled_from([0.5, 0.2, 0.1]),
    st.integers(1, 200),
    st.integers(1, 200),
)
def test_a_fitted_pattern_is_possible(family, density, n_in, n_out):
    one = fitting(family, density, n_in, n_out)
    if one:
        assert one.edges(n_in, n_out) == pytest.approx(one.density * n_in * n_out)
        assert edge_count(
            family, n_in, n_out, density=one.density, block=one.block
        ) == one.edges(n_in, n_out)


def test_fitted_patterns_have_the_largest_block_that_leaves_no_input_out():
    assert fitting("balanced", 0.1, 784, 192).block == (1, 16)
    assert fitting("balanced", 0.5, 784, 1024).block == (1, 64)
    assert fitting("balanced", 0.1, 784, 10).block == (1, 1)
    assert fitting("balanced", 0.1, 784, 97).block == (1, 1)
    assert fitting("balanced", 1.0, 784, 10) is None


def test_the_first_junction_may_have_a_family_of_its_own():
    space = MLPSpace(
        784, 10, depth=(1, 1), width=(64, 64), densities=(0.1,), first_family="windows"
    )
    (candidate,) = space.sample(jax.random.key(0), 1)
    families = [one.family for one in candidate.architecture.sparsity]
    assert families == ["windows", "balanced"]
    assert space_from_json(space.to_json()) == space
    with pytest.raises(InputError, match="square image of 1 or 3 channels, got 65"):
        MLPSpace(65, 10, first_family="windows")


def test_densities_make_networks_smaller_and_the_largest_stays_dense():
    networks = [c.architecture for c in SPARSE.sample(jax.random.key(0), 50)]
    assert any(network.density < 0.3 for network in networks)
    assert SPARSE.largest().density == 1
    for candidate in PAPER.sample(jax.random.key(0), 20):
        sparsity = candidate.architecture.sparsity
        assert not sparsity or sparsity[0] is None


# Constraints


@pytest.mark.parametrize("limit", [1_000_000, 20_000, 8_000])
def test_what_is_drawn_keeps_to_the_limits(limit):
    space = MLPSpace(784, 10)
    limited = Constraints(max_parameters=limit, max_flops=3 * limit).limited(space)
    for draw in (limited.sample, limited.sobol):
        candidates = draw(jax.random.key(0), 30)
        assert len(candidates) == 30
        for candidate in candidates:
            cost = complexity(candidate.architecture)
            assert cost.parameters <= limit
            assert cost.flops_per_example <= 3 * limit
        rates = {c.hyperparameters.learning_rate for c in candidates}
        assert len(rates) > 25
    assert limited.largest() == space.largest()
    assert limited.limited_to(100).sample(jax.random.key(1), 2)


def test_where_next_to_nothing_fits_networks_are_made_smaller_and_differ():
    space = MLPSpace(784, 10, depth=(1, 3))
    limited = Constraints(max_parameters=17_000).limited(space)
    candidates = limited.sample(jax.random.key(0), 30)
    assert len({c.architecture for c in candidates}) > 20
    assert all(complexity(c.architecture).parameters <= 17_000 for c in candidates)


def test_a_limit_on_flops_alone_is_kept_too():
    limited = Constraints(max_flops=20_000).limited(MLPSpace(784, 10))
    for candidate in limited.sample(jax.random.key(0), 30):
        assert complexity(candidate.architecture).flops_per_example <= 20_000


def test_what_is_just_at_the_limit_is_allowed_and_nothing_that_the_space_forbids():
    (candidate,) = SPACE.sample(jax.random.key(0), 1)
    size = complexity(candidate.architecture).parameters
    at, below = (Constraints(max_parameters=size - less) for less in (0, 1))
    assert at.limited(SPACE).allows(candidate)
    assert at.met(complexity(candidate.architecture))
    assert not below.limited(SPACE).allows(candidate)
    assert not below.met(complexity(candidate.architecture))
    both = Constraints(max_parameters=size + 99).limited(below.limited(SPACE))
    assert not both.allows(candidate)


def test_a_limited_space_of_smaller_batches_keeps_its_limits():
    space = MLPSpace(784, 10, batch_sizes=(32, 512))
    limited = Constraints(max_parameters=20_000).limited(space).limited_to(100)
    for candidate in limited.sample(jax.random.key(0), 30):
        assert complexity(candidate.architecture).parameters <= 20_000
        assert candidate.hyperparameters.batch_size <= 100


def test_a_point_that_is_too_large_is_moved_as_little_as_halving_shows(monkeypatch):
    space = MLPSpace(784, 10, depth=(1, 3))
    limits = Constraints(max_parameters=30_000)
    limited = limits.limited(space)
    monkeypatch.setattr(constraints, "_TRIES", 0)
    points, moved = (one.draw(np.random.default_rng(0), 40) for one in (space, limited))
    smallest, _ = space.extreme(limits.excess)
    costly = [name == "depth" or "width" in name for name in space.dimensions]
    assert (moved[:, np.logical_not(costly)] == points[:, np.logical_not(costly)]).all()
    steps = (1.0, 0.5, 0.25, 0.125, 0.0625, 0.0)
    taken = []
    for point, found in zip(points, moved, strict=True):
        ways = [smallest + share * (point - smallest) for share in steps]
        allowed = map(limited.allows, space.candidates(np.array(ways)))
        taken.append(list(allowed).index(True))
        np.testing.assert_array_equal(found[costly], ways[taken[-1]][costly])
    assert len(set(taken)) > 3


def test_an_impossible_limit_names_the_smallest_network():
    with pytest.raises(InputError, match=r"max_parameters = 5,000: .* has 7,850 param"):
        Constraints(max_parameters=5_000).limited(MLPSpace(784, 10))
    with pytest.raises(InputError, match=r"^max_joules_per_epoch must be >= 0"):
        Constraints(max_joules_per_epoch=-1.0)


def test_limits_on_what_is_measured_are_judged_after_training():
    limits = Constraints(max_seconds_per_epoch=2.0, max_joules_per_epoch=50.0)
    space = MLPSpace(6, 4)
    assert limits.limited(space) is space
    cost = complexity(space.largest())
    assert limits.met(cost)
    assert limits.met(cost, EpochCost(2.0, 50.0))
    assert not limits.met(cost, EpochCost(2.1))
    assert not limits.met(cost, EpochCost(joules=51.0))


def test_a_space_is_made_for_a_data_set_by_its_kind(digits, small):
    assert make_space(digits, depth=(1, 2)) == MLPSpace(64, 10, depth=(1, 2))
    assert make_space(small, batch_sizes=(512,)).batch_sizes == (len(small.train.y),)
    space = make_space(digits, "cnn", depth=(1, 2))
    assert (space.image, space.outputs) == ((8, 8, 1), 10)
    with pytest.raises(InputError, match="kind must be one of mlp, cnn, got 'rnn'"):
        make_space(digits, "rnn")
    with pytest.raises(InputError, match=r"^width: a space of kind 'cnn' has no"):
        make_space(digits, "cnn", width=(1, 2))
    with pytest.raises(InputError, match="these data are no images"):
        make_space(small, "cnn")


def test_a_limited_space_survives_json_with_its_limits():
    limited = Constraints(max_parameters=5_000).limited(MLPSpace(6, 4))
    back = space_from_json(json.loads(json.dumps(limited.to_json())))
    assert back.to_json() == limited.to_json()
    assert back.sample(jax.random.key(1), 9) == limited.sample(jax.random.key(1), 9)


def test_nothing_drawn_is_nothing_also_within_limits():
    limited = Constraints(max_parameters=5_000).limited(MLPSpace(6, 4))
    assert limited.sample(jax.random.key(0), 0) == []
    assert MLPSpace(6, 4).sample(jax.random.key(0), 0) == []


@pytest.mark.parametrize(
    ("ends", "zero"),
    [((1e-4, 1e-4), False), ((1e-4, 1e-3), False), ((1e-6, 1e-3), True)],
)
def test_a_weight_decay_of_a_decade_or_less_is_never_zero(ends, zero):
    space = MLPSpace(6, 4, weight_decay=ends)
    drawn = space.sample(jax.random.key(0), 64)
    decays = {candidate.hyperparameters.weight_decay for candidate in drawn}
    assert (0.0 in decays) == zero
    assert all(ends[0] <= one <= ends[1] for one in decays - {0.0})


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (MLPSpace, {"width": 8}),
        (MLPSpace, {"densities": 0.5}),
        (CNNSpace, {"depth": 2}),
    ],
)
def test_one_value_where_several_belong_is_refused_by_name(kind, fields):
    ((name, value),) = fields.items()
    first = 6 if kind is MLPSpace else (8, 8, 1)
    space = object.__new__(kind)  # `__init__` checks annotations, in tests alone
    vars(space).update(vars(kind(first, 4)) | fields)
    with pytest.raises(InputError, match=rf"^{name} must be a tuple .*got {value}"):
        space.__post_init__()


def test_a_condition_on_a_text_is_refused_and_matches_no_part_of_it():
    for size in (Integer(16, 32), Real(16, 32), Choice((16, 32))):
        for when, advice in (
            (("kind", "sgd"), r", such as \('kind', \('sgd',\)\), got"),
            ("kind", ", got 'kind'"),
        ):
            object.__setattr__(size, "when", when)  # as nobody checks for a user
            with pytest.raises(InputError, match=f"when must be .*{advice}"):
                size.__post_init__()
