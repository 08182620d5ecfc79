"""Malformed flags, configs and data files, and what the launch files make of them.

Every attempt runs in a fork of this process, up to the moment when training would
begin. The corpus holds what people do; `random_inputs` draws what they do not.

  python -m experiments.benchmarks.bad_inputs [RANDOM_INPUTS [EVERY]]
"""

import io
import json
import os
import pathlib
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import hypothesis
import numpy as np
from hypothesis import strategies as st

from dnc_jax.training import data, population, trainer
from experiments import launch, search, train
from experiments.configs import digits, sparse_mnist

LAUNCH = {"search": (search.main, "digits"), "train": (train.main, "sparse_mnist")}


class Attempt(NamedTuple):
    """What a launch file made of an input.

    Attributes:
      code: exit code; 0 where training would have begun.
      error: standard error.
      written: names of what is in the work folder.
    """

    code: int
    error: str
    written: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Accepted, or refused in one line with nothing written."""
        if self.code == 0:
            return True
        *before, last = self.error.splitlines() or [""]
        traced = any(line.startswith("Traceback") for line in before)
        refused = self.code == 2 and last.startswith("error: ") and not traced
        return refused and not self.written


def attempt(arguments: list[str], module: str = "search") -> Attempt:
    """Runs a launch file on `arguments`, in a work folder that is not there yet."""
    with tempfile.TemporaryDirectory() as temporary:
        workdir = pathlib.Path(temporary) / "work"
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            _launch([module, f"--workdir={workdir}", *arguments], module, write)
        os.close(write)
        with os.fdopen(read, errors="replace") as output:
            error = output.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        written = tuple(sorted(p.name for p in workdir.glob("*")))
        return Attempt(code, error, written or ("work",) * workdir.exists())


def _launch(argv: list[str], module: str, error: int) -> None:
    """The child: never returns, and leaves training out."""
    code = 1
    try:
        os.dup2(error, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = argv

        def accepted(*arguments: Any, **options: Any) -> None:
            sys.exit(0)

        population.train = trainer.train = accepted
        main, config = LAUNCH[module]
        launch.run(main, default_config=config, on_interrupt="")
    except SystemExit as leave:
        code = (
            leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        )
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


# Flags that nothing should be made of; {} is a folder with the files below.
FLAGS = """
--nonsense | --config | --config= | --config=missing.py | --config=/ | --workdir
--config=/etc/passwd | stray | --config.seed= | --config.seed=one | --config.seed=1.5
--config.seed=-1 | --config.seed=99999999999999999999 | --config.sede=1 | --config.=1
--config.data=digits | --config.data.name= | --config.data.name=nist | --seed=1
--config.data.name=../digits | --config.data.name=/dev/null | --config.data.dir=/nowhere
--config.data.name=mnist --config.data.dir=/dev/null | --config.data.name=.csv
--config.data.name=.npz | --config.data.nome=x | --config.data.task=clustering
--config.data.task=regression --config.objective.performance=accuracy
--config.data.channels=middle | --config.data.channels=first | --config.data.test=x.csv
--config.data.target=y | --config.data.validation_fraction=0
--config.data.validation_fraction=1 | --config.data.validation_fraction=-0.2
--config.data.validation_fraction=nan | --config.data.validation_fraction=0.999
--config.data.validation_fraction=half | --config.space=small
--config.space.width=(30,20)
--config.space.width=(0,10) | --config.space.width=(1.5,3.5) | --config.space.width=20
--config.space.width=(20,) | --config.space.width=() | --config.space.width=(1,2,3)
--config.space.width=('a','b') | --config.space.width=import\u0020os
--config.space.width=__import__('os').mkdir('pwned') | --config.space.depth=(-1,2)
--config.space.depth=(3,1) | --config.space.activations=()
--config.space.activations=relu
--config.space.activations=('step',) | --config.space.activations=(1,2)
--config.space.dropout=(0,1) | --config.space.dropout=(-0.1,0.5)
--config.space.dropout=(0.5,0.1) | --config.space.learning_rate=(0,1)
--config.space.learning_rate=(1e-1,1e-3) | --config.space.learning_rate=('x','y')
--config.space.learning_rate=(1e-3,) | --config.space.learning_rate=(1e-3,1e999)
--config.space.weight_decay=(-1e-3,1e-3) | --config.space.batch_sizes=()
--config.space.batch_sizes=(0,) | --config.space.batch_sizes=(-32,)
--config.space.batch_sizes=(1.5,) | --config.space.batch_sizes=('big',)
--config.objective.performance=auc | --config.objective.performance=mse
--config.objective.w_c=-1 | --config.objective.w_c=nan | --config.objective.w_c=inf
--config.objective.w_c=much | --config.objective.w_c=(1,2) | --config.objective.flops=-1
--config.objective.parameters=nan | --config.search.candidates=0
--config.search.candidates=-5 | --config.search.candidates=many
--config.search.candidates=1e3 | --config.search.rungs=(3,1) | --config.search.rungs=()
--config.search.rungs=(0,3) | --config.search.rungs=3 | --config.search.rungs=(1,'two')
--config.search.rungs=(1.5,3) | --config.search.reduction=1
--config.search.reduction=0
--config.search.reduction=x | --config.search.brackets=0 | --config.search.brackets=-1
--config.budget.seconds=-5 | --config.budget.seconds=nan | --config.budget.seconds=soon
--config.train.epochs=0 | --config.train.epochs=-3 | --config.train.epochs=2.5
--config.train.refit=perhaps | --fork=/nowhere | --fork={} | --fork=/dev/null
--config.data.name={}/torn.npz | --config.data.name={}/text.npz
--config.data.name={}/empty.npz | --config.data.name={}/pickle.npz
--config.data.name={}/raw_pickle.npz | --config.data.name={}/header.npz
--config.data.name={}/two.npz | --config.data.name={}/scalar.npz
--config.data.name={}/nan.npz | --config.data.name={}/inf.npz
--config.data.name={}/strings.npz | --config.data.name={}/lengths.npz
--config.data.name={}/one_class.npz | --config.data.name={}/unseen.npz
--config.data.name={}/complex.npz | --config.data.name={}/no_rows.npz
--config.data.name={}/no_features.npz | --config.data.name={}/single_rows.npz
--config.data.name={}/shapes.npz | --config.data.name={}/flat.npz
--config.data.name={}/encrypted.npz | --config.data.name={}/method.npz
--config.data.name={}/folder.npz | --config.data.name={}/missing.npz
--config.data.name={}/empty.csv | --config.data.name={}/header.csv
--config.data.name={}/ragged.csv | --config.data.name={}/names.csv
--config.data.name={}/one_column.csv | --config.data.name={}/binary.csv
--config.data.name={}/quotes.csv | --config.data.name={}/nan.csv
--config.data.name={}/twice.csv | --config.data.name={}/folder.csv
--config.data.name={}/blank.csv | --config.data.name={}/good.csv --config.data.target=z
--config.data.name={}/good.csv --config.data.test={}/ragged.csv
--config.data.name={}/good.csv --config.data.test=missing.csv
--config={}/syntax.py | --config={}/raises.py | --config={}/nothing.py
--config={}/number.py | --config={}/arguments.py | --config={}/empty.py
--config={}/imports.py | --config={}/binary.py
--config={}/lacks.py | --config={}/more.py | --config={}/types.py | --config={}/none.py
--config={}/nested.py | --config={} | --config={}/good.csv | --workdir={}/good.csv
--workdir={}/good.csv/below | --workdir=/proc/nothing/here | --workdir=/dev/null
"""
TRAIN_FLAGS = """
--config.network.hidden=(0,) | --config.network.hidden=(64,) | --config.train.epochs=0
--config.network.densities=(0.1,1.0) | --config.network.densities=(0,0.125,1)
--config.network.densities=(2,0.125,1) | --config.network.activation=step
--config.network.families=('ring','random','random') | --config.network.dropout=1
--config.network.block_outputs=(7,64,1) | --config.network.block_inputs=(0,64,1)
--config.train.batch_size=0 | --config.train.learning_rate=-1
--config.train.learning_rate=nan | --config.train.weight_decay=-1 | --config.twin=maybe
"""
_FULL = "from experiments.configs import digits\n\ndef get_config():\n"
CONFIGS = {
    "syntax": "def get_config(:\n",
    "raises": "def get_config():\n    raise RuntimeError('no')\n",
    "nothing": "config = 1\n",
    "number": "def get_config():\n    return 7\n",
    "none": "def get_config():\n    pass\n",
    "arguments": "def get_config(a, b):\n    return None\n",
    "empty": "import ml_collections\nget_config = ml_collections.ConfigDict\n",
    "imports": "import no_such_module\n",
    "binary": "\x00\x01\x02",
    "lacks": _FULL + "    c = digits.get_config()\n    del c.search\n    return c\n",
    "more": _FULL
    + "    c = digits.get_config()\n    c.space.colour = 3\n    return c\n",
    "types": _FULL
    + "    c = digits.get_config()\n    with c.ignore_type():\n"
    + "        c.search = [1, 2]\n    return c\n",
    "nested": _FULL + "    c = digits.get_config()\n    with c.ignore_type():\n"
    "        c.seed = c.copy_and_resolve_references()\n    return c\n",
}
CSV = {
    "empty": b"",
    "blank": b"\n\n\n",
    "header": b"a,b,y\n",
    "ragged": b"a,b,y\n1,2,0\n3,1\n",
    "names": b"a,b,y\n1,red,0\n3,blue,1\n",
    "one_column": b"y\n0\n1\n0\n1\n",
    "binary": bytes(range(256)) * 8,
    "quotes": b'a,y\n"1,0\n2,1\n',
    "nan": b"a,y\nnan,0\n1,1\n2,0\n3,1\n",
    "twice": b"a,a,a\n1,2,0\n2,1,1\n1,2,0\n2,1,1\n",
    "good": b"a,b,y\n" + b"1,2,0\n3,1,1\n2,2,0\n1,1,1\n" * 5,
}


class _Planted:
    """Leaves a trace where it is unpickled."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def plant(folder: pathlib.Path) -> None:
    """Writes the files that the corpus names into `folder`."""
    for name, text in CONFIGS.items():
        (folder / f"{name}.py").write_text(text)
    for name, content in CSV.items():
        (folder / f"{name}.csv").write_bytes(content)
    (folder / "folder.npz").mkdir()
    (folder / "folder.csv").mkdir()
    rng = np.random.default_rng(0)
    good = {
        "xtr": rng.normal(size=(40, 3)),
        "ytr": np.arange(40) % 4,
        "xte": rng.normal(size=(8, 3)),
        "yte": np.arange(8) % 4,
    }
    planted = np.full(40, _Planted(folder / "pwned"), object)
    for name, changes in {
        "two": {"xtr": None, "ytr": None},
        "pickle": {"ytr": planted},
        "scalar": {"xtr": np.float64(3)},
        "nan": {"xtr": np.full((40, 3), np.nan)},
        "inf": {"xte": np.full((8, 3), np.inf)},
        "strings": {"xtr": np.full((40, 3), "a")},
        "lengths": {"ytr": np.arange(39) % 4},
        "one_class": {"ytr": np.zeros(40, int), "yte": np.zeros(8, int)},
        "unseen": {"yte": np.arange(8)},
        "complex": {"xtr": np.ones((40, 3), complex)},
        "no_rows": {"xtr": np.ones((0, 3)), "ytr": np.zeros(0, int)},
        "no_features": {"xtr": np.ones((40, 0)), "xte": np.ones((8, 0))},
        "single_rows": {"ytr": np.arange(40), "yte": np.arange(8)},
        "shapes": {"xte": np.ones((8, 4))},
        "flat": {"xtr": np.ones(40), "xte": np.ones(8), "ytr": np.ones((40, 2, 2))},
    }.items():
        arrays = {k: v for k, v in {**good, **changes}.items() if v is not None}
        np.savez(folder / f"{name}.npz", **arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **good)
    content = buffer.getvalue()
    (folder / "torn.npz").write_bytes(content[: len(content) // 2])
    (folder / "text.npz").write_text("x,y\n1,2\n")
    (folder / "empty.npz").write_bytes(b"")
    (folder / "raw_pickle.npz").write_bytes(pickle.dumps(_Planted(folder / "pwned")))
    (folder / "header.npz").write_bytes(
        content.replace(b"'shape': (40,", b"'shape': (4e,")
    )
    # In the central directory: a flag that says encrypted, an unknown compression.
    entry = b"PK\x01\x02"
    for name, at, value in (("encrypted", 8, 1), ("method", 10, 77)):
        head, *entries = content.split(entry)
        entries = [e[: at - 4] + bytes([value]) + e[at - 3 :] for e in entries]
        (folder / f"{name}.npz").write_bytes(entry.join([head, *entries]))


def corpus(
    folder: pathlib.Path, every: int = 1
) -> Iterator[tuple[str, list[str], Attempt]]:
    """Module, arguments and outcome of entries; the files lie in `folder`.

    Args:
      folder: an empty one.
      every: one in so many entries, each kind of them in turn.
    """
    plant(folder)
    for module, flags in (("search", FLAGS), ("train", TRAIN_FLAGS)):
        data = ["--config.data.name=digits"] if module == "train" else []
        lines = flags.replace("{}", str(folder)).replace("\n", " | ").split(" | ")
        for line in lines[::every]:
            if arguments := line.split():
                yield module, arguments, attempt(data + arguments, module)


def _fields(tree: Any, prefix: str = "--config.") -> Iterator[str]:
    for name, value in tree.items():
        if hasattr(value, "items"):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name


_numbers = st.integers(-5, 5) | st.floats() | st.integers()
_values = (
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
    | _numbers.map(str)
    | st.lists(_numbers | st.text("abc", max_size=3), max_size=4).map(tuple).map(str)
    | st.sampled_from(["None", "True", "{}", "[]", "()", "((),)", "0x10", "1e400"])
)


def _overrides(fields: list[str], count: int) -> list[list[str]]:
    """Random flags, the same ones every time."""
    pairs = st.tuples(st.sampled_from(fields), _values)
    drawn: list[list[str]] = []

    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(st.lists(pairs, min_size=1, max_size=3))
    def draw(overrides: list[tuple[str, str]]) -> None:
        drawn.append([f"{field}={value}" for field, value in overrides])

    draw()
    return drawn


def random_inputs(count: int) -> Iterator[tuple[str, list[str], Attempt]]:
    """Module, arguments and outcome of `count` random inputs to each launch file."""
    for module, config in (("search", digits), ("train", sparse_mnist)):
        fields = sorted(set(_fields(config.get_config())) - {"--config.data.name"})
        given = ["--config.data.name=digits"] if module == "train" else []
        for arguments in _overrides(fields, count):
            yield module, arguments, attempt(given + arguments, module)


def main(count: int, every: int = 1) -> dict[str, int]:
    """Prints what is not clean, for whoever repairs it, and counts."""
    total = refused = failed = 0
    data.load("digits")  # imports scikit-learn once, and not in every fork
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for inputs in (corpus(folder, every), random_inputs(count)):
            for module, arguments, outcome in inputs:
                total += 1
                refused += outcome.code == 2
                if not outcome.clean:
                    failed += 1
                    print(module, arguments, outcome.code, *outcome.written)
                    print(outcome.error)
        planted = int((folder / "pwned").exists())
    return {
        "inputs": total,
        "bad_inputs": refused,
        "bad_inputs_failed": failed,
        "pickles_run": planted,
    }


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:] or ["200"]))))
