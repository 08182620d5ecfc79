"""Launch files, each in a process of its own, as `python -m experiments.X` runs them.

The processes are forked from one that has imported everything and run nothing. With
JAX imported anew for each, test_launch.py took 170 s of a run of all tests, now 28.
"""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

import jax

ROOT = pathlib.Path(__file__).parents[1]

_SERVER = multiprocessing.get_context("forkserver")
# Everything but the launch files, which are run and not imported.
_SERVER.set_forkserver_preload(
    ["dnc_jax.estimators", "experiments.job", "sklearn.datasets"]
)


def launch(*flags, module="search"):
    """What `python -m experiments.MODULE FLAGS` prints, and its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        texts = [pathlib.Path(folder, name) for name in ("stdout", "stderr")]
        for text in texts:
            text.touch()
        process = _SERVER.Process(target=_run, args=(module, flags, *texts))
        process.start()
        process.join(timeout=300)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"experiments.{module} {flags}")
        outputs = [text.read_text() for text in texts]
    return subprocess.CompletedProcess(flags, process.exitcode, *outputs)


def _run(module, flags, stdout, stderr):
    for number, path in enumerate((stdout, stderr), 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(ROOT)
    jax.config.update("jax_platforms", "cpu")
    sys.argv = [module, *map(str, flags)]
    runpy.run_module(f"experiments.{module}", run_name="__main__", alter_sys=True)
