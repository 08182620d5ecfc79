import dataclasses
import io
import math
import pathlib

import jax
import numpy as np
import pytest
from rich.console import Console

from dnc_jax import InputError, sparse
from dnc_jax.footprint import Energy
from dnc_jax.networks import CNN, MLP, Sparsity
from dnc_jax.report import Run, page, plots, portraits, table, terminal
from dnc_jax.report.folder import Moment
from dnc_jax.search import Candidate, MLPSpace, columns
from dnc_jax.search.strategies import Evaluation
from dnc_jax.training import Hyperparameters
from dnc_jax.training.timing import EpochCost
from tests.test_search import trial


def rendered(*items, width=110):
    out = Console(file=io.StringIO(), width=width)
    for item in items:
        out.print(item)
    return out.file.getvalue()


ADAM = Hyperparameters()
TRIALS = [
    trial(0, accuracy=0.9, parameters=1000),
    trial(1, accuracy=0.8, parameters=100),
    trial(2, accuracy=0.7, parameters=500),
    trial(3, accuracy=0.95, parameters=50, status="diverged"),
]


def test_the_best_table_has_the_best_first_and_no_diverged_one():
    text = rendered(terminal.best_table(TRIALS, 2))
    assert "Best 2 of 3" in text
    assert text.index("90.00%") < text.index("80.00%")
    assert "70.00%" not in text
    assert "95.00%" not in text


@pytest.mark.parametrize("width", [80, 110])
def test_no_number_of_a_table_is_cut_and_no_name_of_a_network(width):
    cnn = CNN((16, 16, 3), (16, 16, 24, 40, 64, 64), 10, "leaky_relu", shortcuts=2)
    candidate = Candidate(cnn, Hyperparameters(0.00123456, 0.000123456, 512))
    one = dataclasses.replace(TRIALS[0], candidate=candidate)
    tables = (
        terminal.best_table([one], 1, "macro F1", "loss", width),
        terminal.front_table([one], "macro F1"),
    )
    for drawn in tables:
        lines = rendered(drawn, width=width).splitlines()
        assert max(map(len, lines)) <= width
        cells = [line.split("│") for line in lines if "│" in line]
        assert str(cnn).replace(" ", "") in "".join(
            cell[1 if drawn is tables[0] else -2].replace(" ", "") for cell in cells
        )
        assert not any("…" in line for line in lines)
    text = rendered(tables[0], width=width)
    assert ("0.00123 " in text) == (width == 110)
    assert "loss" in text
    assert "1 - validation macro F1" in rendered(tables[1], width=width)


def test_r2_is_no_percentage():
    assert "0.1000" in rendered(terminal.front_table(TRIALS[:1], "R²"))
    run = Run(TRIALS[:1], metric="R²")
    for figure in (plots.pareto(run), plots.learning_curves(run)):
        assert figure.layout.yaxis.title.text == "1 - validation R²"
        assert figure.data[0].y[0] == pytest.approx(0.1)
        assert "} %" not in figure.data[0].hovertemplate
    axis = plots.parallel_coordinates(run).data[0].dimensions[-1]
    assert axis.label == "1 - val. R²"
    assert axis.values[0] == pytest.approx(-1)
    curves = {k: [0.5, 0.4] for k in ("train_loss", "val_loss", "val_accuracy")}
    assert portraits.history(curves, "R²").layout.yaxis2.tickformat == "~g"
    written = page.render(run)
    assert "<td>0.1000</td>" in written
    assert '"0.9000", "-1.000"' in written
    assert 'data-format="~g"' in written
    assert "10.00%" in page.render(Run(TRIALS[:1]))
    shares = plots.pareto(Run(TRIALS[:1], metric="macro F1"))
    assert shares.layout.yaxis.title.text == "1 - validation macro F1 (%)"
    assert shares.data[0].y[0] == pytest.approx(10)
    own = plots.pareto(Run(TRIALS[:1], metric="negative <MAE>"))
    assert own.layout.yaxis.title.text == "1 - validation negative &lt;MAE&gt;"


def test_the_front_table_leaves_out_what_is_dominated():
    text = rendered(terminal.front_table(TRIALS))
    assert "10.00%" in text
    assert "20.00%" in text
    assert "30.00%" not in text


def test_the_pareto_figure_shows_every_candidate_and_the_front():
    *points, front = plots.pareto(Run(TRIALS)).data
    assert sorted(x for trace in points for x in trace.x) == [100, 500, 1000]
    assert list(front.x) == [100, 1000]
    assert list(front.customdata) == [1, 0]


def test_what_no_axis_can_show_is_refused_by_name():
    for name, titles in (("cost", plots.COSTS), ("by", plots.CLOCKS)):
        with pytest.raises(InputError, match=f"{name} must be .* flops.*, got 'watts'"):
            plots._known(name, "watts", titles)


def test_dense_and_sparse_candidates_have_symbols_of_their_own():
    sparse = Candidate(MLP(4, (4,), 2, sparsity=(Sparsity(0.5), None)), ADAM)
    one = dataclasses.replace(TRIALS[0], candidate_id=9, candidate=sparse)
    names = {
        trace.name: trace.marker.symbol
        for trace in plots.pareto(Run([*TRIALS, one])).data[:-1]
    }
    assert names == {"1 epoch": "circle", "sparse, 1 epoch": "diamond"}


def test_joules_are_a_cost_of_those_trials_that_have_them():
    known = [
        dataclasses.replace(TRIALS[0], joules=2.0, epoch_cost=EpochCost(joules=0.5)),
        dataclasses.replace(TRIALS[1], joules=4.0),
        dataclasses.replace(
            TRIALS[0], rung=1, epochs=3, joules=6.0, epoch_cost=EpochCost(joules=0.5)
        ),
        TRIALS[2],
    ]
    assert plots.costs(Run(TRIALS)) == ["parameters", "flops_per_example"]
    assert plots.costs(Run(known)) == list(plots.COSTS)
    *points, _ = plots.pareto(Run(known), "joules").data
    # The longer training costs what all its rungs took.
    assert sorted(x for trace in points for x in trace.x) == [4.0, 8.0]
    *points, front = plots.pareto(Run(known), "epoch_joules").data
    assert [x for trace in points for x in trace.x] == [0.5]
    assert list(front.x) == [0.5]


def test_a_perfect_score_has_a_place_on_the_log_axis():
    perfect = trial(7, accuracy=1.0, score=-9.0)
    points, _ = plots.pareto(Run([*TRIALS, perfect])).data
    assert min(points.y) == pytest.approx(5)  # half the least error, 10 %
    assert ["no error" in text for text in points.text].count(True) == 1
    run = Run(TRIALS)
    summary = {"best": TRIALS[0].candidate.to_json(), "best_val_accuracy": 0.99}
    star = plots.pareto(run, summary=summary | {"parameters": 500}).data[-1]
    assert star.y[0] == pytest.approx(1)  # better than any trial


def test_what_is_permuted_and_does_not_matter_has_no_importance():
    rng = np.random.default_rng(0)
    trials = []
    for number in range(60):
        rate = float(10 ** rng.uniform(-4, -1))
        training = Hyperparameters(rate, batch_size=int(rng.choice([32, 64])))
        candidate = Candidate(MLP(4, (3,), 2), training)
        score = abs(np.log10(rate) + 2.5)
        trials.append(
            dataclasses.replace(trial(number, score=score), candidate=candidate)
        )
    (bars,) = plots.importance(Run(trials)).data
    found = dict(zip(bars.y, bars.x, strict=True))
    assert list(bars.y)[-1] == "learning rate"
    assert found["learning rate"] > 1
    assert abs(found["batch size"]) < 0.1


def test_importance_says_what_it_lacks():
    figure = plots.importance(Run(TRIALS))
    assert not figure.data
    assert "needs 12 candidates" in figure.layout.title.text


def test_the_best_score_so_far_never_rises():
    moments = [
        Moment(((1, 0),), 1.0, None, 10),
        Moment(((2, 0),), 2.0, None, 20),
        Moment(((0, 0), (3, 0)), 3.0, None, 30),
    ]
    run = Run(TRIALS, timeline=moments)
    (line,) = plots.best_over_time(run).data
    assert list(line.x) == [1.0, 2.0, 3.0]
    assert list(line.y) == [TRIALS[1].score, TRIALS[1].score, TRIALS[0].score]
    (line,) = plots.best_over_time(run, "joules").data
    assert not line.x


def test_a_curve_is_drawn_once_for_each_candidate():
    longer = dataclasses.replace(
        TRIALS[0], rung=1, epochs=3, val_accuracy=(0.5, 0.8, 0.9)
    )
    lines = plots.learning_curves(Run([*TRIALS, longer])).data
    assert [line.name for line in lines] == [
        "3 stopped after 1 epoch",
        "1 stopped after 3 epochs",
    ]
    assert lines[1].x == (1, 2, 3, None)


def test_parallel_coordinates_have_an_axis_for_each_thing_that_varies():
    candidates = MLPSpace(4, 2).sample(jax.random.key(0), 20)
    trials = [
        dataclasses.replace(trial(i), candidate=one) for i, one in enumerate(candidates)
    ]
    (lines,) = plots.parallel_coordinates(Run(trials)).data
    labels = [axis.label for axis in lines.dimensions]
    assert labels[:2] == ["learning rate", "weight decay"]
    assert labels[-1] == "val. error (%)"
    assert "inputs" not in labels
    assert all(len(axis.values) == 20 for axis in lines.dimensions)


def test_columns_of_trials_are_equally_long_and_miss_what_is_not_there():
    other = dataclasses.replace(
        TRIALS[1], candidate=Candidate(MLP(3, (4, 5), 2), Hyperparameters())
    )
    columns = table([TRIALS[0], other])
    assert {len(column) for column in columns.values()} == {2}
    assert columns["candidate.hidden_2"] == [None, 5]
    assert columns["parameters"] == [1000, 100]


def test_the_picture_of_a_pattern_keeps_its_density():
    pattern = sparse.structured(jax.random.key(0), 512, 384, density=0.125)
    (picture,) = portraits.connections(pattern).data
    assert np.mean(picture.z) == pytest.approx(0.125, abs=1e-3)
    small = sparse.structured(jax.random.key(0), 8, 4, density=0.5)
    (picture,) = portraits.connections(small).data
    np.testing.assert_array_equal(np.asarray(picture.z), small.to_dense())


def test_programs_are_stacked_by_compiling_and_running():
    account = {"compile_seconds": 1.0, "run_seconds": 2.0, "runs": 1, "networks": 2}
    compiling, running = portraits.programs({"one": account}).data
    assert (list(compiling.x), list(running.x)) == ([1.0], [2.0])


def test_a_line_a_rung_is_printed_where_there_is_no_terminal():
    out = Console(file=io.StringIO(), width=110)
    with terminal.ProgressReport(out, 4) as report:
        report.on_rung_end(TRIALS, resumed=False, flops=0)
        report.on_epoch([0.5] * 4)
    text = out.file.getvalue()
    assert "best score -1.000" in text
    assert "1 diverged" in text


def test_the_line_of_a_rung_that_was_cut_short_says_so():
    out = Console(file=io.StringIO(), width=110)
    evaluation = Evaluation(0, TRIALS[0].candidate, rung=1, start=3, stop=9)
    with terminal.ProgressReport(out, 4) as report:
        for asked in (7, 3):
            report.on_rung_start([evaluation] * asked)
            report.on_rung_end(TRIALS[:3], resumed=False, flops=0)
    cut, whole = out.file.getvalue().splitlines()
    assert "rung 1: 7 alive, to epoch 9, cut after 3 of them, best" in cut
    assert "rung 1: 3 alive, to epoch 9, best" in whole


def test_a_terminal_gets_a_bar_with_rung_best_score_and_time_left():
    out = Console(file=io.StringIO(), width=120, force_terminal=True)
    evaluation = Evaluation(0, TRIALS[0].candidate, rung=1, start=3, stop=9)
    with terminal.ProgressReport(out, 10) as report:
        report.on_rung_start([evaluation, evaluation])
        report.on_rung_end(TRIALS, resumed=False, flops=0)
        report.on_epoch([0.5] * 5)
    text = out.file.getvalue()
    assert "rung 1: 2 alive, to epoch 9" in text
    assert "50%" in text
    assert "left" in text


def test_a_rung_from_the_store_moves_the_bar_by_what_it_adds():
    out = Console(file=io.StringIO(), width=120, force_terminal=True)
    longer = dataclasses.replace(TRIALS[0], val_loss=(0.5,) * 3, rung=1)
    with terminal.ProgressReport(out, 10) as report:
        report.on_rung_end(TRIALS, resumed=True, flops=0)  # an epoch each
        report.on_rung_end([longer], resumed=True, flops=0)  # two more
        assert report._bar.tasks[0].completed == 4 + 2


def test_columns_tell_sparse_networks_of_equal_density_apart():
    kinds = [
        Sparsity(0.25, (1, 8), "balanced"),
        Sparsity(0.25, (1, 8), "windows"),
        Sparsity(0.25, (1, 1), "structured"),
    ]
    candidates = [
        Candidate(MLP(64, (32,), 10, sparsity=(kind, None)), Hyperparameters())
        for kind in kinds
    ]
    assert columns.varied(candidates) == {
        "family 1": ["balanced", "windows", "structured"],
        "block 1": ["1 x 8", "1 x 8", "1 x 1"],
    }


def test_a_diverged_trial_is_not_the_best_of_a_rung():
    out = Console(file=io.StringIO(), width=110)
    poor = trial(0, accuracy=-0.5, parameters=1000)
    with terminal.ProgressReport(out, 4) as report:
        report.on_rung_end([poor, TRIALS[3]], resumed=False, flops=0)
        report.on_rung_end(TRIALS[3:], resumed=False, flops=0)
    text = out.file.getvalue()
    assert "accuracy -50.00%, 1 diverged" in text
    assert "accuracy none, 1 diverged" in text


def test_figures_name_classes_and_metric_as_the_data_does():
    matrix = portraits.confusion_matrix([[1, 0], [0, 2]], ("cat", "<b>dog"))
    assert list(matrix.data[0].x) == ["cat", "&lt;b&gt;dog"]
    curves = {k: [0.5, 0.4] for k in ("train_loss", "val_loss", "val_accuracy")}
    drawn = portraits.history(curves, "R²")
    assert drawn.layout.yaxis2.title.text == "validation R²"
    assert [line.name for line in drawn.data][2] == "val R²"


def test_the_best_score_of_an_earlier_rung_stays_the_best():
    out = Console(file=io.StringIO(), width=110)
    with terminal.ProgressReport(out, 4) as report:
        report.on_rung_end(TRIALS[:1], resumed=False, flops=0)
        report.on_rung_end(TRIALS[1:3], resumed=False, flops=0)
    assert out.file.getvalue().count("best score -1.000") == 2


def test_a_rung_has_its_best_accuracy_and_an_infeasible_trial_has_not_diverged():
    out = Console(file=io.StringIO(), width=110)
    large = trial(4, accuracy=0.99, status="infeasible")
    with terminal.ProgressReport(out, 5) as report:
        report.on_rung_end([*TRIALS, large], resumed=False, flops=0)
    assert "accuracy 90.00%, 1 diverged" in out.file.getvalue()


def test_a_bar_does_not_count_what_another_rung_has_trained_twice():
    out = Console(file=io.StringIO(), width=120, force_terminal=True)
    longer = dataclasses.replace(TRIALS[0], val_loss=(0.5,) * 3, rung=1)
    with terminal.ProgressReport(out, 10) as report:
        report.on_rung_end(TRIALS[:1], resumed=True, flops=0)
        report.on_rung_end(TRIALS[1:], resumed=True, flops=0)
        report.on_rung_end([longer], resumed=True, flops=0)
        assert report._bar.tasks[0].completed == 4 + 2


def test_the_bar_begins_anew_with_the_winner_and_a_refit_has_no_validation():
    out = Console(file=io.StringIO(), width=120, force_terminal=True)
    with terminal.ProgressReport(out, 10) as report:
        report.on_rung_end(TRIALS, resumed=False, flops=0)
        report.on_retrain_epoch(1, 3, 0.5)
        (bar,) = report._bar.tasks
        assert (bar.completed, bar.total) == (1, 3)
        assert bar.description == "winner: epoch 1, validation 50.00%"
        report.on_retrain_epoch(1, 2, math.nan)
        assert (bar.completed, bar.total) == (1, 2)
        assert bar.description == "winner: epoch 1, with the validation rows too"


def written(**changes):
    energy = Energy(None, "unavailable", "no counter", (), 2.0, 3.0, None)
    return {
        "metric": "accuracy",
        "performance": "loss",
        "train_epochs": 9,
        "best": TRIALS[0].candidate.to_json(),
        "best_val_accuracy": 0.75,
        "best_val_loss": 0.5,
        "test_accuracy": 0.5,
        "test_loss": 0.625,
        "score": -1.0,
        "parameters": 100,
        "flops_per_example": 200,
        "candidates": 4,
        "candidate_epochs": 8,
        "search_seconds": 3.0,
        "compile_seconds": 1.0,
        "total_seconds": 5.0,
        "complete": True,
        "resumed": False,
        "energy": energy.to_json(),
        "attribution": {
            "joules": 9.0,
            "kind": "modelled",
            "trials_joules": 7.0,
            "overhead_joules": 2.0,
        },
        "emissions": None,
        "forecast": None,
    } | changes


def test_a_summary_tells_validation_from_test_and_what_ended_the_search():
    text = "\n".join(terminal.summary_lines(written()))
    assert "validation accuracy 75.00%, test accuracy 50.00%" in text
    assert "loss 0.5 and 0.625, score -1.000" in text
    assert "7 J training candidates, 2 J overhead" in text
    assert "budget" not in text
    assert "since it went on" not in text
    text = "\n".join(terminal.summary_lines(written(complete=False, resumed=True)))
    assert "since it went on" in text
    assert "the budget ended the search" in text
    text = "\n".join(terminal.summary_lines(written(performance="error")))
    assert "loss" not in text
    for inside, word in ((True, "inside"), (False, "outside")):
        forecast = {
            "seconds": {"value": 2.0, "low": 1.0, "high": 3.0},
            "seconds_inside": inside,
            "seconds_taken": 2.5,
        }
        *_, line = terminal.summary_lines(written(forecast=forecast))
        assert line == f"  forecast 2 (1 to 3) s of search, took 2.5 s: {word}"


@pytest.mark.parametrize("resumed", [True, False])
def test_sums_over_all_runs_are_named_where_there_were_several(resumed):
    out = Console(file=io.StringIO(), width=110)
    terminal.show(out, written(resumed=resumed), TRIALS, pathlib.Path("here"))
    assert ("timeline.jsonl has" in out.file.getvalue()) == resumed


def test_the_best_table_has_the_least_loss_of_all_epochs():
    one = dataclasses.replace(TRIALS[0], val_loss=(0.75, 0.25, 0.5))
    out = Console(file=io.StringIO(), width=110)
    out.print(terminal.best_table([one], performance="loss"))
    assert "0.25" in out.file.getvalue()
    assert "0.75" not in out.file.getvalue()


def test_the_best_score_so_far_is_of_what_may_win():
    light = trial(4, accuracy=0.99, status="infeasible")
    run = Run([TRIALS[0], light], timeline=[Moment(((0, 0), (4, 0)), 1.0, None, 10)])
    (line,) = plots.best_over_time(run).data
    assert list(line.y) == [TRIALS[0].score]


def test_importance_is_among_trials_of_the_length_that_most_have():
    trials = []
    for number in range(12):
        training = Hyperparameters(0.001 * (number + 1))
        candidate = Candidate(MLP(4, (3,), 2), training)
        one = dataclasses.replace(trial(number, score=number), candidate=candidate)
        trials.append(dataclasses.replace(one, epochs=3))
        if number < 5:
            trials.append(dataclasses.replace(one, epochs=1))
    figure = plots.importance(Run(trials))
    assert "12 candidates at 3 epochs" in figure.layout.title.text


def test_zero_has_a_place_below_the_least_on_a_logarithmic_axis():
    decays = (0.0, 1e-5, 1e-3)
    trials = [
        dataclasses.replace(
            TRIALS[i],
            candidate=Candidate(MLP(4, (3,), 2), Hyperparameters(weight_decay=decay)),
        )
        for i, decay in enumerate(decays)
    ]
    (lines,) = plots.parallel_coordinates(Run(trials)).data
    (axis,) = (one for one in lines.dimensions if one.label == "weight decay")
    ticks = dict(zip(axis.ticktext, axis.tickvals, strict=True))
    values = axis.values
    assert values[0] == ticks["0"] < values[1] == ticks["1e-05"] < values[2]


def test_choices_have_the_ticks_of_their_names():
    trials = [
        dataclasses.replace(
            TRIALS[i],
            candidate=Candidate(MLP(4, (3,), 2, activation=name), Hyperparameters()),
        )
        for i, name in enumerate(("tanh", "relu"))
    ]
    (lines,) = plots.parallel_coordinates(Run(trials)).data
    (axis,) = (one for one in lines.dimensions if one.label == "activation")
    names = dict(zip(axis.tickvals, axis.ticktext, strict=True))
    assert [names[value] for value in axis.values] == ["tanh", "relu"]


def test_more_rungs_than_colours_are_drawn():
    trials = [dataclasses.replace(trial(i), epochs=i + 1) for i in range(9)]
    assert len(plots.pareto(Run(trials)).data) == 9 + 1
    assert len(plots.learning_curves(Run(trials)).data) == 9


def test_the_winners_star_has_its_own_number_and_validation_error():
    summary = written(best=TRIALS[1].candidate.to_json(), parameters=7)
    other = Candidate(MLP(3, (5,), 2), ADAM)
    run = Run([dataclasses.replace(TRIALS[0], candidate=other), TRIALS[1]])
    star = plots.pareto(run, summary=summary).data[-1]
    assert (star.x, star.customdata) == ((7,), (1,))
    assert star.y == pytest.approx((25.0,))


def test_curves_of_one_epoch_are_points():
    longer = dataclasses.replace(
        TRIALS[0], rung=1, epochs=3, val_accuracy=(0.5, 0.8, 0.9)
    )
    lines = plots.learning_curves(Run([*TRIALS, longer])).data
    assert [line.mode for line in lines] == ["lines+markers", "lines"]


def test_a_table_has_the_best_of_all_epochs_and_no_infinite_score():
    one = dataclasses.replace(
        TRIALS[0],
        val_loss=(0.75, 0.25, 0.5),
        val_accuracy=(0.5, 0.75, 0.25),
        score=math.inf,
    )
    found = table([one])
    assert (found["val_loss"], found["val_accuracy"]) == ([0.25], [0.75])
    assert found["score"] == [None]
    assert one.best_val_accuracy == 0.75


def test_a_dense_junction_of_a_sparse_network_has_density_1():
    network = MLP(64, (32,), 10, sparsity=(Sparsity(0.25), None))
    found = columns.hyperparameters(Candidate(network, ADAM))
    assert (found["density 1"], found["density 2"]) == (0.25, 1.0)
