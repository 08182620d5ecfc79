"""Parameters, FLOPs and bytes of a network, against hand counts and XLA's."""

import dataclasses

import jax
import pytest

from dnc_jax.footprint import (
    Complexity,
    complexity,
    inference_work,
    step_work,
    training_work,
)
from dnc_jax.footprint.complexity import layers
from dnc_jax.networks import CNN, MLP, Sparsity
from dnc_jax.networks.network import patterns as draw_patterns
from experiments.benchmarks.footprint import xla_flops

PLAIN_CNN = CNN((32, 32, 3), (32,) * 4, 10, downsampling=("", "pool", "", "stride"))


@pytest.mark.parametrize(
    ("network", "batch_size"),
    [
        (MLP(784, (400, 400), 10, "tanh", 0.3), 128),
        (MLP(512, (512, 512), 10), 256),
        (MLP(784, (), 10), 64),
        (PLAIN_CNN, 64),
        (dataclasses.replace(PLAIN_CNN, batch_norm=(True,) * 4, shortcuts=2), 64),
    ],
    ids=str,
)
def test_a_training_step_has_the_flops_that_xla_counts(network, batch_size):
    counted = xla_flops(network, batch_size)
    assert step_work(network, batch_size).flops == pytest.approx(counted, rel=0.03)


def test_the_flops_of_an_epoch_are_xlas_for_a_step_times_its_trips():
    network, batch_size = MLP(256, (256,), 10), 64
    one, seven = (xla_flops(network, batch_size, steps) for steps in (2, 7))
    assert one == pytest.approx(seven, rel=0.001), "XLA counts the body of a loop once"
    epoch = training_work(network, batch_size, 7 * batch_size + 5, 10, epochs=1)
    validation = 10 * complexity(network).flops_per_example
    assert epoch.flops == pytest.approx(7 * seven + validation, rel=0.03)


def test_a_sparse_training_step_has_the_flops_that_xla_counts():
    sparsity = (Sparsity(0.25, (64, 64), "structured"), None)
    network = MLP(1024, (1024,), 10, sparsity=sparsity)
    patterns = draw_patterns(jax.random.key(0), network)
    counted = xla_flops(network, 256, patterns=patterns)
    assert step_work(network, 256).flops == pytest.approx(counted, rel=0.03)


def test_an_mlp_costs_what_a_hand_counts():
    assert complexity(MLP(3, (4,), 2)) == Complexity(
        parameters=3 * 4 + 4 + 4 * 2 + 2,
        flops_per_example=2 * (3 * 4 + 4 * 2) + 4 + 2,
    )


def test_an_edge_that_is_not_there_costs_nothing():
    network = MLP(8, (16,), 2, sparsity=(Sparsity(0.25), None))
    edges = 8 * 16 // 4 + 16 * 2
    assert complexity(network) == Complexity(edges + 18, 2 * edges + 18)


# One picture of 4 x 6 pixels with 3 channels; 3 x 3 taps fall on 10 of 4 rows' 12 and
# 16 of 6 columns' 18.
IMAGE = (4, 6, 3)
CONV = 10 * 16 * 3 * 8  # multiply-adds of a first convolution to 8 channels
WEIGHTS = 9 * 3 * 8 + 8
HEAD = (8 * 5 + 5, 2 * 8 * 5 + 5)  # parameters and FLOPs to 5 classes


@pytest.mark.parametrize(
    ("fields", "parameters", "flops"),
    [
        ({}, WEIGHTS, 2 * CONV + 4 * 6 * 8 + 4 * 6 * 8),
        (
            {"batch_norm": (True,)},
            WEIGHTS + 2 * 8,
            2 * CONV + 4 * 6 * 8 + 2 * 4 * 6 * 8 + 4 * 6 * 8,
        ),
        # A stride of 2 meets 5 of 4 rows' taps and 8 of 6 columns'.
        (
            {"downsampling": ("stride",)},
            WEIGHTS,
            2 * (5 * 8 * 3 * 8) + 2 * 3 * 8 + 2 * 3 * 8,
        ),
        # A max-pool of 2 x 2 compares three times.
        (
            {"downsampling": ("pool",)},
            WEIGHTS,
            2 * CONV + 4 * 6 * 8 + 3 * 2 * 3 * 8 + 2 * 3 * 8,
        ),
        (
            {"sparsity": (Sparsity(1 / 3, family="balanced"), None)},
            WEIGHTS - 9 * 2 * 8,
            2 * CONV // 3 + 4 * 6 * 8 + 4 * 6 * 8,
        ),
    ],
    ids=["plain", "batch norm", "stride", "pool", "sparse"],
)
def test_a_convolution_costs_what_a_hand_counts(fields, parameters, flops):
    network = CNN(IMAGE, (8,), 5, **fields)
    assert complexity(network) == Complexity(parameters + HEAD[0], flops + HEAD[1])


def test_a_shortcut_costs_its_averages_and_additions():
    fields = {"downsampling": ("", "", "pool"), "shortcuts": 2}
    plain = CNN(IMAGE, (8, 8, 16), 5, downsampling=("", "", "pool"))
    extra = complexity(CNN(IMAGE, (8, 8, 16), 5, **fields)).flops_per_example
    extra -= complexity(plain).flops_per_example
    # 2 x 3 averages of 4 pixels for 8 channels, and as many additions; the 8 other
    # channels get zeros.
    assert extra == 4 * 2 * 3 * 8 + 2 * 3 * 8
    assert complexity(plain).parameters == sum(
        layer.parameters for layer in layers(plain)
    )


def test_a_shortcut_from_a_halved_image_needs_no_averages():
    pooled = {"downsampling": ("pool", "", "")}
    with_one, without = (
        complexity(CNN(IMAGE, (8, 8, 16), 5, **pooled, shortcuts=distance))
        for distance in (2, 0)
    )
    assert with_one.flops_per_example - without.flops_per_example == 2 * 3 * 8


def test_bytes_are_those_of_ten_numbers_a_parameter_and_five_an_activation():
    network = MLP(3, (4,), 2)
    parameters, activations = complexity(network).parameters, 4 + 2
    step = step_work(network, 7)
    assert step.bytes_moved == 4 * (10 * parameters + 7 * (5 * activations + 2 * 3))
    pass_ = inference_work(network, 7)
    assert pass_.bytes_moved == 4 * (parameters + 7 * (2 * activations + 3))
    assert pass_.flops == 7 * complexity(network).flops_per_example


def test_a_step_computes_each_product_three_times_but_the_first_one_twice():
    network = MLP(3, (4,), 2)
    products = 2 * (2 * 3 * 4 + 3 * 4 * 2)
    # A bias, and 5 for what follows it, by activation; 2 by input; Adam by parameter.
    each = products + (1 + 5) * (4 + 2) + 2 * 3
    adam = 17 * complexity(network).parameters
    assert step_work(network, 7).flops == 7 * each + adam


def test_what_follows_a_pool_works_on_what_the_pool_leaves():
    fields = {"batch_norm": (True,)}
    kept, numbers = 2 * 3 * 8, 4 * 6 * 8
    image = (4, 6, 3)
    (plain, _), (pooled, _) = (
        layers(CNN(image, (8,), 5, downsampling=(how,), **fields))
        for how in ("", "pool")
    )
    assert (plain.numbers, plain.kept) == (numbers, numbers)
    assert (pooled.numbers, pooled.kept) == (numbers, kept)
    steps = [
        step_work(CNN(image, (8,), 5, downsampling=(how,), **fields), 1).flops
        for how in ("", "pool")
    ]
    # A batch norm and an activation a number; then 2 a number that is scaled and
    # moved, 3 comparisons a pixel that is kept, and the mean over fewer pixels.
    less = (40 + 5 + 2) * (numbers - kept) - 3 * kept + (numbers - kept)
    assert steps[0] - steps[1] == less


def test_validation_reads_the_parameters_for_every_thousand_rows():
    network = MLP(3, (4,), 2)
    parameters = complexity(network).parameters
    none, whole, more = (
        training_work(network, 4, 4, rows, epochs=3) for rows in (0, 1000, 2500)
    )
    assert whole.flops - none.flops == 3 * inference_work(network, 1000).flops
    assert whole.bytes_moved - none.bytes_moved == (
        3 * inference_work(network, 1000).bytes_moved
    )
    assert more.bytes_moved - whole.bytes_moved == 3 * (
        inference_work(network, 2500).bytes_moved
        - inference_work(network, 1000).bytes_moved
        + 2 * 4 * parameters
    )


def test_rows_beyond_the_last_full_batch_are_not_trained_on():
    network = MLP(3, (4,), 2)
    assert training_work(network, 32, 70, 5, epochs=3) == training_work(
        network, 32, 64, 5, epochs=3
    )
    assert training_work(network, 100, 70, 5, 1) == training_work(network, 70, 70, 5, 1)


def test_what_is_no_architecture_has_no_cost():
    with pytest.raises(TypeError, match="the cost of 'mlp' is not known"):
        layers("mlp")


def test_odd_images_are_counted_as_they_are():
    """A window at the edge has fewer pixels to compare or to average."""
    plain, pooled = (
        complexity(CNN((3, 3, 1), (1,), 1, downsampling=how)).flops_per_example
        for how in ((), ("pool",))
    )
    # Of windows with 4, 2, 2 and 1 pixels, 5 comparisons; the mean is over 4 then.
    assert pooled - plain == 5 + 4 - 9
    fields = {"channels": (4, 4, 4), "outputs": 1, "downsampling": ("", "pool", "")}
    with_shortcut, without = (
        complexity(CNN((7, 7, 1), shortcuts=every, **fields)).flops_per_example
        for every in (2, 0)
    )
    # 49 pixels into 16 means, and these added, of 4 channels.
    assert with_shortcut - without == 4 * (49 + 16)
