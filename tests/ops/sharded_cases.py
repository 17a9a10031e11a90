"""The operations on eight simulated devices, data 2 x spatial 4: run in a process of its own by test_sharded.py, prints
one JSON record."""

from __future__ import annotations

import functools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.ops.adaptive_pool import adaptive_avg_pool, adaptive_max_pool
from segjax.ops.border import border, mirror
from segjax.ops.conv import conv2d
from segjax.ops.formulation import formulations
from segjax.ops.norm import batch_moments, batch_norm
from segjax.ops.pooling import avg_pool, global_avg_pool, max_pool, max_pool_argmax
from segjax.ops.resize import resize
from segjax.ops.space_to_depth import depth_to_space, space_to_depth
from segjax.ops.unpool import max_unpool
from segjax.ops.upconv import conv_transpose2d
from segjax.parallel.mesh import DATA, SPATIAL, make_mesh

BATCH, WIDTH, CHANNELS, WIDE = 4, 24, 8, 128
EVEN = 32  # 8 rows a device
UNEVEN = 18  # 5, 5, 5 and 3 rows a device, and a stride of 2 begins on another row of each

Case = tuple[Callable[..., Any], tuple[int, ...], int]


def _conv(size: int | tuple[int, int], channels: int = CHANNELS, **window: Any) -> Case:
    groups = window.get("groups", 1)
    rows, columns = (size, size) if isinstance(size, int) else size
    return functools.partial(conv2d, **window), (rows, columns, channels // groups, channels), channels


def _by(case: Case, **choice: str) -> Case:
    """The case under other formulations than the table's."""

    def run(x: jax.Array, kernel: jax.Array) -> jax.Array:
        with formulations(**choice):
            return case[0](x, kernel)

    return run, *case[1:]


def _up(size: int, **window: Any) -> Case:
    return functools.partial(conv_transpose2d, **window), (size, size, CHANNELS, 2), CHANNELS


def _op(run: Callable[[jax.Array], jax.Array]) -> Case:
    return lambda x, _: run(x), (1,), CHANNELS


def _scaled(rows: float, columns: float, **how: Any) -> Case:
    return _op(lambda x: resize(x, (int(x.shape[1] * rows), int(x.shape[2] * columns)), **how))


def _normalised(x: jax.Array, weights: jax.Array) -> jax.Array:
    return batch_norm(x, weights[:CHANNELS], weights[CHANNELS:], *batch_moments(x))


def _pyramid(x: jax.Array, bins: int) -> jax.Array:
    return resize(adaptive_avg_pool(x, bins), x.shape[1:3])


CASES: dict[str, Case] = {
    "3x3": _conv(3),
    "3x3 by Winograd": _by(_conv(3), unstrided="winograd", kernel_gradient="winograd"),
    "3x3 stride 2": _conv(3, stride=2),
    "7x7 stride 2": _conv(7, stride=2),
    "1x1": _conv(1),
    "1x1 stride 2": _conv(1, stride=2),
    "2x2 stride 2": _conv(2, stride=2, padding=0),
    "5x1": _conv((5, 1)),
    "valid": _conv(3, padding="valid"),
    "rate 2": _conv(3, rate=2),
    "rate 6": _conv(3, rate=6),
    "rate 12": _conv(3, rate=12),
    "rate 24": _conv(3, rate=24),
    "rate 36": _conv(3, rate=36),
    "rate 12, wide": _conv(3, WIDE, rate=12),
    "depthwise": _conv(3, groups=CHANNELS),
    "depthwise stride 2": _conv(3, groups=CHANNELS, stride=2),
    "depthwise rate 12": _conv(3, groups=CHANNELS, rate=12),
    "grouped": _conv(3, groups=2),
    "grouped rate 12": _conv(3, groups=2, rate=12),
    "transposed 2x2": _up(2),
    "transposed 4x4": _up(4, padding=1),
    "transposed 3x3": _up(3, padding=1, output_padding=1),
    "transposed 8x8 stride 4": _up(8, stride=4, padding=2),
    "max 2x2": _op(max_pool),
    "max 3x3 stride 2": _op(lambda x: max_pool(x, 3, 2, 1)),
    "max 5x5 stride 1": _op(lambda x: max_pool(x, 5, 1, 2)),
    "mean 2x2": _op(avg_pool),
    "mean 3x3": _op(lambda x: avg_pool(x, 3, 1, 1, count_include_pad=False)),
    "argmax, unpool": _op(lambda x: max_unpool(*max_pool_argmax(x), size=x.shape[1:3])),
    "bilinear x2": _scaled(2, 2),
    "bilinear x2, corners": _scaled(2, 2, align_corners=True),
    "bilinear x1.5": _scaled(1.5, 1.5),
    "bilinear / 2": _scaled(0.5, 0.5),
    "bilinear / 2, corners": _scaled(0.5, 0.5, align_corners=True),
    "bicubic / 2, antialias": _scaled(0.5, 1, method="bicubic", antialias=True),
    "nearest x2": _scaled(2, 2, method="nearest"),
    "nearest x1.5": _scaled(1.5, 1.5, method="nearest"),
    "nearest / 2": _scaled(0.5, 0.5, method="nearest"),
    "global mean": _op(global_avg_pool),
    "image pooling": _op(lambda x: resize(global_avg_pool(x), x.shape[1:3])),
    "pyramid 1": _op(lambda x: _pyramid(x, 1)),
    "pyramid 3": _op(lambda x: _pyramid(x, 3)),
    "pyramid 6": _op(lambda x: _pyramid(x, 6)),
    "strip of rows": _op(lambda x: adaptive_avg_pool(x, (None, 1))),
    "strip of columns": _op(lambda x: adaptive_avg_pool(x, (1, None))),
    "adaptive max 3": _op(lambda x: adaptive_max_pool(x, 3)),
    "depth to space": _op(lambda x: depth_to_space(x, 2)),
    "space to depth": _op(lambda x: space_to_depth(x, 2)),
    "space to depth 3": _op(lambda x: space_to_depth(x, 3)),
    "border of zeros": _op(lambda x: border(x, (40, 3), (2, 0))),
    "border cut off": _op(lambda x: border(x, (-9, -1), (-2, 1))),
    "mirror": _op(lambda x: mirror(x, (3, 40), (2, 2))),
    "batch norm": (_normalised, (2 * CHANNELS,), CHANNELS),
}
# The CPU's choices, above, and what other backends take.
NATIVE = ("depthwise", "depthwise stride 2", "depthwise rate 12", "rate 12, wide")


def measure(case: Case, height: int, *, optimised: bool, **choice: str) -> dict[str, Any]:
    """The largest error of value, input gradient and kernel gradient relative to one device, and the most elements that
    one collective of each kind returns to a device, in halves of an image (of the images of one device, all rows)."""
    run, kernel_shape, channels = case
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, height, WIDTH, channels)).astype(np.float32)
    kernel = rng.normal(size=kernel_shape).astype(np.float32)
    with formulations(**choice):
        cotangent = rng.normal(size=jax.eval_shape(run, x, kernel).shape).astype(np.float32)
        one, _ = _gradients(run, make_mesh(devices=jax.devices()[:1]), (x, kernel, cotangent), optimised=False)
        split, program = _gradients(run, make_mesh(spatial=4), (x, kernel, cotangent), optimised=optimised)
    errors = [float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in zip(one, split)]
    moved: dict[str, float] = {}
    for kind, elements in collectives(program):
        if kind == "all-reduce" and elements <= kernel.size:
            continue  # the kernel's gradient
        moved[kind] = max(moved.get(kind, 0), elements / (x.size / 2 / 2))
    return {"errors": errors, "moved": moved}


def _gradients(run: Callable, mesh: jax.sharding.Mesh, arrays: tuple, *, optimised: bool) -> tuple[list, str]:
    """([value, input gradient, kernel gradient] in float64, the compiled program) on a mesh.

    Arguments and results of a program must divide over the devices: rows are padded outside, and cut off inside.
    """
    shards = mesh.shape[SPATIAL]
    heights = [a.shape[1] if a.ndim == 4 else 0 for a in arrays]

    def padded(a: Any) -> Any:
        return jnp.pad(a, ((0, 0), (0, -a.shape[1] % shards), (0, 0), (0, 0))) if a.shape[1] > 1 else a

    def both(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, ...]:
        value, pullback = jax.vjp(run, x[:, : heights[0]], kernel)
        dx, dkernel = pullback(cotangent[:, : heights[2]])
        return padded(value), padded(dx), dkernel

    x, kernel, cotangent = arrays
    x, cotangent = padded(x), padded(cotangent)
    rows = [NamedSharding(mesh, P(DATA, SPATIAL if a.shape[1] > 1 else None)) for a in (x, cotangent)]
    whole = NamedSharding(mesh, P())
    shardings = (rows[0], whole, rows[1])
    jax.config.update("jax_disable_most_optimizations", not optimised)
    with jax.set_mesh(mesh):
        compiled = jax.jit(both, in_shardings=shardings).lower(x, kernel, cotangent).compile()
        value, dx, dkernel = compiled(*jax.device_put((x, kernel, cotangent), shardings))
    results = [value[:, : heights[2]], dx[:, : heights[0]], dkernel]
    return [np.asarray(a, np.float64) for a in results], compiled.as_text()


def collectives(program: str) -> Iterator[tuple[str, int]]:
    """(kind, elements of its largest result) of each collective of a compiled program."""
    kinds = "all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute"
    for results, kind in re.findall(rf"= (.+?) ({kinds})(?:-start)?\(", program):
        shapes = [[int(n) for n in shape.split(",") if n] for shape in re.findall(r"\w\[([\d,]*)\]", results)]
        yield kind, max(math.prod(shape) for shape in shapes)


def main(rows: str) -> None:
    match rows:
        case "even":
            record = {name: measure(case, EVEN, optimised=True, backend="cpu") for name, case in CASES.items()}
        case "uneven":
            record = {name: measure(case, UNEVEN, optimised=False, backend="cpu") for name, case in CASES.items()}
        case "native":
            record = {name: measure(CASES[name], EVEN, optimised=True, backend="tpu") for name in NATIVE}
    print(json.dumps(record))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    sys.exit(main(sys.argv[1]))
