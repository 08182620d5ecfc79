"""The compiled programs of one search, and the data that they run on."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from dnc_jax.networks import CNN
from dnc_jax.training import (
    compilation,
    costs,
    engines,
    feed,
    processes,
    resources,
    trainer,
)
from dnc_jax.training.data import Dataset
from dnc_jax.training.jobs import Account, Executed, Seconds
from dnc_jax.training.shapes import Exact, Shape
from dnc_jax.typing import Key

# Compiled functions that outlast their search, some 2 MB each: a training and a
# validation for each of some 64 shapes.
_KEPT = 128


class Program(NamedTuple):
    """What is compiled for a shape."""

    # (state, settings, rate factor, epoch) -> state
    train: Callable[[Any, Any, Any, int], Any]
    # (state, settings) -> losses and accuracies, [G] of each device, in NumPy
    evaluate: Callable[[Any, Any], list[trainer.Metrics]]


class Programs:
    """Compiled programs by shape, the data they run on, and the time they took.

    Thread-safe. Rows are copied to the device once, as they are stored, or streamed to
    it, see `feed.Feed`.

    Attributes:
      rows, validation_rows, inputs, outputs: of the data.
      cost: what plans reckon with.
      resources: what programs may use, the same in all processes.
      devices: that each program runs on, with networks of its own on each.
      workers: programs that run at a time.
      planned: shapes that count as compiled in later plans.
      accounts: what each shape took.
    """

    def __init__(
        self,
        data: Dataset,
        order_key: Key,
        mesh: Mesh | None = None,
        cost: costs.CostModel | None = None,
    ) -> None:
        self._mesh, self._data = mesh, data
        self.cost = cost or resources.cost_model()
        self.resources = resources.of(data, mesh.size if mesh else 1)
        if mesh:  # processes differ in free memory, and plan alike
            agreed = processes.from_first(self.resources)
            self.resources = resources.Resources(*agreed)
        self.devices, self.workers = self.resources[:2]
        self.rows, self.validation_rows = data.rows
        self.inputs, self.outputs = data.inputs, data.outputs
        self._feed, self._validation = feed.of(
            data,
            self.resources.row_bytes,
            partial(trainer.epoch_order, order_key, rows=self.rows),
            self.workers,
            self._copy,
        )
        self._view = self._copy(trainer.view_of(data, order_key))
        self._compiled: dict[Any, Any] = {}
        self.planned: set[Shape] = set()
        self._locks: dict[Any, threading.Lock] = {}
        self._lock = threading.Lock()
        self.accounts: defaultdict[Shape, Account] = defaultdict(Account)
        self._unused: list[Executed] = []
        self._seconds = dict.fromkeys(Seconds._fields, 0.0)

    @property
    def shapes(self) -> list[Shape]:
        """Shapes already compiled."""
        with self._lock:
            compiled = {shape for shape, _ in self._compiled if shape.batch_size}
        return sorted(compiled, key=str)

    @property
    def seconds(self) -> Seconds:
        """Where the time of `population.train` went, summed over its calls."""
        return Seconds(**{k: v / self.workers for k, v in self._seconds.items()})

    @property
    def worker_compile_seconds(self) -> float:
        """Of all workers together."""
        return self._seconds["compiling"]

    @property
    def busy_seconds(self) -> float:
        """In which workers compiled or ran programs, all of them together."""
        return sum(v for name, v in self._seconds.items() if name != "waiting")

    def account(self, **seconds: float) -> None:
        """Adds seconds of a worker, by their name in `Seconds`."""
        with self._lock:
            for name, value in seconds.items():
                self._seconds[name] += value

    def add_run(self, shape: Shape, seconds: float, networks: int) -> None:
        """Notes that programs of `shape` have trained so many networks once."""
        with self._lock:
            account = self.accounts[shape]
            account.run_seconds += seconds
            account.runs += 1
            account.networks += networks

    def add_unused(self, executed: Executed, devices: int) -> None:
        """Notes what so many devices have computed that no network gained by."""
        with self._lock:
            self._unused += [executed] * devices

    def take_unused(self) -> list[Executed]:
        """What was noted since the last call."""
        with self._lock:
            taken, self._unused = self._unused, []
        return taken

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Accounts for the time of its body."""
        begin = time.perf_counter()
        try:
            with jax.profiler.TraceAnnotation(name):
                yield
        finally:
            self.account(**{name: time.perf_counter() - begin})

    def workload(self, epochs: float) -> costs.Workload:
        """What `plan.make` has to know of this data and this machine."""
        return self.resources.workload(self._data, epochs)

    def forget_orders(self) -> None:
        """Frees the orders of epochs that no rung under way needs."""
        self._feed.forget()

    def get(
        self, shape: Shape, packed: Sequence[tuple[Any, Any]]
    ) -> tuple[Program, Any, Any]:
        """The program of `shape`, compiled now at its first use, and its arguments.

        Sparse networks of one shape may have patterns of several, and so programs.

        Args:
          shape: of the program on one device.
          packed: state and settings in NumPy for each device, at most.

        Returns:
          The program, and state and settings where it takes them.
        """
        if self._mesh:
            free = [packed[0]] * (self.devices - len(packed))
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *packed, *free)
            state, settings = processes.split(stacked, self._mesh)
        else:
            ((state, settings),) = packed
        return self._get(shape, state, settings), state, settings

    def blocks(self, tree: Any) -> list[Any]:
        """What a program returned, in NumPy, one for each device."""
        if not self._mesh:
            return [jax.device_get(tree)]
        host = processes.gather(tree)
        return [jax.tree.map(lambda x, i=i: x[i], host) for i in range(self.devices)]

    def _copy(self, tree: Any) -> Any:
        """On the device, or on all of them."""
        return processes.copy(tree, self._mesh) if self._mesh else jax.device_put(tree)

    def _get(self, shape: Shape, state: Any, settings: Any) -> Program:
        arguments = signature((state, settings))
        step = self._once(
            (shape, arguments), shape, lambda: self._step(shape, state, settings)
        )
        # Validation knows no batch size: shapes that differ in it alone share one.
        any_batch = shape._replace(batch_size=0)
        check = self._once(
            (any_batch, arguments),
            shape,
            lambda: self._check(any_batch, state, settings),
        )

        def run(state: Any, settings: Any, factor: Any, epoch: int) -> Any:
            for _, order, rows in self._feed.epoch(epoch, shape.batch_size):
                state = jax.block_until_ready(
                    step(state, settings, factor, order, rows, self._view)
                )
            return state

        def validate(state: Any, settings: Any) -> list[Any]:
            sums = [
                self.blocks(check(state, settings, rows, count, self._view))
                for count, rows in self._validation.once()
            ]
            return [
                trainer.metrics_of(of_device, self._validation, self._data.goal)
                for of_device in zip(*sums, strict=True)
            ]

        return Program(run, validate)

    def _once(self, key: Any, shape: Shape, compiled: Callable[[], Any]) -> Any:
        """`compiled()` for the first who asks for this key; others wait for it."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._compiled:
                begin = time.perf_counter()
                with jax.profiler.TraceAnnotation(f"compiling {shape}"):
                    program = compiled()
                seconds = time.perf_counter() - begin
                self.account(compiling=seconds)
                with self._lock:
                    self.accounts[shape].compile_seconds += seconds
                    self._compiled[key] = program
        return self._compiled[key]

    def _step(self, shape: Shape, state: Any, settings: Any) -> Any:
        with closing(self._feed.epoch(0, shape.batch_size)) as segments:
            _, order, rows = next(segments)
        arguments = (state, settings, np.float32(1), order, rows, self._view)
        function = _function("train", shape, self._mesh, signature(arguments))
        return function.lower(*arguments).compile()

    def _check(self, shape: Shape, state: Any, settings: Any) -> Any:
        with closing(self._validation.once()) as parts:
            count, rows = next(parts)
        arguments = (state, settings, rows, count, self._view)
        function = _function("evaluate", shape, self._mesh, signature(arguments))
        return function.lower(*arguments).compile()


def signature(tree: Any) -> tuple[Any, ...]:
    """What a program is compiled for: structure and types of its arguments."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, *map(jax.typeof, leaves)


@lru_cache(maxsize=_KEPT)
def _function(name: str, shape: Shape, mesh: Mesh | None, signature: Any) -> Any:
    """A function of an engine, as JAX compiles it.

    The same one for every search of this process: JAX keeps what it has traced and
    compiled of it as long as it is kept, so that a later search finds it.

    Args:
      name: "train" or "evaluate".
      shape, mesh: of the program.
      signature: of all arguments, so that one entry holds one program.
    """
    function = getattr(engines.of(shape), name)
    options = compilation.options(
        convolutional=isinstance(shape, Exact) and isinstance(shape.network, CNN)
    )
    return jax.jit(
        _on_devices(partial(function, shape=shape), mesh),
        donate_argnums=0 if name == "train" else (),
        compiler_options=options,
    )


def _on_devices(function: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """The function of `(state, settings, *shared)` on every device by itself."""
    if not mesh:
        return function

    def on_one(state: Any, settings: Any, *shared: Any) -> Any:
        block = jax.tree.map(lambda leaf: leaf[0], (state, settings))
        result = function(*block, *shared)
        return jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 0), result)

    def on_all(state: Any, settings: Any, *shared: Any) -> Any:
        split = PartitionSpec(processes.AXIS)
        return jax.shard_map(
            on_one,
            mesh=mesh,
            in_specs=(split, split, *[PartitionSpec()] * len(shared)),
            out_specs=split,
            check_vma=False,
        )(state, settings, *shared)

    return on_all
