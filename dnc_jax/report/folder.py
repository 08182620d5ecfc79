"""What a work folder holds, read for people: of a search that runs or has ended."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

from dnc_jax.errors import InputError
from dnc_jax.networks.patterns import Patterns
from dnc_jax.search import Candidate, Trial, trials
from dnc_jax.training import checkpoints

TRIALS, TIMELINE, SUMMARY, BEST = (
    "trials.sqlite",
    "timeline.jsonl",
    "summary.json",
    "best",
)


class Moment(NamedTuple):
    """When a rung was done, counted from the beginning of the search.

    Attributes:
      trials: `(candidate_id, rung)` of those that ended.
      seconds: wall clock, summed over the runs of a search that was interrupted.
      joules: likewise; None where energy is not measured.
      flops: floating-point operations of the true networks, likewise.
    """

    trials: tuple[tuple[int, int], ...]
    seconds: float
    joules: float | None
    flops: int


class Summary(TypedDict):
    """The contents of summary.json; docs/data.md says what the keys mean."""

    best_val_accuracy: float
    best_val_loss: float
    test_accuracy: float
    test_loss: float
    parameters: int
    flops_per_example: int
    score: float
    candidates: int
    candidate_epochs: int
    search_seconds: float
    compile_seconds: float
    seed: int
    complete: bool
    # Then seconds, epochs trained, FLOPs and energy are those of the last run.
    resumed: bool
    train_epochs: int
    retrain_seconds: float
    total_seconds: float
    data: str
    metric: str
    performance: str
    w_c: float
    energy: dict[str, Any]
    attribution: dict[str, Any]
    emissions: dict[str, Any] | None
    forecast: dict[str, Any] | None
    machine: dict[str, Any]
    ended_by: str | None
    best: dict[str, Any]
    history: dict[str, Any]
    confusion: list[list[int]] | None
    labels: list[Any]
    programs: dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Run:
    """A search as its work folder shows it.

    Attributes:
      trials: those finished so far.
      timeline: a moment for each finished rung.
      summary: the contents of summary.json; None while the search runs.
      config: its config, as plain data.
      folder: where it lies.
      metric: what accuracies are, for people.
    """

    trials: Sequence[Trial]
    timeline: Sequence[Moment] = ()
    summary: Summary | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    folder: pathlib.Path = pathlib.Path()
    metric: str = "accuracy"

    @property
    def winner(self) -> Candidate | None:
        """The candidate that was trained at full length, once there is one."""
        if self.summary is None:
            return None
        return Candidate.from_json(self.summary["best"])

    def patterns(self) -> Patterns:
        """Of the winner's sparse junctions, read from `best/`; empty without any."""
        if self.winner is None or not self.winner.architecture.sparsity:
            return ()
        return checkpoints.load(self.folder / BEST).patterns


def read(workdir: str | pathlib.Path) -> Run:
    """The search in `workdir`, at any moment of its life; nothing is written.

    Raises:
      InputError: there is no search, or its summary is damaged.
    """
    folder = pathlib.Path(workdir)
    if not (folder / TRIALS).is_file():
        raise InputError(
            f"{folder} holds no search: it has no {TRIALS}; name the work folder of one"
        )
    config, done = trials.read(folder / TRIALS)
    summary = _summary(folder / SUMMARY)
    metric = trials.read_fact(folder / TRIALS, "metric") or "accuracy"
    return Run(done, read_timeline(folder), summary, config, folder, metric)


def _summary(path: pathlib.Path) -> Summary | None:
    if not path.exists():
        return None
    try:
        summary: Any = json.loads(path.read_text())
        Candidate.from_json(summary["best"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({error}); remove it, and the search writes it anew"
        ) from error
    return summary


def shown(value: float, metric: str) -> str:
    """A metric, or 1 minus it, for people."""
    return f"{value:.2%}" if is_share(metric) else f"{value:.4f}"


def is_share(metric: str) -> bool:
    """Whether people read it in per cent: R² is no share of anything.

    Nor may a metric of one's own be one.
    """
    return metric.endswith(("accuracy", "F1"))


def error_name(metric: str) -> str:
    """What 1 minus the metric on validation rows is called."""
    return "validation error" if metric == "accuracy" else f"1 - validation {metric}"


def read_timeline(folder: pathlib.Path) -> list[Moment]:
    """The moments noted so far; a line that was cut off by a crash is left out."""
    path = folder / TIMELINE
    moments = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            fields = json.loads(line)
            ended = tuple((number, rung) for number, rung in fields.pop("trials"))
            moments.append(Moment(ended, **fields))
    return moments


def add_moment(folder: pathlib.Path, moment: Moment) -> None:
    """Appends to the timeline of the work folder, after a line that a crash cut off."""
    path = folder / TIMELINE
    before = path.read_bytes() if path.exists() else b""
    torn = bool(before) and not before.endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * torn + json.dumps(moment._asdict()) + "\n")
