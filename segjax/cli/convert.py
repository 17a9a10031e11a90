"""Turn other people's weights into a checkpoint that predict, evaluate and config.init take."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="file", required=True, metavar="FILE", help="PyTorch, safetensors or npz")
    parser.add_argument("--model", metavar="NAME", help="architecture[/variant] they are for; default: the preset's")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write, as a training run's")
    parser.add_argument("--preset", metavar="NAME", help="a published file of which pixels and classes are known")
    parser.add_argument("--in-channels", type=int, help="of the network; default: the data set's, or 3")
    parser.add_argument("--map", metavar="NAME", help="of segjax/convert/maps; default: the one that knows the names")
    parser.add_argument("--into", default="", metavar="PATH", help="submodule they are for, such as encoder")
    parser.add_argument(
        "--reinit", action="append", default=[], metavar="REGEX", help="parameters that start fresh; may be repeated"
    )
    parser.add_argument(
        "--adapt-input", action="store_true", help="repeat or average the first kernel for another number of channels"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what starts fresh; default 0")
    pixels = parser.add_argument_group("what the network is fed (default: the preset's, or what its family is fed)")
    pixels.add_argument("--input", metavar="NAME", help="one of those of its family, or imagenet, or data (the set's)")
    pixels.add_argument("--mean", metavar="M,M,M", help="subtracted, in units of the stored pixels (0 to 255)")
    pixels.add_argument("--std", metavar="S,S,S", help="divided by, in the same units")
    order = pixels.add_mutually_exclusive_group()
    order.add_argument("--rgb", dest="order", action="store_const", const="rgb", help="mean and std are in RGB order")
    order.add_argument("--bgr", dest="order", action="store_const", const="bgr", help="the first kernel expects BGR")
    pixels.add_argument(
        "--resize",
        metavar="512x1024|0.5|none[,...]",
        help="HEIGHTxWIDTH or a factor, and bilinear, bicubic or nearest, antialias, align_corners",
    )
    classes = parser.add_argument_group("what its outputs mean (default: the preset's classes, or the data set's)")
    classes.add_argument(
        "--classes", metavar="FILE|NAME", help="classes.txt of them; or camvid, cityscapes, voc, ade; or numbered"
    )
    classes.add_argument("--num-classes", type=int, metavar="N", help="how many outputs, void's included")
    classes.add_argument(
        "--void-class", metavar="NAME|N|none", help="the output that means void; N one past the list adds it"
    )
    parser.epilog = (
        "Every tensor must have a place and every parameter a tensor, or the command lists what is left. "
        "--config.data.name and --config.data.root name a data set whose classes are the outputs'; "
        "--config.model.options.FIELD changes a field of the network. Nothing in FILE is executed."
    )


def run(args: argparse.Namespace) -> int:
    from segjax.cli.runtime import prepare_jax

    prepare_jax()
    import jax
    import numpy as np

    from segjax.convert.mapping import fill, matched
    from segjax.convert.presets import find_preset
    from segjax.convert.read import read_weights
    from segjax.core.config import best_metric, from_dict, set_text, to_dict
    from segjax.core.errors import ConfigError
    from segjax.core.lock import owned
    from segjax.core.registry import create_model
    from segjax.core.schema import DatasetInfo
    from segjax.data.dataset import open_dataset
    from segjax.training.checkpoint import Checkpointer
    from segjax.training.state import TrainState

    preset = None if args.preset is None else find_preset(args.preset, args.model)
    if args.model is None and preset is None:
        raise ConfigError("--model is needed, or --preset, which knows its own.")
    record: dict[str, Any] = {"model": {"name": args.model or preset.model}}
    if preset is not None:
        record["eval"] = {"void": preset.void}
    for key, text in args.overrides.items():
        set_text(record, key, text)
    config = from_dict(record)
    data = open_dataset(config.data).info if "data" in record else None
    if data is not None and args.in_channels not in (None, data.channels):
        raise ConfigError(f"--in-channels: {data.name} has {data.channels}, not {args.in_channels}.")

    # --- What the outputs mean, and what the network is fed.
    names, palette, void = _classes(args, preset, data)
    info = DatasetInfo(
        data.name if data is not None else args.preset or "converted",
        names,
        palette,
        channels=data.channels if data is not None else args.in_channels or 3,
        image_dtype="uint8" if data is None else data.image_dtype,
        void_class=void,
    )
    model = create_model(config.model.name, info.num_classes, info.channels, **config.model.options)
    match = matched(model, read_weights(args.file), args.map, args.into)
    fed = _input(args, preset, data, match, info)
    info = dataclasses.replace(info, **fed.fields())

    variables = fill(model, match.tensors, args.file, match.map, args.into, args.reinit, args.adapt_input, args.seed)
    rest = {name: value for name, value in variables.items() if name != "params"}
    state = TrainState(np.int32(0), variables["params"], rest, opt_state={"none": np.int32(0)})
    with owned(args.out):
        checkpointer = Checkpointer(args.out, config=to_dict(config), info=info, best=best_metric(config), resume=False)
        checkpointer.save(0, state, iterator=None)
        checkpointer.close()
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    print(f"{config.model.name}: {count:,} parameters from {args.file} written to {args.out}, by the map {match.map}")
    if match.prefix:
        print(f"names: {match.prefix!r} taken off every one")
    print(f"pixels: {fed}" + (f"; its authors' sizes: {fed.sizes}" if fed.sizes and fed.resize is None else ""))
    void_name = "no output for void" if void is None else f"{names[void]!r} is void"
    print(f"classes: {len(names)}, {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}; {void_name}")
    return 0


def _classes(args: argparse.Namespace, preset: Any, data: Any) -> tuple[tuple[str, ...], Any, int | None]:
    """Names and colours of the outputs, and which of them is void."""
    from segjax.convert.class_lists import CLASS_LISTS
    from segjax.core.errors import ConfigError
    from segjax.data import palettes
    from segjax.data.class_list import parse_class_list

    void: int | None = None
    if args.classes == "numbered":
        if args.num_classes is None:
            raise ConfigError("--classes numbered: --num-classes says how many.")
        names = tuple(f"class {i}" for i in range(args.num_classes))
        palette = palettes.distinct(len(names))
    elif args.classes is not None and args.classes not in CLASS_LISTS:
        names, colours = parse_class_list(args.classes)
        palette = colours or palettes.distinct(len(names))
    elif args.classes is not None or preset is not None:
        rows = preset.classes if args.classes is None else CLASS_LISTS[args.classes]
        void = preset.void_class if args.classes is None else None
        names, palette = tuple(name for name, *_ in rows), tuple(tuple(colour) for _, *colour in rows)
    elif data is not None:
        names, palette = data.classes, data.palette
    else:
        number = "" if args.num_classes is None else "; --classes numbered goes without names"
        raise ConfigError(
            "--classes is needed: FILE with a name a line, camvid, cityscapes, voc or ade; or --preset; or "
            f"--config.data.name and --config.data.root of a data set{number}."
        )
    if args.void_class is not None:
        names, palette, void = _with_void(args.void_class, names, palette)
    if args.num_classes not in (None, len(names)):
        raise ConfigError(
            f"--num-classes: {args.num_classes}, but {len(names)} classes are named ({', '.join(names[:3])}, ...); an "
            f"output that means void is named by --void-class."
        )
    return names, palette, void


def _with_void(text: str, names: tuple[str, ...], palette: Any) -> tuple[tuple[str, ...], Any, int | None]:
    from segjax.core.errors import ConfigError

    if text == "none":
        return names, palette, None
    if text in names:
        return names, palette, names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return names, palette, int(text)
    if text.isdecimal() and int(text) == len(names):
        return (*names, "void"), (*palette, (0, 0, 0)), len(names)
    raise ConfigError(
        f"--void-class: {text!r} is none of the {len(names)} classes, nor their number; {len(names)} adds an output."
    )


def _input(args: argparse.Namespace, preset: Any, data: Any, match: Any, info: Any) -> Any:
    """What the network is fed: the options', the preset's, what the map says of the family; or a one-line error."""
    from segjax.convert.inputs import Input, choose_input
    from segjax.core.errors import ConfigError, WeightsError

    mean, std = (_numbers(name, getattr(args, name), info.channels) for name in ("mean", "std"))
    order = args.order or ("rgb" if info.channels != 3 else None)
    fed, reason = None, None
    if args.input == "data":
        if data is None:
            raise ConfigError("--input data: name the data set by --config.data.name and --config.data.root.")
        fed = Input(data.mean, data.std, data.channel_order, source=f"the data set {data.name}")
    elif args.input is None and preset is not None:
        fed = preset.input
    elif args.input is not None or None in (mean, std, order):
        try:
            fed = choose_input(match.rules.INPUT, match.map, args.input)
        except WeightsError as error:
            if args.input is not None:
                raise
            reason = str(error)
    if fed is not None and args.input != "data":
        wanted = "" if info.image_dtype == "uint8" else f"{info.image_dtype} pixels"
        wanted = f"{info.channels} channels" if len(fed.mean) != info.channels else wanted
        if wanted:
            fed, reason = None, f"what its networks are fed is known of 8-bit RGB, not of {wanted}"
    if fed is None and None in (mean, std, order):
        named = f"--input {'|'.join(match.rules.INPUT)}, " if isinstance(match.rules.INPUT, dict) else ""
        raise ConfigError(
            f"{reason}; say it by {named}--preset NAME, or --mean, --std and --rgb or --bgr"
            f"{' (--input data takes those of the data set)' if data is not None else ''}."
        )
    base = fed or Input(mean, std, order, source="given")
    changed = {"mean": mean, "std": std, "channel_order": args.order}
    changed = {name: value for name, value in changed.items() if value is not None}
    if args.resize is not None:
        changed["resize"] = _resize(args.resize)
    return dataclasses.replace(base, **changed, **({"source": "given"} if changed else {}))


def _numbers(name: str, text: str | None, channels: int) -> tuple[float, ...] | None:
    """`1,2,3`, or one number for all channels."""
    import math

    from segjax.core.errors import ConfigError

    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--{name}: {text!r} is not numbers such as 123.7,116.3,103.5.") from error
    values = values * channels if len(values) == 1 else values
    if len(values) != channels:
        raise ConfigError(f"--{name}: {len(values)} numbers for {channels} channels.")
    if not all(map(math.isfinite, values)) or (name == "std" and min(values) <= 0):
        raise ConfigError(f"--{name}: {text!r}; each is to be {'above 0' if name == 'std' else 'finite'}.")
    return values


def _resize(text: str) -> Any:
    """`512x1024,bilinear,antialias` or `0.5`; `none` shows images at their own size."""
    from segjax.core.errors import ConfigError
    from segjax.core.schema import RESIZE_METHODS, Resize

    if text == "none":
        return None
    size, *extras = text.lower().split(",")
    fields: dict[str, Any] = {}
    try:
        if "x" in size:
            height, width = size.split("x")
            fields["size"] = (int(height), int(width))
        else:
            fields["factor"] = float(size)
    except ValueError as error:
        raise ConfigError(f"--resize: {size!r} is neither HEIGHTxWIDTH, such as 512x1024, nor a factor.") from error
    for extra in extras:
        if extra in RESIZE_METHODS:
            fields["method"] = extra
        elif extra in ("antialias", "align_corners"):
            fields[extra] = True
        else:
            raise ConfigError(f"--resize: {extra!r} is none of {', '.join(RESIZE_METHODS)}, antialias, align_corners.")
    return Resize(**fields)
