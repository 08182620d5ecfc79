import io

from rich.console import Console

from dnc_jax.report import plots, terminal
from dnc_jax.search.strategies import Evaluation
from tests.test_search import trial


def rendered(*items, width=110):
    out = Console(file=io.StringIO(), width=width)
    for item in items:
        out.print(item)
    return out.file.getvalue()


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


def test_the_front_table_leaves_out_what_is_dominated():
    text = rendered(terminal.front_table(TRIALS))
    assert "10.00%" in text
    assert "20.00%" in text
    assert "30.00%" not in text


def test_the_pareto_figure_shows_every_candidate_and_the_front():
    figure = plots.pareto(TRIALS)
    points, line = figure.data
    assert sorted(points.x) == [100, 500, 1000]
    assert list(line.x) == [100, 1000]


def test_a_line_a_rung_is_printed_where_there_is_no_terminal():
    out = Console(file=io.StringIO(), width=110)
    with terminal.ProgressReport(out, 4) as report:
        report.on_rung_end(TRIALS, resumed=False)
        report.on_epoch([0.5] * 4)
    text = out.file.getvalue()
    assert "best score -1.000" in text
    assert "1 diverged" in text


def test_a_terminal_gets_a_bar_with_rung_best_score_and_time_left():
    out = Console(file=io.StringIO(), width=120, force_terminal=True)
    evaluation = Evaluation(0, TRIALS[0].candidate, rung=1, start=3, stop=9)
    with terminal.ProgressReport(out, 10) as report:
        report.on_rung_start([evaluation, evaluation])
        report.on_rung_end(TRIALS, resumed=False)
        report.on_epoch([0.5] * 5)
    text = out.file.getvalue()
    assert "rung 1: 2 alive, to epoch 9" in text
    assert "50%" in text
    assert "left" in text
