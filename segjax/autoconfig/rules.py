"""How a network is trained on a data set that nobody has tuned for: each choice a rule, each rule with its reason.

The model is nnU-Net (Isensee et al., Nature Methods 18, 2021): a U-Net whose depth follows the crop, a crop as large as
memory allows up to the median image, a batch of at least two, cross entropy plus dice, and a length that follows from
the data and not from how the run goes. It differs where a CPU must be done within minutes: there crop, width and steps
follow from the operations a second. Constants without a source were chosen on the sets of
benchmarks/results/own_data.json.

Sizes are (height, width) in pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator
from typing import Any

import jax.numpy as jnp

from segjax.autoconfig.machine import CORE_FLOPS, Machine
from segjax.autoconfig.work import Work, work
from segjax.core.config import Config
from segjax.core.registry import create_model
from segjax.data.fingerprint import Fingerprint

HELD_OUT = 20  # percent of the training images, where the set has no others to score on
FEW = 5  # images of which none can be spared
VALIDATION = ("val", "valid", "validation", "dev")
UNET = "unet/same"
THIN = 8.0  # pixels; regions below lose their shape on a grid of two pixels
SMALLEST_GRID = 4  # cells along the shorter side at the deepest level: nnU-Net's
CPU_PIXELS, PIXELS = 192 * 192, 512 * 512  # of a crop; nnU-Net's 2D networks mostly see 512x512
CPU_SECONDS = 200.0  # of train steps
CPU_UTILISATION = 0.4  # of the speed of a matrix product, as U-Nets reach it here
CPU_STEPS, STEPS = (100, 4000), (2000, 40000)  # fewest and most
VIEWS = 200.0  # times that each part of the images is seen, beyond which more steps memorise
DICE_CLASSES = 32  # beyond, most classes are absent from a crop, and dice counts them all
RARE = 0.01  # share of the pixels
SMALL_SET, LARGE_SET = 100, 2000  # images that are varied more, and less
MEMORY = 0.5  # share of it that a step may take by an estimate
EVAL_PIXELS = 8 * 512 * 512  # in a forward pass

Choices = Generator[tuple[str, Any, str], Any, None]
"""Yields (dotted key, value, reason) and is sent the value that holds: the rule's, or the user's own."""


def choose(config: Config, data: Fingerprint, machine: Machine) -> Choices:
    """All choices, in an order in which each rule knows what it depends on.

    Args:
      config: the config file's values and the user's; what is not chosen here is read from it.
      data: the data set's fingerprint.
      machine: what the run has.
    """
    images, at_the_end = yield from _splits(data)
    dtype = yield (
        "train.dtype",
        "float32" if machine.is_cpu else "bfloat16",
        "CPUs have no faster type" if machine.is_cpu else "accelerators multiply it fastest; parameters stay float32",
    )
    crop, one = yield from _network(data, machine, dtype)
    batch = yield from _batch(config, data, machine, one, crop, images)
    yield from _augmentation(data, images)
    yield from _loss(data)
    steps = yield from _length(config, data, machine, one, crop, batch, images)
    yield from _evaluation(data, machine, crop, steps, at_the_end)
    yield from _host(data, machine)


def _splits(data: Fingerprint) -> Choices:
    """Which images are trained on and which scored; returns the number of the former, and whether to score at the end
    only, so that nothing is chosen on the test split."""
    left = [name for name in data.splits if name not in re.split(r"\+|\[", data.split)]
    val = next((name for name in VALIDATION if name in left), None)
    test = "test" if "test" in left else None
    share = re.fullmatch(r"([^+[]+)\[:(\d+)%\]", data.split)
    own = "no other images are left: the score is the training images' own and says nothing about new ones"
    train, images, scored, why = data.split, data.images, data.split, own
    if val is not None:
        scored, why = val, f"{data.splits[val]} images, scored along the way; the best checkpoint there is kept"
    elif test is not None:
        scored = test
        why = f"{data.splits[test]} images; there is no val, so nothing is chosen on them: they are scored at the end"
    elif share:
        scored, why = f"{share[1]}[{share[2]}%:]", "the images that the training split leaves out"
    elif left:
        scored, why = left[0], f"{data.splits[left[0]]} images, the only ones besides {data.split}"
    elif data.split in data.splits and images >= FEW:
        kept = f"{100 - HELD_OUT}%"
        train, scored = f"{train}[:{kept}]", f"{train}[{kept}:]"
        images = round(images * (100 - HELD_OUT) / 100)
        why = f"the set has no val or test: {data.images - images} images, drawn once and for all, are held out"
    given = yield "data.train_split", train, f"{images} images"
    if given != train:  # the user's: nothing is held out
        scored, images, why = given, data.images, own
    scored = yield "eval.split", scored, why
    if val is not None and test is not None:
        yield "eval.final_split", test, f"{data.splits[test]} images that nothing is chosen on"
    return images, scored == test


def _network(data: Fingerprint, machine: Machine, dtype: str) -> Choices:
    """Network and crop, which need each other; returns the crop and the work of one."""
    thin = data.thinnest is not None and data.thinnest < THIN
    patch = 2 if machine.is_cpu and not thin and min(data.median) >= 16 * SMALLEST_GRID else 1
    pixels = CPU_PIXELS * patch if machine.is_cpu else PIXELS
    shorter = min(_within(data.median, pixels))
    depth = max(1, min(4, int(math.log2(max(2, shorter / patch / SMALLEST_GRID)))))
    width = 16 if machine.is_cpu and data.info.num_classes <= DICE_CLASSES else 32
    name = yield "model.name", UNET, "nnU-Net's: it trains from scratch on few images, and draws fine borders"
    options: dict[str, Any] = {}
    if name == UNET:
        shown = f"the thinnest class is {data.thinnest:.1f} pixels wide" if data.thinnest else "no class has a border"
        why = [f"{width} channels, doubled {depth} times, since {shorter} pixels can be halved that often"]
        if patch == 2:
            why.append(f"logits for 2x2 pixels at once, which is less work: {shown}")
        elif machine.is_cpu and thin:
            why.append(f"logits pixel by pixel: {shown}")
        chosen = {"base_channels": width, "depth": depth} | ({"patch": patch} if patch > 1 else {})
        options = yield "model.options", chosen, "; ".join(why)
    network = create_model(
        name, num_classes=data.info.num_classes, in_channels=data.info.channels, dtype=jnp.dtype(dtype), **options
    )
    cause = "larger ones leave too few steps to minutes on a CPU" if machine.is_cpu else "nnU-Net's size in two axes"
    crop = _fitted(data.median, pixels, network.stride)
    one = work(network, crop)
    while machine.memory is not None and 2 * one.memory > MEMORY * machine.memory and pixels > 32 * 32:
        pixels, cause = pixels // 2, f"two such parts fit into {machine.memory / 2**30:.1f} GiB"
        crop = _fitted(data.median, pixels, network.stride)
        one = work(network, crop)
    whole = all(side >= median for side, median in zip(crop, data.median))
    shape = f"the median image of {data.median[0]}x{data.median[1]}"
    why = f"{shape}, whole" if whole else f"a part of {shape}; {cause}"
    given = yield "data.crop_size", crop, f"{why}; the network takes multiples of {network.stride}"
    return given, one if given == crop else work(network, given)


def _fitted(median: tuple[int, int], pixels: int, stride: int) -> tuple[int, int]:
    """The crop: the median image, rounded up to multiples of the stride, or a part of it, rounded down."""
    inside = _within(median, pixels)
    up = inside == median
    height, width = (max(1, -(-side // stride) if up else side // stride) * stride for side in inside)
    return height, width


def _within(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """`size` with its longer side cut, down to a square at most, then both sides alike, until it has `pixels`."""
    short, long = sorted(size)
    short = min(short, math.isqrt(pixels))
    long = min(long, pixels // short)
    return (short, long) if size[0] <= size[1] else (long, short)


def _batch(config: Config, data: Fingerprint, machine: Machine, one: Work, crop: Any, images: int) -> Choices:
    """At least two samples on a device, more where memory and data allow; returns their number."""
    devices = max(1, machine.devices // (config.parallel.spatial * config.parallel.fsdp))
    if machine.is_cpu:
        most, why = 4, "on a CPU more steps do more than larger batches"
    else:
        most, why = 16, "as many as keep the device busy"
    parts = images * max(1.0, math.prod(data.median) / math.prod(crop))  # crops that the set holds
    if parts / 20 < most:  # nnU-Net: a batch shows at most a twentieth of the data
        most, why = max(2, int(parts / 20)), f"at most a twentieth of the {parts:.0f} crops that the images hold"
    if machine.memory is not None and MEMORY * machine.memory / one.memory < most:
        most = max(1, int(MEMORY * machine.memory / one.memory))
        why = f"an image takes about {one.memory / 2**30:.1f} GiB of {machine.memory / 2**30:.0f}"
    each = most if machine.is_cpu else 2 ** int(math.log2(most))
    batch = each * devices if not machine.is_cpu else max(1, each // devices) * devices
    batch = yield "train.batch_size", batch, why + (f"; {devices} devices" if devices > 1 else "")
    return batch


def _augmentation(data: Fingerprint, images: int) -> Choices:
    """Zoom, mirror, colours, the stronger the fewer the images."""
    if images < SMALL_SET:
        zoom, colour, why = (0.7, 1.4), 0.25, f"{images} images are few: nnU-Net's range"
    elif images < LARGE_SET:
        zoom, colour, why = (0.8, 1.25), 0.2, f"moderate for {images} images"
    else:
        zoom, colour, why = (0.9, 1.1), 0.1, f"{images} images vary by themselves"
    yield "augment.scale", zoom, why
    if data.info.image_dtype == "float32":
        colour, why = 0.0, "what float values stand for is not known, so they stay"
    yield "augment.brightness", colour, why
    yield "augment.contrast", colour, why
    if data.info.channels != 3 or data.info.image_dtype != "uint8":
        colour, why = 0.0, f"{data.info.channels} channels of {data.info.image_dtype} are no RGB photographs"
    yield "augment.saturation", colour, why


def _loss(data: Fingerprint) -> Choices:
    """Every pixel, and every class whatever its size."""
    classes = data.info.num_classes
    present = [share for share in data.shares if share > 0]
    rarest = min(present, default=1.0)
    if classes > DICE_CLASSES:
        name, why = "cross_entropy", f"of {classes} classes most are absent from a crop, and dice counts them all"
    else:
        name, why = "cross_entropy_dice", "nnU-Net's: dice does not forget small classes"
    yield "loss.name", name, why
    if rarest >= RARE:
        weights, why = "none", f"no class is rare: the smallest has {rarest:.1%} of the pixels"
    elif classes == 2:
        weights, why = "none", f"the rarer class has {rarest:.1%} of the pixels, which dice balances"
    else:
        weights, why = "enet_log", f"the rarest class has {rarest:.2%} of the pixels; these weights stay below 50"
    yield "loss.class_weights", weights, why


def _length(
    config: Config, data: Fingerprint, machine: Machine, one: Work, crop: Any, batch: int, images: int
) -> Choices:
    """Optimiser and steps; returns the steps."""
    name = yield "optim.name", "muon", "as in our other recipes of few steps"
    if name == "muon":
        yield "optim.learning_rate", 2e-2, "muon's updates have the size of the rate, whatever the gradient's"
        yield "optim.momentum", 0.95, "muon's usual"
        yield "optim.nesterov", True, "muon's usual"
        yield "optim.b2", 0.95, "of adamw, which takes the vectors"
        yield "optim.weight_decay", 1e-3, "decoupled"
    views = images * max(1.0, math.prod(data.median) / math.prod(crop))
    useful = VIEWS * views / batch
    fewest, most = CPU_STEPS if machine.is_cpu else STEPS
    steps, why = useful, f"each part of {images} images about {VIEWS:.0f} times"
    if machine.is_cpu:
        flops = one.flops * batch
        speed = CPU_UTILISATION * (machine.flops or CORE_FLOPS)
        affordable = CPU_SECONDS * speed / flops
        if affordable < useful:
            steps = affordable
            why = (
                f"about {CPU_SECONDS / 60:.0f} minutes: {flops / 1e9:.0f} GFLOPs a step, the cores taken to do "
                f"{speed / 1e9:.0f} GFLOP/s"
            )
    if not fewest <= steps <= most:
        why = f"{'at least' if steps < fewest else 'at most'}, {why} would be {steps:.0f}"
        steps = min(max(steps, fewest), most)
    if config.train.epochs is None:
        steps = yield "train.steps", _two_digits(steps), why
    else:
        steps = math.ceil(config.train.epochs * images / batch)
    warmup = max(1, min(1000, steps // 20))
    yield "schedule.name", "cosine", "ends at 0, so that the last steps settle"
    yield "schedule.warmup_steps", warmup, "a twentieth of the steps"
    return steps


def _two_digits(number: float) -> int:
    """Rounded to two significant digits."""
    unit = 10 ** max(0, int(math.log10(number)) - 1)
    return int(round(number / unit) * unit)


def _evaluation(data: Fingerprint, machine: Machine, crop: Any, steps: int, at_the_end: bool) -> Choices:
    """When and how images are scored."""
    every, why = (steps, "once, at the end") if at_the_end else (-(-steps // 4), "four times in the run")
    yield "train.eval_every", every, why
    if at_the_end:
        yield "checkpoint.every", max(1, steps // 4), "an interrupted run does not start anew"
    yield "eval.flip", True, "the mirrored image's probabilities too: steadier, and twice the time"
    height, width = data.largest
    if height * width > EVAL_PIXELS:
        yield "eval.window", crop, f"nnU-Net's sliding window: {height}x{width} is much to see at once"
    batch = max(1, min(8, EVAL_PIXELS // (height * width)))
    batch = -(-batch // machine.devices) * machine.devices if machine.is_cpu else batch * machine.devices
    yield "eval.batch_size", batch, f"images of up to {height}x{width}"
    if data.info.num_classes > DICE_CLASSES:
        yield "eval.boundary", False, f"boundary F1 of {data.info.num_classes} classes takes long"


def _host(data: Fingerprint, machine: Machine) -> Choices:
    """Decoded images stay in memory where they take little of it."""
    values = {"uint8": 1, "uint16": 2, "float32": 4}[data.info.image_dtype] * data.info.channels + 1
    size = sum(data.splits.values()) * math.prod(data.median) * values
    keep = machine.host_memory is not None and size < machine.host_memory / 8
    yield "data.cache_decoded", keep, f"decoded, all images take about {size / 2**20:,.0f} MiB"
