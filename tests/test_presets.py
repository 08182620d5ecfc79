"""Deep-n-Cheap's rules against the examples that its authors give."""

import pytest

from dnc_jax import InputError
from dnc_jax.networks import CNN, from_json, presets, to_json

FOUND = (46, 51, 70, 114, 128, 208, 286, 371)  # the paper's, for w_c = 0.1


def test_the_image_is_halved_before_channels_first_exceed_64_128_and_256():
    halved = presets.downsampled_layers(FOUND)
    assert [i + 1 for i, one in enumerate(halved) if one] == [2, 5, 6]
    assert not any(presets.downsampled_layers((16, 32, 64)))
    assert presets.downsampled_layers((64, 128, 256, 512)) == (True,) * 3 + (False,)
    assert not any(presets.downsampled_layers((300, 512))), "no layer before the first"


def test_a_fraction_of_the_layers_is_spread_as_late_as_possible():
    assert presets.spread(7, 0.5) == tuple(map(bool, [0, 1, 0, 1, 0, 1, 1]))
    assert presets.spread(4, 0.25) == (False, False, False, True)
    assert presets.spread(5, 1.0) == (True,) * 5
    assert presets.spread(5, 0.0) == (False,) * 5
    for layers in range(1, 17):
        for fraction in (0.25, 0.5, 0.75):
            assert sum(presets.spread(layers, fraction)) == -(-fraction * layers // 1)


def test_dropout_is_lighter_in_the_first_layer():
    assert presets.dropout_rates(4) == (0.1, 0.3, 0.3, 0.3)
    assert presets.dropout_rates(4, 0.5, first=0.2, rest=0.45) == (0, 0.45, 0, 0.45)


@pytest.mark.parametrize(
    ("layers", "distance"), [(4, 0), (8, 0), (9, 4), (14, 4), (15, 2), (16, 2)]
)
def test_deeper_networks_get_more_shortcuts(layers, distance):
    assert presets.shortcut_distance(layers) == distance


def test_the_preset_network_names_all_that_it_has():
    network = presets.preset((32, 32, 3), FOUND, 10)
    assert str(network) == (
        "32x32x3-46-51p-70-114-128p-208p-286-371-10 relu batch norm "
        "dropout 0.1/0.3/0.3/0.3/0.3/0.3/0.3/0.3"
    )
    assert from_json(to_json(network)) == network
    assert (
        network.grids == ((32, 32),) * 2 + ((16, 16),) * 3 + ((8, 8),) + ((4, 4),) * 2
    )


def test_weights_are_those_of_the_papers_networks():
    # 1,995,138 parameters with batch norm everywhere, 302,714 without any
    for channels, norms, parameters in [
        (FOUND, 2, 1_995_138),
        ((37, 67, 130, 170), 0, 302_714),
    ]:
        network = CNN((32, 32, 3), channels, 10)
        biases = sum(network.sizes[1:])
        assert sum(network.edges) + biases + norms * sum(channels) == parameters


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": ()}, "at least one convolution"),
        ({"channels": (4, 0)}, "channels must be a whole number >= 1, got 0"),
        ({"activation": "step"}, "activation must be one of relu.*'step'"),
        ({"batch_norm": (True,)}, "batch_norm describes 1 layers, .* has 3 conv"),
        ({"downsampling": ("", "half", "")}, "unknown downsampling 'half'"),
        ({"dropout": (0.1, 0.2, 1.0)}, r"dropout must lie in \[0, 1\)"),
        ({"shortcuts": 1}, "at least 2 layers apart, got 1"),
        ({"channels": (8, 4, 4), "shortcuts": 2}, "from 8 to 4 channels"),
        ({"sparsity": (None,)}, "describes 1 junctions, the network has 4"),
    ],
)
def test_an_impossible_cnn_is_refused_by_name(fields, message):
    with pytest.raises(InputError, match=message):
        CNN(**{"image": (8, 8, 3), "channels": (4, 8, 8), "outputs": 2} | fields)


def test_a_description_of_half_a_cnn_is_refused():
    with pytest.raises(InputError, match="not the description of a CNN"):
        from_json({"kind": "cnn", "outputs": 3})
