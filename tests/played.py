"""Strategies played against a made-up truth, for their tests."""

import math

from dnc_jax.footprint import complexity
from dnc_jax.search import MLPSpace

SPACE = MLPSpace(6, 4, width=(4, 24), depth=(0, 2), batch_sizes=(32, 64))


def score(candidate):
    """A made-up truth: a rate of 0.01 is best, then small networks; some diverge."""
    rate = candidate.hyperparameters.learning_rate
    if rate > 0.08:
        return math.inf
    return (
        abs(math.log10(rate) + 2) + complexity(candidate.architecture).parameters / 1e4
    )


def played(strategy, key, truth=score):
    """All that a strategy asks for, call by call, and the last state."""
    state, calls = strategy.init(key), []
    while asked := strategy.ask(state):
        assert strategy.ask(state) == asked
        calls.append(asked)
        state = strategy.tell(state, [truth(e.candidate) for e in asked])
    return calls, state
