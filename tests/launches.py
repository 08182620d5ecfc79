"""Launch files, each in a process of its own, as `python -m experiments.X` runs them.

The processes are forked from one that has imported everything and run nothing. With
JAX imported anew for each, test_launch.py took 170 s of a run of all tests, now 28.
"""

import multiprocessing
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile

import jax

ROOT = pathlib.Path(__file__).parents[1]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.preloaded"])


class Running:
    """A launch file under way, with some methods of a `subprocess.Popen`.

    Args:
      flags: of the command line.
      module: of `experiments`.
      devices: that it finds.
      code: to run instead.
    """

    def __init__(self, *flags, module="search", devices=1, code=None):
        self._folder = tempfile.TemporaryDirectory()
        self._texts = [
            pathlib.Path(self._folder.name, name) for name in ("stdout", "stderr")
        ]
        for text in self._texts:
            text.touch()
        self._process = _SERVER.Process(
            target=_run, args=(module, flags, devices, code, *self._texts)
        )
        self._process.start()

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def kill(self):
        self._process.kill()

    def interrupt(self):
        """Ctrl-C."""
        os.kill(self._process.pid, signal.SIGINT)

    def terminate(self):
        self._process.terminate()

    def communicate(self, timeout=240):
        """What it has printed, once it has ended."""
        self._process.join(timeout)
        late = self.poll() is None
        if late:
            self.kill()
        outputs = [text.read_text() for text in self._texts]
        self._folder.cleanup()
        if late:
            raise TimeoutError(f"not over in {timeout} s: {outputs}")
        return outputs


def launch(*flags, module="search"):
    """What `python -m experiments.MODULE FLAGS` prints, and its exit code."""
    running = Running(*flags, module=module)
    outputs = running.communicate()
    return subprocess.CompletedProcess(flags, running.returncode, *outputs)


def _run(module, flags, devices, code, stdout, stderr):
    for number, path in enumerate((stdout, stderr), 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    # In the background of a shell it is ignored, also by what is started there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(ROOT)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    sys.argv = [module, *map(str, flags)]
    if code:
        exec(code, {})
        return
    try:
        runpy.run_module(f"experiments.{module}", run_name="__main__", alter_sys=True)
    finally:
        # As at the end of any process; a forked one has no such end.
        if jax.distributed.is_initialized():
            jax.distributed.shutdown()
