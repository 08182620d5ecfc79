"""Trials in the forms of other tools; each test needs its tool."""

import contextlib
import dataclasses
import inspect
import math
import pathlib

import jax
import numpy as np
import pytest

from dnc_jax import InputError, interchange
from dnc_jax.errors import load_tool
from dnc_jax.report import table
from dnc_jax.search import (
    Choice,
    CNNSpace,
    CustomSpace,
    Integer,
    MLPSpace,
    Objective,
    Real,
)
from dnc_jax.search.run import search
from dnc_jax.search.trials import each
from tests.test_report_page import trials_of

SPACE = MLPSpace(8, 3, width=(4, 64))
TRIALS = trials_of(SPACE.sample(jax.random.key(0), 9))


def test_a_parquet_file_holds_every_trial(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    interchange.to_parquet(TRIALS, tmp_path / "trials.parquet")
    frame = pandas.read_parquet(tmp_path / "trials.parquet")
    assert frame["score"].tolist() == table(TRIALS)["score"]
    assert frame["candidate.learning_rate"].gt(0).all()


def test_what_holds_trials_is_not_taken_for_them():
    with pytest.raises(InputError, match="got a list; those of a SearchResult"):
        list(inspect.unwrap(each)([TRIALS, 9, True]))


def test_tensorboard_gets_a_run_for_each_candidate(tmp_path):
    pytest.importorskip("tensorboardX")
    interchange.to_tensorboard(TRIALS, tmp_path)
    runs = sorted(folder.name for folder in tmp_path.iterdir())
    assert runs == [f"candidate_{i:04d}" for i in range(9)]
    assert all(any(folder.glob("events.*")) for folder in tmp_path.iterdir())


def test_tensorboard_gets_curves_by_epoch_and_scores_of_what_was_trained_to_its_end(
    tmp_path, monkeypatch
):
    writers = pytest.importorskip("tensorboardX")
    told = {}

    class Writer(contextlib.nullcontext):
        def __init__(self, folder):
            self.rows = told[pathlib.Path(folder).name] = []
            super().__init__(self)

        def add_text(self, *row):
            self.rows.append(row)

        add_scalar = add_text

    monkeypatch.setattr(writers, "SummaryWriter", Writer)
    rungs = [trial for trial in TRIALS if trial.candidate_id == 0]
    assert [trial.epochs for trial in rungs] == [1, 3, 9]
    rungs[1] = dataclasses.replace(rungs[1], status="diverged", score=math.inf)
    others = [trial for trial in TRIALS if trial.candidate_id == 1]
    interchange.to_tensorboard([*rungs, *others], tmp_path)
    assert told["candidate_0000"] == [
        ("candidate", str(rungs[0].candidate)),
        *(("val_loss", v, epoch) for epoch, v in enumerate(rungs[2].val_loss, 1)),
        *(("val_accuracy", v, i) for i, v in enumerate(rungs[2].val_accuracy, 1)),
        ("score", rungs[0].score, 1),
        ("score", rungs[2].score, 9),
    ]
    scores = [row for row in told["candidate_0001"] if row[0] == "score"]
    assert scores == [("score", trial.score, trial.epochs) for trial in others]


def test_a_study_holds_each_candidate_at_its_last_rung(tmp_path):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    interchange.to_study(TRIALS, "mine", storage)
    study = optuna.load_study(study_name="mine", storage=storage)
    assert len(study.trials) == 9
    (whole,) = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    last = max(TRIALS, key=lambda t: t.epochs)
    assert whole.value == pytest.approx(last.score)
    assert whole.user_attrs["parameters"] == last.complexity.parameters
    errors = {epoch: 1 - a for epoch, a in enumerate(last.val_accuracy, 1)}
    assert whole.intermediate_values == pytest.approx(errors)
    with pytest.raises(InputError, match="holds a study 'mine' already"):
        interchange.to_study(TRIALS, "mine", storage)


def test_what_diverged_or_exceeds_a_limit_has_failed_in_a_study():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    done, diverged, infeasible = TRIALS[:3]
    study = interchange.to_study(
        [
            done,
            dataclasses.replace(diverged, status="diverged", score=math.inf),
            dataclasses.replace(infeasible, status="infeasible"),
        ],
        "some",
    )
    states = [(one.state.name, one.value) for one in study.trials]
    assert states == [("COMPLETE", done.score), ("FAIL", None), ("FAIL", None)]


def test_what_is_true_or_false_is_a_choice_in_a_study():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    images = CNNSpace((8, 8, 1), 3, depth=(1, 2)).sample(jax.random.key(0), 6)
    study = interchange.to_study(trials_of(images, rungs=(1,)), "images")
    kinds = {
        type(kind).__name__
        for trial in study.trials
        for name, kind in trial.distributions.items()
        if name.startswith("batch norm ") and name != "batch norm count"
    }
    assert kinds == {"CategoricalDistribution"}


@pytest.mark.parametrize("storage", ["optuna.db", "sqlite:////no/such/folder/o.db"])
def test_a_storage_that_cannot_be_used_is_refused_with_an_example(storage):
    pytest.importorskip("optuna")
    with pytest.raises(
        InputError, match=r"no study can be kept in .*; a file is named"
    ):
        interchange.to_study(TRIALS, "mine", storage)


def test_a_sampler_of_optuna_finds_the_valley():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = CustomSpace({"x": Real(-4.0, 4.0), "y": Real(-4.0, 4.0)}, point)
    strategy = interchange.sampled(
        space,
        lambda seed: optuna.samplers.TPESampler(seed=seed),
        candidates=40,
        epochs=1,
    )
    state, scores = strategy.init(jax.random.key(0)), []
    while evaluations := strategy.ask(state):
        assert len(evaluations) == 8
        batch = [(e.candidate[0] - 1) ** 2 + e.candidate[1] ** 2 for e in evaluations]
        scores += batch
        state = strategy.tell(state, batch)
    assert len(scores) == 40
    assert np.mean(scores[-16:]) < np.mean(scores[:16])


def test_a_sampler_proposes_values_that_the_space_has():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dimensions = {
        "kind": Choice(("a", "b")),
        "size": Integer(10, 200, log=True, step=10),
        "count": Integer(4, 40, step=4),
        "share": Real(0.0, 1.0, when=("kind", ("b",))),
    }
    space = CustomSpace(dimensions, lambda **values: tuple(values.items()))
    strategy = interchange.sampled(
        space,
        lambda seed: optuna.samplers.RandomSampler(seed=seed),
        candidates=12,
        batch=12,
    )
    found = strategy.ask(strategy.init(jax.random.key(0)))
    for values in (dict(one.candidate) for one in found):
        assert values["size"] % 10 == values["count"] % 4 == 0
        assert ("share" in values) == (values["kind"] == "b")
        assert values.get("share", 0.5) == float(f"{values.get('share', 0.5):.3g}")


def test_a_sampler_goes_on_after_what_diverged_and_ends_with_the_last_candidate():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    strategy = interchange.sampled(
        CustomSpace({"x": Real(0.0, 1.0)}, lambda x: (x,)),
        lambda seed: optuna.samplers.RandomSampler(seed=seed),
        candidates=5,
        batch=2,
        epochs=3,
    )
    state, asked = strategy.init(jax.random.key(0)), []
    for size in (2, 2, 1):
        batch = strategy.ask(state)
        assert len(batch) == size
        asked += batch
        state = strategy.tell(state, [math.inf] * size)
    assert strategy.ask(state) == []
    assert [one.candidate_id for one in asked] == [0, 1, 2, 3, 4]
    assert len({one.candidate for one in asked}) == 5


def point(x, y):
    return (x, y)


def test_a_sampler_is_made_anew_for_each_batch():
    optuna = pytest.importorskip("optuna")
    space = CustomSpace({"x": Real(0.0, 1.0)}, lambda x: (x,))
    sampled = inspect.unwrap(interchange.sampled)
    with pytest.raises(InputError, match=r"such as lambda seed: RandomSampler\(seed="):
        sampled(space, optuna.samplers.RandomSampler())


def test_choices_that_read_alike_are_told_apart():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    values = (1, "1", (1,), "(1,)")
    strategy = interchange.sampled(
        CustomSpace({"x": Choice(values)}, lambda x: (x,)),
        lambda seed: optuna.samplers.RandomSampler(seed=seed),
        candidates=40,
        batch=40,
        epochs=1,
    )
    evaluations = strategy.ask(strategy.init(jax.random.key(0)))
    assert {repr(e.candidate[0]) for e in evaluations} == set(map(repr, values))


def test_a_search_by_a_sampler_is_the_same_for_the_same_seed(small):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = MLPSpace(6, 4, depth=(0, 1), width=(4, 8), batch_sizes=(32,))
    strategy = interchange.sampled(
        space,
        lambda seed: optuna.samplers.TPESampler(seed=seed),
        candidates=4,
        batch=2,
        epochs=1,
    )
    one, two = (
        search(space, small, Objective(), strategy, seed=3).trials for _ in range(2)
    )
    assert [t.candidate for t in one] == [t.candidate for t in two]
    assert [t.score for t in one] == [t.score for t in two]


def test_a_sampler_that_finds_nothing_allowed_is_no_search():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = Nothing({"x": Real(-4.0, 4.0)}, lambda x: x)
    strategy = interchange.sampled(
        space, lambda seed: optuna.samplers.RandomSampler(seed=seed), batch=1
    )
    with pytest.raises(InputError, match="1000 candidates and none is allowed; widen"):
        strategy.init(jax.random.key(0))


@pytest.mark.filterwarnings("ignore:QMCSampler is experimental")
@pytest.mark.parametrize("name", ["QMCSampler", "NSGAIISampler"])
def test_a_sampler_that_would_forget_what_it_was_told_is_refused(name):
    optuna = pytest.importorskip("optuna")
    sampler = getattr(optuna.samplers, name)()
    strategy = interchange.sampled(SPACE, lambda seed: sampler)
    with pytest.raises(InputError, match=f"{name} keeps .* TPESampler"):
        strategy.init(jax.random.key(0))


class Nothing(CustomSpace):
    def allows(self, candidate):
        return False


def test_a_tool_that_is_missing_is_named_with_its_extra():
    with pytest.raises(InputError, match=r"pip install 'dnc_jax\[optuna\]'"):
        load_tool("no_such_package", "optuna")
