"""report.html, opened in a real browser where there is one."""

import json
import shutil
import threading
import urllib.error
import urllib.request

import jax
import numpy as np
import pytest

from dnc_jax import InputError
from dnc_jax.footprint import Energy, carbon, complexity
from dnc_jax.networks import MLP, Sparsity, mlp
from dnc_jax.networks.patterns import patterns as draw_patterns
from dnc_jax.report import folder, live, page, read
from dnc_jax.report.folder import Moment
from dnc_jax.search import Candidate, MLPSpace, Store, Trial
from dnc_jax.search.trials import front
from dnc_jax.training import Hyperparameters, checkpoints

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NASTY = '</script><img src=x onerror="document.title=1">'
WINNER = Candidate(
    MLP(8, (12, 8), 3, sparsity=(None, Sparsity(0.25), None)),
    Hyperparameters(),
)


def trials_of(candidates, rungs=(1, 3, 9)):
    """Trials as a search by halving leaves them, with made-up accuracies."""
    rng = np.random.default_rng(0)
    trials, alive = [], list(enumerate(candidates))
    for rung, epochs in enumerate(rungs):
        for number, candidate in alive:
            start = 0.5 + 0.3 * rng.random()
            curve = tuple(float(start + 0.19 * i / epochs) for i in range(epochs))
            trials.append(
                Trial(
                    candidate_id=number,
                    candidate=candidate,
                    rung=rung,
                    epochs=epochs,
                    val_loss=tuple(1 - value for value in curve),
                    val_accuracy=curve,
                    complexity=complexity(candidate.architecture),
                    score=float(np.log10(1 - max(curve))),
                    seconds=0.1,
                    status="done",
                    joules=float(5 * epochs + number),
                )
            )
        alive = alive[: max(1, len(alive) // 3)]
    return trials


def summary():
    cost = complexity(WINNER.architecture)
    energy = Energy(3.6e6, "measured", NASTY, (), 2.0, 3.0, 4_000_000)
    grid = carbon.grid("FR", pue=1.5)
    assert grid
    return {
        **cost._asdict(),
        "best_val_accuracy": 0.99,
        "test_accuracy": 0.98,
        "score": -2.0,
        "search_seconds": 5.0,
        "compile_seconds": 2.0,
        "complete": True,
        "energy": energy.to_json(),
        "emissions": carbon.emissions(energy.joules, grid).to_json(),
        "best": WINNER.to_json(),
        "history": {k: [0.5, 0.4] for k in ("train_loss", "val_loss", "val_accuracy")},
        "confusion": [[5, 1, 0], [0, 6, 0], [2, 0, 4]],
        "labels": ["cat", NASTY, "dog"],
        "programs": {
            "2 x 16, batch 32": {
                "compile_seconds": 1.0,
                "run_seconds": 2.0,
                "runs": 3,
                "networks": 6,
            }
        },
    }


def work_folder(path, count, finished=True):
    """A work folder of a search of `count` candidates."""
    path.mkdir()
    space = MLPSpace(8, 3, width=(4, 64))
    trials = trials_of([WINNER, *space.sample(jax.random.key(0), count - 1)])
    with Store(path / "trials.sqlite", {"data": {"name": NASTY}}) as store:
        store.add(trials)
    for rung in range(3):
        ended = tuple((t.candidate_id, t.rung) for t in trials if t.rung == rung)
        folder.add_moment(path, Moment(ended, 2.0 + rung, 10.0 * rung, 100 * rung))
    if finished:
        (path / "summary.json").write_text(json.dumps(summary()))
        key = jax.random.key(0)
        patterns = draw_patterns(key, WINNER.architecture)
        params = mlp.init(key, WINNER.architecture, patterns)
        statistics = (np.zeros(1, np.float32), np.ones(1, np.float32))
        network = checkpoints.Network(
            WINNER.architecture,
            WINNER.hyperparameters,
            params,
            *statistics,
            (8,),
            patterns,
        )
        checkpoints.save(path / "best", network)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return work_folder(tmp_path_factory.mktemp("runs") / "<b>&amp;", 30)


@pytest.fixture(scope="module")
def written(finished):
    return page.write(finished)


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("needs an installed Chromium (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    # Parallel coordinates are drawn by WebGL, without a GPU in software.
    flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as manager:
        chromium = manager.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Opens an address and fails the test on anything that the console complains of."""
    complaints = []

    def open_one(url, **settings):
        tab = browser.new_context(**settings).new_page()
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )
        tab.goto(url)
        return tab

    yield open_one
    assert complaints == []


def test_every_plot_of_a_finished_search_is_drawn(finished, written, open_page):
    names = page.figures(read(finished)).keys()
    assert {"pareto-joules", "best-joules", "importance", "pattern-1"} <= names
    tab = open_page(written.as_uri())
    for button in tab.locator("[role=tab]").all():
        button.click()
        tab.locator(f"#{button.get_attribute('data-shows')} svg").first.wait_for()
    for plot in tab.locator("main > section .plot").all():
        if plot.is_visible():
            plot.scroll_into_view_if_needed()
            plot.locator("svg, canvas").first.wait_for()
    drawn = tab.evaluate(
        "[...document.querySelectorAll('.plot')]"
        ".filter(p => p.querySelector('svg, canvas')).map(p => p.id)"
    )
    assert set(drawn) == set(names)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_click_on_a_point_of_the_front_shows_its_trial(
    finished, written, open_page, scheme
):
    tab = open_page(written.as_uri(), color_scheme=scheme)
    plot = tab.locator("#pareto-parameters")
    chosen = front(read(finished).trials)[0]
    assert not tab.locator("#trial-details").is_visible()
    # The last trace is the winner's star, the one before it the front.
    point = plot.locator(".scatterlayer .trace").nth(-2).locator(".points path").first
    box = point.bounding_box()
    at = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.move(*at)
    plot.locator(".hoverlayer .hovertext").first.wait_for()
    tab.mouse.click(*at)
    tab.locator("#trial-details").wait_for()
    name = tab.locator("#trial-name").inner_text()
    assert name == f"Candidate {chosen.candidate_id}: {chosen.candidate.architecture}"
    assert tab.locator("#trial-curve svg").count()


def test_names_from_outside_are_text_and_never_markup(written, open_page):
    tab = open_page(written.as_uri())
    assert NASTY in tab.title()
    assert NASTY in tab.locator("h1").inner_text()
    assert tab.locator("img, h1 b").count() == 0


def test_emissions_stand_beside_their_factors_and_familiar_things(written):
    intensity = carbon.region("FR").intensity
    html = written.read_text()
    assert f"{1.5 * intensity.value:,.3g} g, estimated" in html
    assert str(intensity) in html
    assert "1.5 (given by the user)" in html
    assert "flights New York - San Francisco" in html


def test_a_phone_scrolls_down_and_not_sideways(written, open_page):
    tab = open_page(written.as_uri(), viewport={"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390


def test_a_thousand_trials_are_less_than_8_mb(tmp_path, open_page):
    path = page.write(work_folder(tmp_path / "many", 1000))
    assert path.stat().st_size < 8_000_000
    tab = open_page(path.as_uri())
    assert tab.locator("#pareto-parameters svg").count()


def test_a_running_search_has_a_report_without_what_is_not_known_yet(tmp_path):
    running = work_folder(tmp_path / "running", 5, finished=False)
    html = page.write(running).read_text()
    assert "The search is running: 7 trials, 3 rungs in 4.0 s" in html
    assert 'id="importance"' not in html
    assert 'id="confusion"' not in html


def test_a_folder_without_a_search_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no search"):
        page.write(tmp_path)


@pytest.mark.parametrize("line", [b"5", b"\xff\xfe", b'{"trials": [[0, 0]]}', b"{}"])
def test_a_line_that_is_no_moment_is_left_out(tmp_path, line):
    (tmp_path / "timeline.jsonl").write_bytes(line + b"\n")
    assert folder.read_timeline(tmp_path) == []


def test_the_timeline_survives_a_line_that_was_cut_off(tmp_path):
    moment = Moment(((0, 0), (1, 0)), 1.5, None, 10)
    folder.add_moment(tmp_path, moment)
    with (tmp_path / "timeline.jsonl").open("a") as file:
        file.write('{"trials": [[0, 1')
    assert folder.read_timeline(tmp_path) == [moment]
    folder.add_moment(tmp_path, moment)
    folder.add_moment(tmp_path, moment)
    assert folder.read_timeline(tmp_path) == [moment] * 3


def test_a_figure_that_cannot_be_drawn_ends_no_search(tmp_path, monkeypatch, caplog):
    running = work_folder(tmp_path / "broken", 5, finished=False)
    reporter = live.Reporter(running, lambda: None)

    def broken(run):
        raise ZeroDivisionError("no such axis")

    monkeypatch.setattr(page, "render", broken)
    reporter.on_rung_end(read(running).trials, resumed=False, flops=5)
    assert "report.html is not up to date: ZeroDivisionError: no such" in caplog.text


def test_a_library_search_without_a_config_has_a_report(tmp_path):
    source = work_folder(tmp_path / "made", 5, finished=False)
    bare = tmp_path / "bare"
    bare.mkdir()
    with Store(bare / "trials.sqlite", {}) as store:
        store.add(read(source).trials)
    assert "<title>bare: a search</title>" in page.write(bare).read_text()


def test_a_search_that_goes_on_adds_to_the_time_it_had_taken(tmp_path):
    running = work_folder(tmp_path / "again", 5, finished=False)
    trials = [t for t in read(running).trials if t.rung == 2]
    reporter = live.Reporter(running, lambda: 7.0)
    reporter.on_rung_end(trials, resumed=True, flops=0)
    assert len(read(running).timeline) == 3
    before = read(running).timeline[-1]
    reporter.on_rung_end(trials, resumed=False, flops=50)
    moment = read(running).timeline[-1]
    assert moment.flops == before.flops + 50
    assert 4.0 < moment.seconds < 60
    assert moment.joules == 27.0
    assert (running / "report.html").exists()


@pytest.fixture
def served(tmp_path):
    running = work_folder(tmp_path / "live", 5, finished=False)
    with live.server(running) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield running, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_served_page_loads_itself_again_when_the_search_has_moved_on(
    served, open_page
):
    running, url = served
    tab = open_page(url)
    assert "3 rungs" in tab.locator(".status").inner_text()
    folder.add_moment(running, Moment(((0, 2),), 9.0, None, 1))
    tab.wait_for_function("document.body.innerText.includes('4 rungs')", timeout=20_000)


def test_the_server_answers_only_to_this_machines_name(served):
    _, url = served
    foreign = urllib.request.Request(url, headers={"Host": "example.org"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(foreign)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/etc/passwd")
