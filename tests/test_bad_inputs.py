"""Malformed input never ends in a traceback, and leaves nothing behind."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the corpus is tried in forks")
def test_every_eighth_of_the_corpus_is_refused_in_one_line_and_no_planted_code_runs():
    # In a process of its own: one that has run JAX must not be forked.
    process = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.bad_inputs", "8", "8"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    *failed, last = process.stdout.splitlines()
    assert failed == []
    result = json.loads(last)
    assert result["bad_inputs"] >= 18
    assert result["pickles_run"] == 0
    assert result["inputs"] > result["bad_inputs"], "none was good"
