"""An exported network, run where dnc_jax cannot be imported."""

import dataclasses
import os
import subprocess
import sys

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import InputError, exporting
from dnc_jax.networks import CNN, MLP, Sparsity
from dnc_jax.networks import network as networks
from dnc_jax.networks.activations import ACTIVATIONS
from dnc_jax.sparse import from_edges
from dnc_jax.training import Hyperparameters, checkpoints

# Runs in a folder without the package, which a blocked import makes sure of.
ALONE = """
import pathlib, sys
sys.modules["dnc_jax"] = None
import jax, numpy as np
for folder in pathlib.Path().iterdir():
    sys.path.insert(0, str(folder))
    import predict
    x = np.load(folder / "x.npy")
    np.save(folder / "flax.npy", predict.predict(x))
    program = jax.export.deserialize((folder / "model.jax_export").read_bytes())
    np.save(folder / "program.npy", program.call(x.astype(np.float32)))
    del sys.path[0], sys.modules["predict"], sys.modules["model"]
"""

# The command line, called again and again in one process: JAX is imported once.
EACH = """
import pathlib, runpy, sys
sys.path.insert(0, "")
for name in sys.argv[1:]:
    sys.argv[1:] = [name]
    try:
        runpy.run_path("predict.py", run_name="__main__")
    except SystemExit as end:
        print("refused", end)
    print("next")
"""


def network(architecture, shape, patterns=None, **about):
    key = jax.random.key(0)
    if patterns is None:
        patterns = networks.patterns(key, architecture)
    params = networks.init(key, architecture, patterns)
    params = jax.tree.map(lambda a: a + 0.01, params)  # biases that are not 0
    statistics = networks.statistics(architecture)
    statistics = jax.tree.map(
        lambda a: a + np.linspace(0.1, 0.6, a.size, dtype=np.float32), statistics
    )
    return checkpoints.Network(
        architecture,
        Hyperparameters(),
        params,
        np.array([100.0], np.float32),
        np.array([0.02], np.float32),
        shape,
        patterns,
        statistics=statistics,
        **about,
    )


def run_alone(folder, *command):
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


def irregular():
    """Each output block has another number of edges, one of them none."""
    pattern = from_edges(
        np.array([0, 1, 2, 0, 3]), np.array([0, 0, 0, 1, 3]), 16, 8, (4, 2)
    )
    architecture = MLP(16, (8,), 3, "tanh", 0.2)
    kept = Sparsity(5 / 16, (4, 2), "random")
    return dataclasses.replace(architecture, sparsity=(kept, None)), (pattern, None)


NETWORKS = {
    "logistic regression": lambda: network(MLP(16, (), 3), (4, 4, 1)),
    "dense": lambda: network(
        MLP(16, (30, 20), 3, "relu", 0.3), (4, 4, 1), labels=("a", "b'", 'c"')
    ),
    "sparse": lambda: network(
        MLP(
            16,
            (32, 24),
            3,
            "sigmoid",
            sparsity=(Sparsity(0.25), Sparsity(0.5, (8, 4)), None),
        ),
        (16,),
    ),
    "irregular": lambda: network(irregular()[0], (16,), irregular()[1]),
    "regression": lambda: network(
        MLP(16, (8,), 2), (16,), target_mean=(3.0, 40.0), target_scale=(0.5, 0.1)
    ),
    "table": lambda: network(
        MLP(2, (8,), 3), (2,), labels=(3, 7, 11), columns=("age", "size")
    ),
    "deep CNN": lambda: network(
        CNN(
            (9, 7, 1),  # odd sizes, which halving rounds up
            (4, 4, 6),
            3,
            "relu",
            downsampling=("", "pool", "stride"),
            batch_norm=(False, True, True),
            dropout=(0.1, 0.0, 0.3),
            shortcuts=2,
        ),
        (9, 7, 1),
        labels=("cat", "dog", "eel"),
    ),
    "sparse CNN": lambda: network(
        CNN(
            (6, 6, 1),
            (4, 8),
            4,
            "tanh",
            downsampling=("", "stride"),
            batch_norm=(True, True),
            sparsity=(None, Sparsity(0.25, (1, 2), "random"), Sparsity(0.5)),
        ),
        (6, 6, 1),
    ),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder of exports, each with its examples `x.npy` and what it made of them."""
    folder = tmp_path_factory.mktemp("exports")
    for name, make in NETWORKS.items():
        saved = make()
        path = exporting.export(saved, folder / name)
        rng = np.random.default_rng(0)
        np.save(path / "x.npy", rng.integers(0, 255, (7, *saved.example_shape), "u1"))
    run_alone(folder, "-P", "-c", ALONE)
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_network_gives_the_same_outputs_without_dnc_jax(exported, name):
    expected = np.asarray(jax.jit(NETWORKS[name]())(np.load(exported / name / "x.npy")))
    for made_by in ("flax", "program"):
        found = np.load(exported / name / f"{made_by}.npy")
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max(), made_by


def test_the_command_line_prints_a_label_for_each_example(exported):
    saved = NETWORKS["dense"]()
    printed = run_alone(exported / "dense", "predict.py", "x.npy").splitlines()
    best = np.asarray(saved(np.load(exported / "dense" / "x.npy"))).argmax(-1)
    assert printed == [saved.labels[i] for i in best]


def test_the_command_line_takes_a_table_by_the_names_of_its_columns(exported):
    saved, folder = NETWORKS["table"](), exported / "table"
    x = np.array([[1.0, 20.0], [4.0, 3.0], [2.5, 8.0]])
    rows = [f'{a},"note, {i}",{b}' for i, (b, a) in enumerate(x.tolist())]
    tables = {
        "new.csv": "\n".join(["size,note,age", *rows]),
        "truths.csv": "size,age\nTrue, false\n",
        "short.csv": "size,note\n1,2\n",
        "gap.csv": "size,age\n1,\n",
        "comma.csv": "size,age\n1,2,0\n",
        "text.csv": "size,age\n1,old\n",
    }
    for name, text in tables.items():
        (folder / name).write_text(text)
    printed, truths, *refused = run_alone(folder, "-c", EACH, *tables).split("next\n")
    assert printed.splitlines() == saved.predict(x).astype(str).tolist()
    assert truths.splitlines() == saved.predict([[0.0, 1.0]]).astype(str).tolist()
    assert refused == [
        "refused short.csv: there is no column 'age'\n",
        "refused gap.csv: there are empty or infinite values\n",
        "refused comma.csv: a row has more values than there are columns\n",
        "refused text.csv: could not convert string to float: 'old'\n",
        "",
    ]


def test_the_command_line_takes_examples_of_its_own_layout_alone(exported):
    folder = exported / "sparse CNN"
    x = np.load(folder / "x.npy")
    np.save(folder / "none.npy", x[:0])
    assert run_alone(folder, "-c", EACH, "none.npy") == "next\n"
    np.save(folder / "other.npy", x.reshape(len(x), 1, -1))
    with pytest.raises(subprocess.CalledProcessError) as error:
        run_alone(folder, "predict.py", "other.npy")
    message = error.value.stderr.splitlines()
    assert len(message) == 1
    assert message[0].startswith("other.npy: examples [B, ")
    assert "(7, 1, " in message[0]


def test_an_export_replaces_an_export_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    saved = NETWORKS["logistic regression"]()
    path = exporting.export(saved, tmp_path / "exported")
    assert sorted(file.name for file in path.iterdir()) == [
        "README.md",
        "model.jax_export",
        "model.py",
        "predict.py",
        "weights.safetensors",
    ]
    for name in ("exported.old", "exported.partial", "mine"):
        (tmp_path / name).mkdir()
    assert exporting.export(saved, path) == path
    assert (tmp_path / "exported.old").is_dir()
    assert (tmp_path / "exported.partial").is_dir()
    (tmp_path / "mine" / "thesis.txt").write_text("my own")
    with pytest.raises(InputError, match=r"exists and holds no model\.py"):
        exporting.export(saved, tmp_path / "mine")
    (tmp_path / "mine" / "model.py").touch()
    with pytest.raises(InputError, match=r"holds thesis\.txt too"):
        exporting.export(saved, tmp_path / "mine")


def test_every_field_of_a_network_is_known_to_the_export_and_to_the_costs():
    # A new one is to be written into exporting/ and footprint/complexity.py first.
    fields = {
        kind: {field.name for field in dataclasses.fields(kind)} for kind in (MLP, CNN)
    }
    common = {"outputs", "activation", "dropout", "sparsity"}
    assert fields[MLP] == common | {"inputs", "hidden"}
    assert fields[CNN] == common | {
        *("image", "channels", "downsampling", "batch_norm", "shortcuts"),
    }


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_the_source_of_an_activation_is_the_activation(activation):
    x = jnp.linspace(-4, 4, 81)
    exported = eval(activation.source, {"jnp": jnp, "nn": flax.linen})
    np.testing.assert_array_equal(exported(x), activation(x))
