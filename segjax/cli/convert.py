"""Turn other people's weights into a checkpoint that predict, evaluate and config.init take."""

from __future__ import annotations

import argparse

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="file", required=True, metavar="FILE", help="PyTorch, safetensors or npz")
    parser.add_argument("--model", required=True, metavar="NAME", help="architecture[/variant] they are for")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write, as a training run's")
    parser.add_argument("--num-classes", type=int, help="of the network; default: the data set's")
    parser.add_argument("--in-channels", type=int, default=3, help="of the network; default 3")
    parser.add_argument("--map", metavar="NAME", help="of segjax/convert/maps; default: the one that knows the names")
    parser.add_argument("--into", default="", metavar="PATH", help="submodule they are for, such as encoder")
    parser.add_argument(
        "--reinit", action="append", default=[], metavar="REGEX", help="parameters that start fresh; may be repeated"
    )
    parser.add_argument(
        "--adapt-input", action="store_true", help="repeat or average the first kernel for another number of channels"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what starts fresh; default 0")
    parser.epilog = (
        "Every tensor must have a place and every parameter a tensor, or the command lists what is left. "
        "--config.data.name and --config.data.root name the data set whose classes and pixel statistics are kept; "
        "--config.model.options.FIELD changes a field of the network. Nothing in FILE is executed."
    )


def run(args: argparse.Namespace) -> int:
    from segjax.cli.runtime import prepare_jax

    prepare_jax()
    import jax
    import numpy as np

    from segjax.convert.mapping import load_weights
    from segjax.core.config import from_dict, set_text, to_dict
    from segjax.core.errors import ConfigError
    from segjax.core.registry import create_model
    from segjax.core.schema import DatasetInfo
    from segjax.data import palettes
    from segjax.data.dataset import open_dataset
    from segjax.training.checkpoint import Checkpointer
    from segjax.training.state import TrainState

    record = {"model": {"name": args.model}}
    for key, text in args.overrides.items():
        set_text(record, key, text)
    config = from_dict(record)

    # --- What the classes are called and how pixels are normalised.
    if "data" in record:
        info = open_dataset(config.data).info
        if args.num_classes not in (None, info.num_classes):
            raise ConfigError(f"--num-classes: {info.name} has {info.num_classes}, not {args.num_classes}.")
    elif args.num_classes is None:
        raise ConfigError("--num-classes is needed, or --config.data.name and --config.data.root of a data set.")
    else:
        names = tuple(f"class {i}" for i in range(args.num_classes))
        statistics = (
            {} if args.in_channels == 3 else {"mean": (127.5,) * args.in_channels, "std": (58.0,) * args.in_channels}
        )
        info = DatasetInfo("converted", names, palettes.distinct(len(names)), args.in_channels, **statistics)

    model = create_model(config.model.name, info.num_classes, info.channels, **config.model.options)
    variables = load_weights(
        model,
        args.file,
        map=args.map,
        into=args.into,
        reinit=args.reinit,
        adapt_input=args.adapt_input,
        seed=args.seed,
    )
    rest = {name: value for name, value in variables.items() if name != "params"}
    state = TrainState(np.int32(0), variables["params"], rest, opt_state={"none": np.int32(0)})
    checkpointer = Checkpointer(args.out, config=to_dict(config), info=info, resume=False)
    checkpointer.save(0, state, iterator=None)
    checkpointer.close()
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    print(f"{args.model}: {count:,} parameters from {args.file} written to {args.out}")
    return 0
