"""List the networks: name, paper, variants."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="one architecture[/variant]: its fields, parameters and output")
    parser.add_argument("--task", help="only the networks of this task")
    parser.add_argument("--num-classes", type=int, default=19, help="classes the parameters are counted for")


def run(args: argparse.Namespace) -> int:
    from segjax.core.registry import entries

    if args.name:
        return _show(args.name, args.num_classes)
    width = max(len(e.name) for e in entries(args.task))
    for entry in entries(args.task):
        print(f"{entry.name:<{width}}  {entry.paper}")
        print(f"{'':<{width}}  variants: {', '.join(v for v in entry.variants if v != 'test')}")
    return 0


def _show(name: str, num_classes: int) -> int:
    import dataclasses

    from segjax.core.registry import create_model, resolve

    entry, variant = resolve(name)
    import jax
    import jax.numpy as jnp

    model = create_model(name, num_classes)
    side = 2 * model.stride
    images = jax.ShapeDtypeStruct((1, side, side, model.in_channels), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    print(f"{entry.name}/{variant}  {entry.paper}")
    print(f"  parameters  {count:,} at {num_classes} classes, {model.in_channels} channels")
    print(f"  stride      {model.stride}: height and width must be multiples of it")
    for field in dataclasses.fields(model):
        if field.init and field.name not in ("parent", "name"):
            print(f"  {field.name} = {getattr(model, field.name)!r}")
    return 0
