"""A trace of what the machine does while networks train, on request.

  python -m experiments.search --workdir=runs/digits --profile
  tensorboard --logdir=runs/digits/profile

TensorBoard needs the package `xprof`; https://ui.perfetto.dev opens the file
`*.trace.json.gz` in the folder.
"""

import pathlib
import threading
from collections.abc import Sequence

import jax
from absl import flags

from dnc_jax.search.results import Callback
from dnc_jax.search.strategies import Evaluation
from dnc_jax.training import processes
from experiments import launch

PROFILE = flags.DEFINE_bool(
    "profile",
    False,
    "Write a trace of the first compiling and training to profile/ in the work folder; "
    "TensorBoard and Perfetto open it.",
)

FOLDER = "profile"
_SECONDS = 3.0  # after the first epoch; each takes up to 25 MB


class Trace(Callback):
    """Traces from the first rung, or `begin`, until a few seconds after an epoch.

    Does nothing without --profile, and in every process but the first of several.

      with Trace(workdir) as trace:
          trace.begin()
          ...
          trace.on_epoch(accuracies)

    Args:
      workdir: gets a folder `profile`.
    """

    def __init__(self, workdir: pathlib.Path) -> None:
        self._folder = workdir / FOLDER
        self._lock = threading.Lock()
        self._wanted = PROFILE.value and processes.is_first()
        self._under_way = False
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """Starts the trace; later calls do nothing."""
        with self._lock:
            if not self._wanted:
                return
            self._wanted, self._under_way = False, True
            options = jax.profiler.ProfileOptions()
            # What Python does costs more than all else to trace, and tells little.
            options.python_tracer_level = 0
            jax.profiler.start_trace(self._folder, profiler_options=options)

    def on_rung_start(self, evaluations: Sequence[Evaluation]) -> None:
        """A rung begins."""
        self.begin()

    def on_epoch(self, accuracies: Sequence[float]) -> None:
        """Candidates finished an epoch."""
        if not self._under_way or self._timer:
            return
        with self._lock:
            if not self._timer:
                self._timer = threading.Timer(_SECONDS, self._end)
                self._timer.daemon = True
                self._timer.start()

    def _end(self) -> None:
        with self._lock:
            if self._under_way:
                self._under_way = False
                jax.profiler.stop_trace()
                launch.console().print(
                    f"{self._folder}: a trace for TensorBoard or Perfetto", markup=False
                )

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer:
            self._timer.cancel()
        self._end()
