"""Sparse junctions against dense ones, and against other ways to be sparse.

  python -m experiments.benchmarks.sparse [--data_dir=DIR] [--peer_python=PYTHON]
      [--cores=N]

For each case `value_and_grad` with respect to weights and input, compiled, float32,
batch 256, our kernel (`impl="auto"`) and the dense product in three layouts taking
turns; the speed-up is the median of dense in its fastest layout over ours. Then the
usual ways to be sparse, and an epoch of training a whole network. PYTHON has torch
(its CSR product is timed in the same turns of a run of its own beside scipy's); DIR
is a TFDS data directory with mnist (without it, random images of the same sizes).
With --cores=1 all sides have one core: what the kernels themselves are worth, without
what a machine asks for waking its second core for a product of 0.2 ms.

On an accelerator another list of cases runs instead: bfloat16, batch 4096, the output
and both gradients of a layer, twenty steps to a measurement, since a step takes less
than starting one. There `error` is the norm of the difference to the dense product of
the same weights over the norm of that, at most (both round to bfloat16).
The last line is a JSON object: size, block, density in per cent -> speed-up.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from absl import app, flags
from jax.experimental import sparse as jax_sparse

from dnc_jax import sparse
from dnc_jax.networks import MLP, Sparsity
from dnc_jax.networks.network import patterns as draw_patterns
from dnc_jax.sparse import choice, kernels
from dnc_jax.training import data as datasets
from dnc_jax.training import trainer

DATA_DIR = flags.DEFINE_string("data_dir", "", "TFDS data directory with mnist.")
PEER = flags.DEFINE_string("peer_python", None, "Python with torch.")
ONLY = flags.DEFINE_string("only", "", "Run the cases whose name contains this.")
REPEATS = flags.DEFINE_integer("repeats", 15, "Of each function, in turns.")
CORES = flags.DEFINE_integer("cores", 0, "Of this machine, 0 for all.", 0)
BATCH = 256

# (name, n_in, n_out, block, density)
CASES: tuple[tuple[str, int, int, tuple[int, int], float], ...] = (
    ("4096_b128_d9.4", 4096, 4096, (128, 128), 3 / 32),
    ("4096_b128_d6.25", 4096, 4096, (128, 128), 1 / 16),
    ("4096_b64_d9.4", 4096, 4096, (64, 64), 3 / 32),
    ("4096_b32_d10.2", 4096, 4096, (32, 32), 13 / 128),
    ("4096_b64x1_d10", 4096, 4096, (1, 64), 0.1),
    ("1024_b64_d12.5", 1024, 1024, (64, 64), 1 / 8),
    ("1024_b64x1_d10", 1024, 1024, (1, 64), 0.1),
    ("784x512_b64x1_d10", 784, 512, (1, 64), 0.1),
    ("784x512_b64x1_d5", 784, 512, (1, 64), 0.05),
    ("1024_b1_d2", 1024, 1024, (1, 1), 0.02),
    ("1024_b1_d5", 1024, 1024, (1, 1), 0.05),
    ("1024_b1_d10", 1024, 1024, (1, 1), 0.1),
    ("1024_b1_d20", 1024, 1024, (1, 1), 0.2),
    ("1024_b1_d30", 1024, 1024, (1, 1), 0.3),
    ("1024_b1_d50", 1024, 1024, (1, 1), 0.5),
    ("1024_b1_d100", 1024, 1024, (1, 1), 1.0),
    ("1024_b64_d25", 1024, 1024, (64, 64), 0.25),
    ("1024_b64_d50", 1024, 1024, (64, 64), 0.5),
    ("1024_b64_d75", 1024, 1024, (64, 64), 0.75),
    ("1024_b64_d100", 1024, 1024, (64, 64), 1.0),
)

# The same of an accelerator, without names: batch 4096, bfloat16.
ACCELERATOR_CASES: tuple[tuple[tuple[int, int], float], ...] = (
    ((128, 128), 3 / 32),
    ((64, 64), 3 / 32),
    ((32, 32), 13 / 128),
    ((16, 16), 0.1),
    ((1, 64), 0.1),
    ((1, 1), 0.1),
    ((128, 128), 0.5),
    ((64, 64), 0.5),
    ((1, 1), 0.5),
    ((128, 128), 1.0),
)
ACCELERATOR_SIZE = 4096  # nodes on both sides, and the batch
STEPS = 20

Timed = dict[str, Callable[[], Any]]


def medians(functions: Timed, repeats: int) -> dict[str, float]:
    """Median seconds of each function, all of them in turn.

    The order changes from turn to turn, and a call just before the timed one brings
    back the caches that the neighbour has emptied, as in a loop of training steps.
    """
    for function in functions.values():
        for _ in range(3):
            jax.block_until_ready(function())
    names = list(functions)
    shuffle = np.random.default_rng(0).shuffle
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        shuffle(names)
        for name in names:
            jax.block_until_ready(functions[name]())
            begin = time.perf_counter()
            jax.block_until_ready(functions[name]())
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def gradients(product: Callable[..., jax.Array], *arguments: Any) -> Any:
    """Compiled value_and_grad of product(w, x, ...), and the seconds that took.

    Args:
      product: of the weights, the input and what else it needs.
      *arguments: the cotangent of the product, the weights, the input, the rest.
    """

    def loss(w: Any, x: Any, dy: Any, rest: Any) -> jax.Array:
        return jnp.sum(product(w, x, *rest) * dy)

    dy, w, x, *rest = arguments
    begin = time.perf_counter()
    compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(w, x, dy, rest).compile()
    seconds = time.perf_counter() - begin
    return compiled, seconds, lambda: compiled(w, x, dy, rest)


def draw(n_in: int, n_out: int, block: tuple[int, int], density: float) -> Any:
    """A pattern with constant fan_in."""
    family = sparse.balanced if block[0] == 1 < block[1] else sparse.structured
    return family(
        jax.random.key(0), n_in, n_out, density=density, block=block, nearest=True
    )


def arrays(n_in: int, n_out: int, pattern: sparse.Pattern) -> list[jax.Array]:
    """Weight [E, b_in, b_out], dense weight, x and dy, features first."""
    rng = np.random.default_rng(0)
    shapes = (
        (pattern.block_edges, *pattern.block),
        (n_in, n_out),
        (n_in, BATCH),
        (n_out, BATCH),
    )
    return [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]


# Of the dense product: weight [in, out] or [out, in], and batch first.
LAYOUTS: dict[str, tuple[Callable[..., jax.Array], Callable[..., Any]]] = {
    "dense W^T x": (lambda w, x: w.T @ x, lambda w, x, dy: (w, x, dy)),
    "dense W x": (lambda w, x: w @ x, lambda w, x, dy: (w.T.copy(), x, dy)),
    "dense x W": (
        lambda w, x: x @ w,
        lambda w, x, dy: (w, x.T.copy(), dy.T.copy()),
    ),
}


def dense_layouts(w: Any, x: Any, dy: Any) -> Timed:
    """The dense product and its gradients in each layout."""
    functions = {}
    for name, (product, laid_out) in LAYOUTS.items():
        weight, rows, cotangent = laid_out(w, x, dy)
        functions[name] = gradients(product, cotangent, weight, rows)[2]
    return functions


def case(
    n_in: int, n_out: int, block: tuple[int, int], density: float
) -> dict[str, Any]:
    """One junction against its dense twin."""
    pattern = draw(n_in, n_out, block, density)
    weight, full, x, dy = arrays(n_in, n_out, pattern)
    compiled, seconds, ours = gradients(
        lambda w, x, p: kernels.matmul(w, p, x), dy, weight, x, pattern
    )
    times = medians(
        {**dense_layouts(full, x, dy), "ours": ours},
        REPEATS.value,
    )
    dense = min(times[name] for name in times if name.startswith("dense"))
    return {
        "impl": choice.choose(pattern, BATCH),
        "density": pattern.density,
        "dense_ms": 1e3 * dense,
        "ours_ms": 1e3 * times["ours"],
        "speedup": dense / times["ours"],
        "ideal": dense / times["ours"] * pattern.density,
        "compile_seconds": seconds,
        "temporary_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
    }


def accelerator_case(block: tuple[int, int], density: float) -> dict[str, Any]:
    """One junction against its dense twin on an accelerator."""
    n = ACCELERATOR_SIZE
    pattern = draw(n, n, block, density)
    keys = jax.random.split(jax.random.key(1), 4)
    shapes = ((pattern.block_edges, *block), (n, n), (n, n), (n, n))
    weight, full, x, dy = (
        jax.random.normal(key, shape, jnp.bfloat16)
        for key, shape in zip(keys, shapes, strict=True)
    )
    ours = layer(lambda w, x, p: kernels.matmul(w, p, x))
    dense = {name: layer(product) for name, (product, _) in LAYOUTS.items()}
    functions = {"ours": repeated(partial(ours, weight, x, dy, pattern))}
    for name, (_, laid_out) in LAYOUTS.items():
        # Random weights: of zeros a GPU makes products faster.
        functions[name] = repeated(partial(dense[name], *laid_out(full, x, dy)))
    times = medians(functions, REPEATS.value)
    fastest = min(times[name] for name in times if name.startswith("dense"))

    same = np.zeros((pattern.blocks_in, pattern.blocks_out, *block), np.float32)
    sources, outputs = pattern.edge_list()
    same[sources, outputs] = np.asarray(weight, np.float32)
    same = jnp.asarray(same.transpose(0, 2, 1, 3).reshape(n, n), jnp.bfloat16)
    y, d_weight, dx = dense["dense W^T x"](same, x, dy)
    blocks = d_weight.reshape(pattern.blocks_in, block[0], -1, block[1])
    expected = y, blocks[sources, :, outputs], dx
    errors = [
        relative(found, wanted)
        for found, wanted in zip(ours(weight, x, dy, pattern), expected, strict=True)
    ]
    return {
        "impl": choice.choose(pattern, n),
        "density": pattern.density,
        "dense_us": 1e6 * fastest / STEPS,
        "ours_us": 1e6 * times["ours"] / STEPS,
        "speedup": fastest / times["ours"],
        "error": max(errors),
    }


def layer(product: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Compiled, (w, x, dy, ...) to the output and the gradients of w and x."""

    def step(w: Any, x: Any, dy: Any, *rest: Any) -> Any:
        y, pull = jax.vjp(lambda w, x: product(w, x, *rest), w, x)
        return y, *pull(dy)

    return jax.jit(step)


def repeated(function: Callable[[], Any]) -> Callable[[], Any]:
    """It calls so often that the device has work while the host starts the next."""
    return lambda: [function() for _ in range(STEPS)][-1]


def relative(found: jax.Array, wanted: jax.Array) -> float:
    """Norm of the difference over that of what is wanted."""
    found, wanted = found.astype(jnp.float32), wanted.astype(jnp.float32)
    return float(jnp.linalg.norm(found - wanted) / jnp.linalg.norm(wanted))


def accelerator_main() -> None:
    """Prints a line for each case, then all speed-ups as JSON."""
    result: dict[str, Any] = {"device": jax.devices()[0].device_kind}
    errors = []
    print("block      impl    density  dense us   ours us  speed-up  error")
    for block, density in ACCELERATOR_CASES:
        side = str(block[0]) if block[0] == block[1] else f"{block[1]}x{block[0]}"
        row = accelerator_case(block, density)
        name = f"{ACCELERATOR_SIZE}_b{side}_d{100 * density:.3g}"
        result[name] = round(row["speedup"], 3)
        errors.append(row["error"])
        print(
            f"{side:10} {row['impl']:7} {row['density']:7.2%} {row['dense_us']:9.1f} "
            f"{row['ours_us']:9.1f} {row['speedup']:8.2f}x  {row['error']:.1e}",
            flush=True,
        )
    print(json.dumps({**result, "error_max": max(errors)}))


def alternatives(n: int, density: float) -> dict[str, Any]:
    """The usual ways to a layer of single elements: speed-ups over dense."""
    pattern = draw(n, n, (1, 1), density)
    weight, full, x, dy = arrays(n, n, pattern)
    mask = jnp.asarray(pattern.to_dense(), jnp.float32)
    matrix = np.zeros((n, n), np.float32)
    sources, outputs = pattern.edge_list()
    matrix[outputs, sources] = np.asarray(weight).ravel()
    bcoo = jax_sparse.BCOO.fromdense(jnp.asarray(matrix))
    bcsr = jax_sparse.BCSR.from_bcoo(bcoo)
    rows = weight.reshape(n, -1)

    def of_coo(data: Any, x: Any, indices: Any) -> Any:
        return jax_sparse.BCOO((data, indices), shape=(n, n)) @ x

    def of_csr(data: Any, x: Any, indices: Any, starts: Any) -> Any:
        return jax_sparse.BCSR((data, indices, starts), shape=(n, n)) @ x

    ways = {
        "ours": (lambda w, x, p: kernels.matmul(w, p, x), weight, pattern),
        "mask": (lambda w, x, mask: (w * mask).T @ x, full, mask),
        "gather": (
            lambda w, x, index: jnp.einsum("ok,okb->ob", w, x[index]),
            rows,
            pattern.sources,
        ),
        "bcoo": (of_coo, bcoo.data, bcoo.indices),
        "bcsr": (of_csr, bcsr.data, bcsr.indices, bcsr.indptr),
    }
    timed = {
        name: gradients(product, dy, w, x, *rest)[2]
        for name, (product, w, *rest) in ways.items()
    }
    times = medians({**dense_layouts(full, x, dy), **timed}, 5)
    dense = min(times[name] for name in times if name.startswith("dense"))
    result = {f"alternative_{name}": dense / times[name] for name in ways}

    csr, host_x = scipy.sparse.csr_matrix(matrix), np.asarray(x)
    forward = jax.jit(lambda w, p, x: kernels.matmul(w, p, x))
    times = medians(
        {
            "ours": lambda: forward(weight, pattern, x),
            "scipy": lambda: csr @ host_x,
        },
        REPEATS.value,
    )
    result["forward_over_scipy_csr"] = times["scipy"] / times["ours"]
    if PEER.value:
        peer = torch_seconds(PEER.value, matrix, host_x)
        result["forward_over_torch_csr"] = peer / times["ours"]
    return result


TORCH = """
import statistics, sys, time, numpy, torch
file = numpy.load(sys.argv[1])
matrix = torch.from_numpy(file["matrix"]).to_sparse_csr()
x = torch.from_numpy(file["x"])
seconds = []
for turn in range(4 + int(sys.argv[2])):
    begin = time.perf_counter()
    matrix @ x
    seconds.append(time.perf_counter() - begin)
print(statistics.median(seconds[4:]))
"""


def torch_seconds(python: str, matrix: np.ndarray, x: np.ndarray) -> float:
    """Median seconds of torch's CSR product, forward."""
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, matrix=matrix, x=x)
        file.flush()
        process = subprocess.run(
            [python, "-W", "ignore", "-c", TORCH, file.name, str(REPEATS.value)],
            capture_output=True,
            text=True,
            check=True,
        )
    return float(process.stdout)


def epochs() -> dict[str, float]:
    """An epoch of MNIST with a network of 784, 4096, 4096 and 10 nodes."""
    if DATA_DIR.value:
        data = datasets.load("mnist", data_dir=DATA_DIR.value)
        train, view = data.train, data.view
    else:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (48000, 28, 28, 1), np.uint8)
        train = datasets.Split(images, rng.integers(0, 10, 48000, np.int32))
        view = datasets.View(
            np.full(1, 128, np.float32), np.full(1, 1 / 64, np.float32)
        )
    dense = MLP(784, (4096, 4096), 10)
    sparsity = (
        Sparsity(78 / 784, (1, 128), "balanced"),
        Sparsity(3 / 32, (128, 128)),
        None,
    )
    networks = {"dense": dense, "ours": MLP(784, (4096, 4096), 10, sparsity=sparsity)}
    train = jax.device_put(train)
    order = trainer.epoch_order(jax.random.key(1), 0, len(train.y))
    runs: dict[str, list[Any]] = {}
    for name, network in networks.items():
        patterns = draw_patterns(jax.random.key(2), network)
        state = trainer.init(jax.random.key(3), network, patterns)
        settings = trainer.Settings(
            np.float32(1e-3), np.float32(0), np.uint32(0), patterns
        )
        rest = (settings, order, train, view)
        program = trainer.train_epoch.lower(state, network, BATCH, *rest).compile()
        runs[name] = [program, state, rest, []]
    for _ in range(3):
        for run in runs.values():
            program, state, rest, seconds = run
            begin = time.perf_counter()
            run[1], loss = program(state, *rest)
            jax.block_until_ready(loss)
            seconds.append(time.perf_counter() - begin)
    times = {name: statistics.median(run[3]) for name, run in runs.items()}
    return {
        "epoch_dense_seconds": times["dense"],
        "epoch_ours_seconds": times["ours"],
        "epoch_784_4096_4096_10": times["dense"] / times["ours"],
        "epoch_density": networks["ours"].density,
    }


def main(argv: Sequence[str]) -> None:
    """Prints a line for each case, then all speed-ups as JSON."""
    del argv
    if CORES.value:  # before JAX starts: it makes one thread for each core it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: CORES.value])
    if jax.default_backend() != "cpu":
        accelerator_main()
        return
    result: dict[str, float] = {"cores": len(os.sched_getaffinity(0))}
    print(f"{'case':20} impl      density  dense ms   ours ms  speed-up  of ideal")
    compile_seconds, extra_mb = [], []
    for name, n_in, n_out, block, density in CASES:
        if ONLY.value not in name:
            continue
        row = case(n_in, n_out, block, density)
        result[name] = row["speedup"]
        compile_seconds.append(row["compile_seconds"])
        extra_mb.append(row["temporary_mb"])
        print(
            f"{name:20} {row['impl']:8} {row['density']:8.2%} {row['dense_ms']:9.2f} "
            f"{row['ours_ms']:9.2f} {row['speedup']:8.2f}x {row['ideal']:8.0%}   "
            f"compile {row['compile_seconds']:.2f} s, "
            f"temporary {row['temporary_mb']:.1f} MB",
            flush=True,
        )
    result["compile_seconds_max"] = max(compile_seconds, default=0)
    result["temporary_mb_max"] = max(extra_mb, default=0)
    if not ONLY.value:
        for density in (0.1, 0.05, 0.02):
            row = alternatives(1024, density)
            print(f"1024, single elements, density {density:.0%}:", row, flush=True)
            result |= {f"{k}_d{100 * density:g}": v for k, v in row.items()}
        result |= epochs()
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    app.run(main)
