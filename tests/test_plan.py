import functools
import statistics

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_jax.networks import CNN, MLP, Sparsity, network
from dnc_jax.training import (
    Hyperparameters,
    costs,
    feed,
    grouping,
    plan,
    population,
    shapes,
)
from dnc_jax.training.jobs import Progress
from tests.alone import job

WORK = costs.Workload(inputs=784, outputs=10, rows=48000, epochs=1)
networks = st.lists(
    st.tuples(
        st.lists(st.integers(20, 400), max_size=3).map(
            lambda hidden: MLP(784, tuple(hidden), 10)
        ),
        st.sampled_from([32, 128, 512]),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=40)
@given(networks)
def test_every_network_is_in_one_group_that_holds_it(nets):
    groups = plan.make(nets, WORK)
    assert sorted(i for g in groups for i in g.members) == list(range(len(nets)))
    for group in groups:
        for i in group.members:
            architecture, batch_size = nets[i]
            assert batch_size == group.shape.batch_size
            assert len(architecture.hidden) == len(group.shape.hidden)
            assert all(
                a <= b
                for a, b in zip(architecture.hidden, group.shape.hidden, strict=True)
            )


@settings(max_examples=20)
@given(networks)
def test_a_plan_costs_no_more_than_a_program_for_each_network(nets):
    cost = costs.CostModel(workers=1)
    alone = sum(
        cost.compile_seconds
        + costs.run_seconds(
            shapes.Padded(1, tuple(map(plan.padded, net.hidden)), batch), 1, WORK, cost
        )
        for net, batch in nets
    )
    groups = plan.make(nets, WORK, cost=cost)
    assert plan.total_seconds(groups, (), WORK, cost) <= alone + 1e-9
    assert plan.wall_seconds(groups, (), WORK, cost) == pytest.approx(
        plan.total_seconds(groups, (), WORK, cost)
    )


def test_lanes_are_taken_apart_where_a_core_would_stand_idle():
    nets, cost = [(MLP(784, (64, 64), 10), 128)] * 8, costs.CostModel()
    (one,) = plan.make(nets, WORK, cost=cost._replace(workers=1))
    (two,) = plan.make(nets, WORK, cost=cost)
    assert (one.shape.lanes, two.shape.lanes) == (8, 4)
    assert plan.wall_seconds([two], (), WORK, cost) < plan.wall_seconds(
        [one], (), WORK, cost
    )
    accelerator = WORK._replace(accelerator=True)
    for count in (8, 256):
        (alone,) = plan.make(nets[:1] * count, accelerator, cost=cost)
        assert alone.shape.lanes == count


def test_networks_of_one_size_share_a_program():
    nets = [(MLP(784, (64,), 10), 128)] * 12
    assert len({group.shape for group in plan.make(nets, WORK)}) == 1


def test_long_runs_are_worth_a_program_of_their_own():
    nets = [(MLP(784, (32, 32), 10), 128), (MLP(784, (400, 400), 10), 128)]
    short = plan.make(nets, WORK)
    long = plan.make(nets, WORK._replace(epochs=50))
    assert len({g.shape for g in short}) == 1
    assert len({g.shape for g in long}) == 2


def test_a_rung_that_others_follow_is_planned_for_those_too(small):
    networks = [MLP(6, (width, width), 4) for width in (8, 400)]

    def shapes_of(expected_epochs):
        programs = population.Programs(small, jax.random.key(0), cost=costs.CostModel())
        jobs = [
            population.Job(
                one,
                Hyperparameters(batch_size=16),
                jax.random.key(0),
                start=0,
                stop=1,
                total=81,
                expected_epochs=expected_epochs,
            )
            for one in networks
        ]
        return {group.shape for group in grouping.plan_groups(jobs, programs)}

    assert len(shapes_of(0.0)) == 1
    assert len(shapes_of(1e4)) == 2


def test_a_compiled_program_that_is_large_enough_is_used_again():
    nets = [(MLP(784, (100,), 10), 128)]
    ready = [shapes.Padded(1, (128,), 128), shapes.Padded(1, (96,), 128)]
    assert plan.make(nets, WORK, ready)[0].shape == ready[0]


def test_a_compiled_sparse_network_does_not_keep_lanes_together():
    """Charged its compiling again, it would keep one of two workers busy alone."""
    sparse = MLP(784, (64,), 10, sparsity=(Sparsity(0.25), None))
    nets = [(sparse, 128), *[(MLP(784, (64, 64), 10), 128)] * 8]
    cost = costs.CostModel()
    ready = [shapes.Padded(lanes, (64, 64), 128) for lanes in (1, 2, 4, 8)]
    ready.append(shapes.Exact(1, network.structure(sparse), 128))
    groups = plan.make(nets, WORK, ready, cost)
    padded = [group for group in groups if isinstance(group.shape, shapes.Padded)]
    wall = plan.wall_seconds(groups, ready, WORK, cost)
    for group in padded:
        half = plan.Group(
            group.shape._replace(lanes=max(1, group.shape.lanes // 2)), group.members
        )
        others = [one for one in groups if one is not group]
        assert wall <= plan.wall_seconds([half, *others], ready, WORK, cost)


def test_on_an_accelerator_convolutions_take_the_form_that_is_faster():
    few, many = (CNN((8, 8, 3), (width,) * 3, 10) for width in (8, 128))
    cost = costs.CostModel(
        grouped_flops_per_second=1e14,
        beside_flops_per_second=1e15,
        im2col_flops_per_second=2e14,
        patch_bytes_per_second=1e12,
    )

    def form(network, count, **work):
        nets, work = [(network, 64)] * count, WORK._replace(**work)
        (group,) = plan.make(nets, work, cost=cost)
        (other,) = {*plan.FORMS} - {group.shape.form} if work.accelerator else (None,)
        alike = group.shape._replace(form=other)
        taken, lost = (
            costs.run_seconds(shape, count, work, cost)
            for shape in (group.shape, alike)
        )
        assert taken <= lost
        return group.shape.form

    # Patches cost most where few channels are made of them, grouping where many
    # networks stand side by side.
    assert form(few, 1, accelerator=True) == "grouped"
    assert form(few, 64, accelerator=True) == "im2col"
    assert form(many, 1, accelerator=True) == "im2col"
    assert form(few, 64) is None
    # What the form takes is not counted among the other products too.
    shape = shapes.Exact(2, many, 64)
    whole, rest = (
        costs.demand(one, WORK, cost.cache_bytes)[1]
        for one in (shape, shape._replace(form="grouped"))
    )
    convolutions = 2 * 64 * 9 * 64 * (3 * 128 + 2 * 128 * 128)
    assert whole - rest == 6 * convolutions
    # Nobody has measured: XLA's own.
    (group,) = plan.make([(many, 64)] * 8, WORK._replace(accelerator=True))
    assert group.shape.form == "grouped"


def test_patches_are_in_the_memory_of_a_program_and_are_split_to_fit():
    network = CNN((8, 8, 3), (16, 16), 10)
    work = WORK._replace(accelerator=True)
    grouped, patches = (
        costs.needed_bytes(shapes.Exact(8, network, 512, form), work)
        for form in ("grouped", "im2col")
    )
    assert patches - grouped == 8 * 512 * 2 * 9 * 64 * (3 + 16)
    cost = costs.CostModel(beside_flops_per_second=1.0)
    nets = [(network, 512)] * 8
    for memory, lanes in ((patches, 8), (patches - 1, 4)):
        (group,) = plan.make(nets, work._replace(memory_bytes=memory), cost=cost)
        assert (group.shape.form, group.shape.lanes) == ("im2col", lanes)
    one = [
        costs.needed_bytes(shapes.Exact(1, network, 512, form), work)
        for form in plan.FORMS
    ]
    between = work._replace(memory_bytes=statistics.mean(one))
    (group,) = plan.make([(network, 512)], between, cost=cost)
    assert group.shape.form == "grouped"


def test_a_plan_is_deterministic():
    nets = [(MLP(784, (20 + 7 * i,), 10), 128) for i in range(20)]
    assert plan.make(nets, WORK) == plan.make(nets, WORK)


def test_devices_take_the_chunks_of_a_program_at_a_time():
    shape, cost = shapes.Padded(4, (64,), 128), costs.CostModel()
    alone = costs.run_seconds(shape, 4, WORK, cost)
    for devices, passes in ((1, 5), (2, 3), (4, 2), (8, 1)):
        work = WORK._replace(devices=devices)
        assert costs.run_seconds(shape, 17, work, cost) == pytest.approx(passes * alone)
        group = plan.Group(shape, tuple(range(17)))
        wall = plan.wall_seconds([group], [shape], work, cost._replace(workers=1))
        assert wall == pytest.approx(passes * alone)


def test_a_program_runs_once_for_each_chunk_of_its_networks():
    group = plan.Group(shapes.Padded(2, (64,), 128), (5, 6, 7, 9, 8))
    assert plan.chunks(group) == [(5, 6), (7, 9), (8,)]


WEIGHTS = 784 * 32 + 32 * 10
PARAMETERS = WEIGHTS + 32 + 10


def test_a_step_takes_what_a_hand_counts_in_the_cache_and_beyond():
    shape = shapes.Padded(2, (32,), 100)
    state, moved = 16 * 2 * PARAMETERS, 40 * 2 * PARAMETERS
    flops, rows = 6 * 2 * PARAMETERS * 100, 24 * 100 * 784
    for cache_bytes, slow in ((2 * state, 0.0), (state / 4, 0.75), (0.0, 1.0)):
        assert costs.demand(shape, WORK, cache_bytes) == pytest.approx(
            (1, flops, (1 - slow) * moved + rows, slow * moved)
        )


def test_convolutions_compute_on_every_pixel_and_move_what_lies_between_layers():
    network = CNN((4, 6, 3), (8, 16), 5, downsampling=("pool", ""))
    edges = (9 * 3 * 8, 9 * 8 * 16, 16 * 5)
    useful = 4 * 6 * edges[0] + 2 * 3 * edges[1] + edges[2]
    shape = shapes.Exact(2, network, 32)
    assert costs.useful_multiply_adds(network) == useful
    parameters = sum(edges) + 8 + 16 + 5
    numbers = 2 * (4 * 6 * 8 + 2 * 3 * 16)
    _, flops, near, far = costs.demand(shape, WORK, 1e9)
    assert flops == 6 * 2 * useful * 32
    assert near == 40 * 2 * parameters + 24 * 32 * 784
    assert far == 40 * 2 * 32 * numbers
    # Validation keeps the larger layer of many rows.
    assert costs.needed_bytes(shape, WORK) == 2 * (
        28 * parameters + 8 * feed.EVALUATION_BATCH * 2 * 4 * 6 * 8
    )


@pytest.mark.parametrize("lanes", [1, 3])
def test_convolutions_side_by_side_cost_more_for_each_beside_them(lanes):
    flops = 6 * 50 * lanes * 32
    for form, other in (
        ("grouped", flops * (lanes - 1)),
        ("im2col", 2 * 7 * lanes * 32),
    ):
        assert costs.convolution_demand(form, 50, 7, lanes, 32) == (flops, other)


def test_an_epoch_is_its_whole_batches_and_at_least_one():
    cost = costs.CostModel(1.0, 3.0, 1e5, 1e6, 1e5, 1e9)
    shape = shapes.Padded(2, (32,), 100)
    flops, near = 6 * 2 * PARAMETERS * 100, 40 * 2 * PARAMETERS + 24 * 100 * 784
    step = 3 + flops / 1e5 + near / 1e6
    for rows, steps in ((60, 1), (299, 2), (300, 3)):
        work = WORK._replace(rows=rows, epochs=5)
        assert costs.run_seconds(shape, 3, work, cost) == pytest.approx(
            2 * 5 * steps * step
        )


@pytest.mark.parametrize("batch_size", [100, 5000])
def test_a_program_needs_room_for_its_state_and_for_the_larger_of_step_and_validation(
    batch_size,
):
    step = 8 * batch_size * (784 + 32 + 10)
    validation = 8 * feed.EVALUATION_BATCH * 784
    assert (step > validation) == (batch_size == 5000)
    shape = shapes.Padded(4, (32,), batch_size)
    assert costs.needed_bytes(shape, WORK) == 4 * (
        28 * PARAMETERS + max(step, validation)
    )


def test_convolutions_and_sparse_junctions_take_longer_to_compile():
    cost = costs.CostModel(compile_seconds=2.0)
    dense = shapes.Exact(1, MLP(784, (64,), 10), 128)
    sparse = shapes.Exact(1, MLP(784, (64,), 10, sparsity=(Sparsity(0.25), None)), 128)
    small, large = (
        shapes.Exact(1, CNN((8, 8, 3), (8,) * depth, 10), 128) for depth in (2, 4)
    )
    seconds = [
        costs.compile_seconds(one, cost)
        for one in (shapes.Padded(4, (64,), 128), dense, sparse, small, large)
    ]
    assert seconds[0] == seconds[1] == 2.0 < seconds[2]
    assert 2.0 < seconds[3] < seconds[4]
    group = plan.Group(sparse, (0,))
    assert plan.total_seconds([group], (), WORK, cost) - plan.total_seconds(
        [group], [sparse], WORK, cost
    ) == pytest.approx(seconds[2])


def test_a_program_is_named_by_where_it_drops_nodes_and_by_no_rate():
    def name(*rates):
        cnn = CNN((8, 8, 1), (4, 4, 4), 10, dropout=rates)
        return str(shapes.Exact(2, network.structure(cnn), 32))

    assert name(0.1, 0.2, 0.3) == "2 x 8x8x1-4-4-4-10 relu with dropout, batch 32"
    assert name(0.1, 0.0, 0.3) == (
        "2 x 8x8x1-4-4-4-10 relu with dropout after layer 1/3, batch 32"
    )
    assert name(0.0, 0.0, 0.0) == name() == "2 x 8x8x1-4-4-4-10 relu, batch 32"
    mlp = network.structure(MLP(64, (8,), 10, "elu", dropout=0.1))
    assert shapes.sizes(shapes.Exact(1, mlp, 32)) == "64-8-10 elu with dropout"


one = functools.partial(job, 0, (8,), stop=1, batch_size=16)


def test_jobs_of_several_lengths_are_planned_by_length_the_longest_first():
    jobs = [one(), one(stop=9), one(), one(stop=9, batch_size=10**6)]
    epochs = []

    def workload(planned):
        epochs.append(planned)
        return WORK._replace(inputs=6, outputs=4, rows=160, epochs=planned)

    planned = set()
    spans = grouping.plan_spans(jobs, workload, planned, costs.CostModel())
    assert [span for span, _ in spans] == [9, 1] == epochs
    members = [sorted(i for g in groups for i in g.members) for _, groups in spans]
    assert members == [[1, 3], [0, 2]]
    assert planned == {group.shape for _, groups in spans for group in groups}
    # A batch of more rows than there are is a batch of all.
    assert {shape.batch_size for shape in planned} == {16, 160}


def test_only_jobs_that_are_equally_far_go_on_together():
    def at(epochs, start=0):
        return Progress(start, None, (0.5,) * epochs, (0.5,) * epochs, 1.0)

    longer = one(stop=9)
    far, further, other = (
        longer._replace(progress=at(*place)) for place in ((2,), (3,), (2, 1))
    )
    assert grouping.common_progress([far, far]) == [at(2), at(2)]
    for jobs in ([far, further], [far, longer], [other]):
        assert grouping.common_progress(jobs) == []
    group = plan.Group(shapes.Padded(1, (16,), 16), (0, 1, 2))
    assert grouping.rounds(group, [far, further, further], 2) == [[(1,), (2,)], [(0,)]]


def test_a_compiled_program_is_no_use_to_other_batches_or_wider_networks():
    nets = [(MLP(784, (100, 100), 10), 128)]
    ready = [
        shapes.Padded(1, (112, 112), 64),
        shapes.Padded(1, (112, 96), 128),
    ]
    (group,) = plan.make(nets, WORK, ready)
    assert group.shape == shapes.Padded(1, (112, 112), 128)


def test_the_longest_program_is_the_first():
    nets = [(MLP(784, (16,), 10), 128), (MLP(784, (400, 400), 10), 128)]
    groups = plan.make(nets, WORK)
    assert [group.members for group in groups] == [(1,), (0,)]


def test_sparse_networks_run_one_by_one_on_an_accelerator_too():
    sparse = MLP(784, (64,), 10, sparsity=(Sparsity(0.25), None))
    (group,) = plan.make([(sparse, 128)] * 8, WORK._replace(accelerator=True))
    assert group.shape.lanes == 1
