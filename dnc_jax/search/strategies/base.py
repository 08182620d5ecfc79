"""What every search strategy is: three pure functions."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dnc_jax.errors import InputError
from dnc_jax.plain import plain
from dnc_jax.typing import Key

REACH = 0.15  # of a number moved a little: standard deviation on the unit interval


class Evaluation(NamedTuple):
    """A request: train this candidate from epoch `start` to epoch `stop`.

    Attributes:
      candidate_id: counts candidates of the search from 0; a promoted candidate
        keeps its own.
      candidate: what the space builds and allows, a `Candidate` for a space of
        networks; a promoted one is what it was.
      rung: from 0; rung 0 starts from scratch.
      expected_epochs: from `start` on, later rungs included, by the share of candidates
        that come so far; 0 where none follow. Programs are planned for them.
    """

    candidate_id: int
    candidate: Any
    rung: int
    start: int
    stop: int
    expected_epochs: float = 0.0


class Strategy(NamedTuple):
    """A search algorithm without side effects.

    Attributes:
      init: `init(key) -> state`; consumes the key.
      ask: `ask(state) -> evaluations` to be made together, of one rung or of several
        brackets' rungs; none when the search is over. Asked again it says the same.
      tell: `tell(state, scores) -> state` with a score for each evaluation asked
        for, lower is better, infinite for a candidate that diverged.
      epochs: of the last rung: what the learning-rate schedule is spread over.
      candidate_epochs: that the whole search will train if nothing diverges, or
        at most where that depends on the scores.
      rehearse: `tell` for scores that are made up, where what it proposes takes long: a
        forecast does not wait for proposals that nothing is known for.
    """

    init: Callable[[Key], Any]
    ask: Callable[[Any], list[Evaluation]]
    tell: Callable[[Any, Sequence[float]], Any]
    epochs: int
    candidate_epochs: int
    rehearse: Callable[[Any, Sequence[float]], Any] | None = None


def whole_epochs(rungs: Any) -> tuple[int, ...]:
    """The rungs as a tuple.

    Raises:
      InputError: they are not whole numbers, at least one.
    """
    epochs = plain(rungs)
    if (
        not isinstance(epochs, tuple)
        or not epochs
        or not all(isinstance(rung, int) for rung in epochs)
    ):
        raise InputError(
            f"rungs must be a tuple of whole epochs like (3, 9), got {rungs!r}"
        )
    return epochs


def check_told(asked: int, scores: Sequence[float]) -> None:
    """Whether there is a score for each evaluation asked for.

    Raises:
      ValueError: there is not.
    """
    if len(scores) != asked:
        raise ValueError(f"{asked} scores were asked for, got {len(scores)}")
