"""Networks with images split by rows over devices: equal to one device, and what is exchanged; docs/scaling.md.

    python benchmarks/sharding.py networks [NAME ...] [--write]     # default: every architecture's test variant
    python benchmarks/sharding.py growth [--write]
    python benchmarks/sharding.py --markdown                        # the tables of docs/scaling.md

`networks`: on eight simulated devices, data 2 x spatial 4, a training forward pass and its gradients in float64, which
tells a wrong program from rounding: the largest differences from one device, relative to the quantity's largest value
(attention takes its softmax in float32); from the compiled program how often rows are sent, and the largest array that
is gathered, as a share of the images that four devices hold together.

`growth`: bytes a device exchanges in a train step, from programs compiled for 8 to 256 simulated devices, and for
images of several sizes. Nothing runs.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys
from typing import Any

RESULT = pathlib.Path(__file__).parent / "results" / "sharding.json"
# 20 rows a device, 5 at stride 4 and 2.5 at stride 8: windows begin at other rows on each, and halos take several hops.
SIZE, CLASSES = (80, 48), 5
DEVICES = (8, 16, 64, 256)
MODEL = "unet/small"


def measure(name: str) -> dict[str, float]:
    """{quantity: difference}, `sent`, `gathered` of one network."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    from segjax.core.registry import create_model
    from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS, CENTER, LOGITS, OFFSET
    from segjax.ops.logits import upsampled
    from segjax.parallel.mesh import make_mesh
    from segjax.parallel.sharding import batch_sharding
    from segjax.planning.collectives import collectives
    from segjax.planning.hlo import parse
    from segjax.training.state import init_variables

    model = create_model(name, CLASSES, dtype=jnp.float64)
    size = SIZE if model.stride <= 16 else (5 * model.stride, 2 * model.stride)
    rng = np.random.default_rng(0)

    def filled(leaf: np.ndarray) -> np.ndarray:
        # A layer that begins at zero would hide what stands before it.
        return np.float64(leaf) if leaf.any() else rng.normal(scale=0.1, size=leaf.shape)

    variables = jax.tree.map(filled, init_variables(model, 0, (*size, 3)))
    images, cotangent = rng.normal(size=(4, *size, 3)), rng.normal(size=(4, *size, CLASSES))

    def without_dropout(call, args, kwargs, context):
        return args[0] if isinstance(context.module, nn.Dropout) else call(*args, **kwargs)

    def loss(params, rest, images, cotangent):
        with nn.intercept_methods(without_dropout):
            out, updated = model.apply({"params": params, **rest}, images, train=True, mutable=list(rest))
        out = upsampled(out)
        total = sum(jnp.mean(logits * cotangent) for logits in (out[LOGITS], *out.get(AUX_LOGITS, ())))
        if BORDER_LOGITS in out:
            total += jnp.mean(out[BORDER_LOGITS] * cotangent[..., :1])
        for key in {CENTER, OFFSET} & out.keys():
            total += jnp.mean(out[key] * cotangent[..., : out[key].shape[-1]])
        return total, (out[LOGITS], updated)

    def run(mesh):
        whole, split = NamedSharding(mesh, P()), batch_sharding(mesh, "image", images.shape)
        rest = {key: value for key, value in variables.items() if key != "params"}
        arguments, shardings = (variables["params"], rest, images, cotangent), (whole, whole, split, split)
        step = jax.jit(jax.grad(loss, argnums=(0, 2), has_aux=True), in_shardings=shardings)
        with jax.set_mesh(mesh):
            compiled = step.lower(*arguments).compile()
            results = compiled(*jax.device_put(arguments, shardings))
        return jax.tree.map(np.asarray, results), compiled.as_text()

    one, _ = run(make_mesh(devices=jax.devices()[:1]))
    mesh = make_mesh(spatial=4)
    split, program = run(mesh)
    found = collectives(parse(program), mesh.shape)
    gathers = [one for one in found if one.kind not in ("all-reduce", "collective-permute")]
    ((grads, dx), (logits, statistics)), ((grads_1, dx_1), (logits_1, statistics_1)) = split, one

    def difference(a: Any, b: Any) -> float:
        pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b)))
        largest = max((np.abs(y).max() for _, y in pairs), default=1.0)
        return float(max((np.abs(x - y).max() for x, y in pairs), default=0.0) / largest)

    return {
        "logits": difference(logits, logits_1),
        "statistics": difference(statistics, statistics_1),
        "parameter gradients": difference(grads, grads_1),
        "image gradient": difference(dx, dx_1),
        "sent": sum(one.kind == "collective-permute" for one in found),
        "gathered": max((math.prod(one.dimensions) for one in gathers), default=0) / (images.size / 2),
    }


def growth() -> dict[str, list[dict[str, Any]]]:
    """{series: programs}, each its mesh, image and bytes by kind and axes; one image a data shard, SGD."""
    runs = [("devices", {"data": n}, (64, 128)) for n in DEVICES]
    runs += [("devices, rows split", {"data": n // 4, "spatial": 4}, (64, 128)) for n in DEVICES]
    runs += [("height", {"data": 2, "spatial": 4}, (height, 128)) for height in (64, 128, 256)]
    runs += [("width", {"data": 2, "spatial": 4}, (64, width)) for width in (64, 128, 256)]
    found: dict[str, list[dict[str, Any]]] = {}
    compiled: dict[tuple, dict[str, Any]] = {}
    for series, axes, size in runs:
        key = (*axes.items(), size)
        if key not in compiled:
            compiled[key] = exchanged(axes, size)
            print(series, json.dumps(compiled[key]), file=sys.stderr, flush=True)
        found.setdefault(series, []).append(compiled[key])
    return found


def exchanged(axes: dict[str, int], size: tuple[int, int]) -> dict[str, Any]:
    """What one device exchanges in a compiled train step of MODEL."""
    import jax
    import jax.numpy as jnp

    from segjax.core.config import from_dict
    from segjax.core.registry import create_model
    from segjax.core.schema import IMAGE, LABEL, VALID
    from segjax.parallel.mesh import make_mesh
    from segjax.parallel.sharding import batch_sharding
    from segjax.planning.collectives import collectives, totals
    from segjax.planning.hlo import parse
    from segjax.tasks.semantic.task import SemanticTask
    from segjax.training.program import make_program

    model, batch = create_model(MODEL, CLASSES), axes["data"]
    config = from_dict({"parallel": axes, "train": {"batch_size": batch}, "optim": {"name": "sgd"}})
    mesh = make_mesh(**axes, devices=jax.devices()[: math.prod(axes.values())])
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x), jax.random.key(0), image)
    shapes = {IMAGE: ((batch, *size, 3), jnp.float32), LABEL: ((batch, *size), jnp.uint8), VALID: ((batch,), jnp.bool_)}
    placed = {
        key: jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh, key, shape))
        for key, (shape, dtype) in shapes.items()
    }
    program = make_program(
        config, model=model, task=SemanticTask(CLASSES), transform=None, variables=variables, mesh=mesh, steps=1
    )
    with program.ambient():
        text = program.step.lower(program.state, placed).compile().as_text()
    return {
        "mesh": dict(mesh.shape),
        "image": list(size),
        "parameter_bytes": sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.state.params)),
        "exchange": totals(collectives(parse(text), mesh.shape)),
    }


def markdown(record: dict[str, Any]) -> str:
    """The tables of docs/scaling.md."""
    lines = ["| network | largest difference | rows sent | largest gather, share of the images |", "|---|---|---|---|"]
    for name, found in record["networks"].items():
        differences = [value for key, value in found.items() if key not in ("sent", "gathered")]
        gathered = f"{found['gathered']:.1%}" if found["gathered"] else "none"
        lines.append(f"| `{name.split('/')[0]}` | {max(differences):.0e} | {found['sent']} times | {gathered} |")
    lines += ["", "| series | mesh | image | all-reduce | of it gradients' | collective-permute | gathers and others |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for series, programs in record["growth"].items():
        for one in programs:
            sums = {"all-reduce": 0, "collective-permute": 0, "other": 0}
            for row in one["exchange"]:
                sums[row["kind"] if row["kind"] in sums else "other"] += row["bytes"]
            mesh = " x ".join(f"{axis} {n}" for axis, n in one["mesh"].items() if n > 1)
            image = "x".join(map(str, one["image"]))
            lines.append(
                f"| {series} | {mesh} | {image} | {sums['all-reduce']:,} | {one['parameter_bytes']:,} | "
                f"{sums['collective-permute']:,} | {sums['other']:,} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("networks", "growth"))
    parser.add_argument("names", nargs="*", help="architecture[/variant]")
    parser.add_argument("--write", action="store_true", help="keep the result in benchmarks/results/sharding.json")
    parser.add_argument("--markdown", action="store_true", help="print the tables")
    args = parser.parse_args()
    record = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if args.markdown:
        print(markdown(record), end="")
        return 0

    import jax

    from segjax.core.registry import entries

    def keep(found: dict[str, Any]) -> None:
        if args.write:
            record[args.what] = dict(sorted((record.get(args.what, {}) | found).items()))
            RESULT.write_text(json.dumps(record, indent=2) + "\n")

    found: dict[str, Any] = {}
    if args.what == "growth":
        jax.config.update("jax_num_cpu_devices", max(DEVICES))
        found = growth()
        keep(found)
    else:
        jax.config.update("jax_num_cpu_devices", 8)
        jax.config.update("jax_enable_x64", True)
        for name in args.names or [f"{entry.name}/test" for entry in entries()]:
            found[name] = measure(name)
            print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
            keep(found)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
