"""What this machine is, and the cost model's constants as measured on it."""

import contextlib
import hashlib
import json
import pathlib
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import Any

import jax
import numpy as np

from dnc_jax.files import write_json
from dnc_jax.networks import MLP
from dnc_jax.networks.convolution import Form, convolution
from dnc_jax.training import compilation, costs, engines, lanes, resources, shapes
from dnc_jax.training.data import Dataset, Split
from dnc_jax.training.hyperparameters import Hyperparameters
from dnc_jax.training.jobs import Job
from dnc_jax.training.programs import Programs

_INPUTS, _OUTPUTS = 64, 10
# A step's fixed cost, its bytes in and beyond the cache, and its multiply-adds: each
# outweighs the others in one of these.
_PROBES = (
    shapes.Padded(1, (32, 32), 32),
    shapes.Padded(1, (320, 320), 16),
    shapes.Padded(1, (640, 640), 16),
    shapes.Padded(1, (400, 400), 512),
)
_SECONDS = 0.3  # of running each probe
_STEPS = 20  # of a convolution, in each run of its program
_UNDISTURBED = 0.6  # share of the processors below which others had the rest


def describe() -> dict[str, Any]:
    """What must be equal for one search to teach about another."""
    device = jax.local_devices()[0]
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": resources.cores(),
        "device": device.device_kind,
        "devices": jax.local_device_count(),
    }


def cost_model(
    folder: pathlib.Path | None, on_measure: Callable[[], None] = lambda: None
) -> costs.CostModel:
    """The constants kept in `folder`; at first they are measured, in under 10 s.

    A machine that is busy with other work says nothing about itself: the defaults are
    used, and the next search measures again.

    They are kept for this kind of machine and this version of JAX. Two measurements
    differ, and with them plans, and with those the rounding of results: a search goes
    on with the constants that it began with, which its store holds.

    Args:
      folder: made where it is missing; None: the model's defaults, nothing is measured.
      on_measure: called before a measurement.
    """
    if folder is None:
        return resources.cost_model()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path(folder).read_text())["constants"]
        values = [kept[name] for name in costs.CostModel._fields]
        if all(value > 0 for value in values):
            return costs.CostModel(*values)
    on_measure()
    constants, share = measure()
    if share < _UNDISTURBED:
        return resources.cost_model()
    # A folder that cannot be written costs a measurement each time, no more.
    with contextlib.suppress(OSError):
        keep(folder, constants)
    return constants


def keep(folder: pathlib.Path, constants: costs.CostModel) -> None:
    """Writes the file that `cost_model` reads.

    Raises:
      OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"machine": _place(), "constants": constants._asdict()}
    write_json(path(folder), content)


def path(folder: pathlib.Path) -> pathlib.Path:
    """The file in `folder` with the constants of this machine."""
    place = json.dumps(_place()).encode()
    digest = hashlib.blake2b(place, digest_size=8).hexdigest()
    return folder / f"cost-model-{digest}.json"


def _place() -> dict[str, Any]:
    """What must be equal for constants to be used; one device is measured."""
    place = {
        **describe(),
        "model": processor(),
        "jax": jax.__version__,
        "options": compilation.options(convolutional=False),
    }
    del place["devices"]
    return place


def measure() -> tuple[costs.CostModel, float]:
    """The constants by compiling and running four programs, to two digits.

    As a population does, each on all of its workers at a time. Of several times the
    least counts: what else the machine does adds to it. The size of the cache is not
    measured. On an accelerator four convolutions come on top, see `convolution_rates`.

    Returns:
      The constants, and the share of the time of its threads at work in which this
      process had a processor; 1 on an accelerator, where it does not matter.
    """
    begin, cpu = time.perf_counter(), time.process_time()
    # Numbers of rows that no program in the compilation cache has: it would not be
    # compiled again.
    number = time.time_ns() % 4096
    data = _data(4096 + number, 100 + number)
    programs = Programs(data, jax.random.key(0))
    work = programs.workload(1)
    default = costs.CostModel()
    with ThreadPoolExecutor(programs.workers) as pool:
        list(pool.map(lambda shape: _prepared(shape, programs), _PROBES))
        compiled = time.perf_counter()
        seconds = [
            min(pool.map(_step_seconds, [shape] * programs.workers, repeat(programs)))
            for shape in _PROBES
        ]
    demands = [costs.demand(shape, work, default.cache_bytes) for shape in _PROBES]
    step, flop, byte, slow_byte = _prices(demands, seconds)
    end, cpu = time.perf_counter(), time.process_time() - cpu
    # Compiling four programs keeps four of many processors busy.
    compiling = min(programs.workers, len(_PROBES))
    work_seconds = (compiled - begin) * compiling + (end - compiled) * programs.workers
    on_cpu = jax.default_backend() == "cpu"
    share = cpu / work_seconds if on_cpu else 1.0
    constants = default._replace(
        compile_seconds=_two_digits(
            min(one.compile_seconds for one in programs.accounts.values())
        ),
        step_seconds=_two_digits(step),
        flops_per_second=_two_digits(1 / flop),
        bytes_per_second=_two_digits(1 / byte),
        slow_bytes_per_second=_two_digits(1 / slow_byte),
        workers=programs.workers,
    )
    return constants if on_cpu else constants._replace(**convolution_rates()), share


def convolution_rates(
    lanes: int = 16, batch_size: int = 64, pixels: int = 16
) -> dict[str, float]:
    """What the two forms of convolutions on an accelerator take here, to two digits.

    By the gradients of single convolutions, two for each form: one network and many
    with as many images in all; and patches of which few or many products are made.

    Args:
      lanes, batch_size: of the program with many networks.
      pixels: of the width and height of an image.

    Returns:
      Constants of a `costs.CostModel`, by their names.
    """
    probes: dict[Form, Any] = {  # lanes, images of each, channels in and out
        "grouped": ((1, lanes * batch_size, 32, 32), (lanes, batch_size, 32, 32)),
        "im2col": ((lanes, batch_size, 64, 8), (lanes, batch_size, 32, 128)),
    }
    names = {
        "grouped": ("grouped_flops_per_second", "beside_flops_per_second"),
        "im2col": ("im2col_flops_per_second", "patch_bytes_per_second"),
    }
    rates: dict[str, float] = {}
    for form, sizes in probes.items():
        demands = [
            costs.convolution_demand(
                form, 9 * pixels**2 * n_in * n_out, 9 * pixels**2 * n_in, many, images
            )
            for many, images, n_in, n_out in sizes
        ]
        seconds = [_gradient_seconds(form, pixels, *size) for size in sizes]
        for name, price in zip(names[form], _prices(demands, seconds), strict=True):
            rates[name] = _two_digits(1 / price)
    return rates


def _gradient_seconds(
    form: Form, pixels: int, lanes: int, images: int, n_in: int, n_out: int
) -> float:
    """Of a convolution's product and both of its gradients, in a loop as in training.

    One after another within a program: starting one takes longer than this does.
    """

    def step(arrays: Any, _: None) -> tuple[Any, None]:
        x, weight, y = arrays
        product, pull = jax.vjp(partial(convolution, form=form), x, weight)
        # Each step needs all that the one before has computed.
        return jax.tree.map(
            lambda a, g: a - 1e-6 * g, arrays, (*pull(y), product)
        ), None

    def steps(*arrays: jax.Array) -> Any:
        return jax.lax.scan(step, arrays, length=_STEPS)[0]

    square = (lanes, images, pixels, pixels)
    arrays = [
        jax.random.normal(jax.random.key(number), size)
        for number, size in enumerate(
            ((*square, n_in), (lanes, 3, 3, n_in, n_out), (*square, n_out))
        )
    ]
    program = jax.jit(jax.vmap(steps))

    def run() -> None:
        jax.block_until_ready(program(*arrays))

    run()  # compiled
    return _least_seconds(run) / _STEPS


def _prices(
    demands: Sequence[Sequence[float]], seconds: Sequence[float]
) -> list[float]:
    """Seconds for a unit of each demand, that explain the seconds of every probe best.

    Relative errors count, of steps of 0.1 to 10 ms; nothing takes less than no time.
    """
    from scipy.optimize import nnls

    relative = np.array(demands) / np.reshape(seconds, (-1, 1))
    prices, _ = nnls(relative, np.ones(len(seconds)))
    return [float(price) for price in np.maximum(prices, 1e-18)]


def _prepared(shape: shapes.Padded, programs: Programs) -> tuple[Any, Any, Any]:
    job = Job(
        MLP(_INPUTS, shape.hidden, _OUTPUTS),
        Hyperparameters(batch_size=shape.batch_size),
        jax.random.key(0),
        start=0,
        stop=1,
        total=1,
    )
    state = lanes.pack([engines.fresh(job)], shape)
    return programs.get(shape, [(state, lanes.settings([job], shape))])


def _step_seconds(shape: shapes.Padded, programs: Programs) -> float:
    """Of one worker, while the others do the same."""
    program, state, settings = _prepared(shape, programs)

    def epoch() -> None:
        nonlocal state
        state = program.train(state, settings, np.float32(1), 0)

    return _least_seconds(epoch) / (programs.rows // shape.batch_size)


def _least_seconds(run: Callable[[], None]) -> float:
    times: list[float] = []
    while sum(times) < _SECONDS:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def _data(rows: int, validation_rows: int) -> Dataset:
    rng = np.random.default_rng(0)
    train, rest = (
        Split(
            rng.integers(0, 256, (count, _INPUTS), dtype=np.uint8),
            rng.integers(0, _OUTPUTS, count).astype(np.int32),
        )
        for count in (rows, validation_rows)
    )
    ones = np.ones(1, np.float32)
    return Dataset("probe", _OUTPUTS, train, rest, rest, 128 * ones, ones / 64)


def processor() -> str:
    """The processor's name, where the system tells."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")
