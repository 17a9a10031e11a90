"""The configuration schema: what a config file may say, checked before anything heavy is imported.

A config file is Python that defines `get_config(arg)` and returns an `ml_collections.ConfigDict` (or a dict) holding
only what differs from the defaults below. `load_config` completes it, applies the command line's
`--config.key=value`, and answers a misspelt key, a wrong type or an impossible combination with one line.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax.core.config_file import config_function, run_config_file, told_as_theirs
from segjax.core.errors import ConfigError, suggest

CLASS_WEIGHTS = ("none", "auto", "median_frequency", "enet_log")
LOSSES = (
    "bootstrapped",
    "boundary",
    "cross_entropy",
    "cross_entropy_dice",
    "dice",
    "focal",
    "focal_tversky",
    "generalised_dice",
    "lovasz_hinge",
    "lovasz_softmax",
    "ohem",
    "tversky",
)


def option(default: Any, doc: str, *, choices: Sequence[Any] = (), minimum: float | None = None) -> Any:
    """A schema field: its default, what it means, the values it may take."""
    metadata = {"doc": doc, "choices": tuple(choices), "minimum": minimum}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Model:
    name: str = option("unet/small", "architecture[/variant], as `segjax models` lists them")
    options: dict = option({}, "fields of the network that differ from the variant's")


@dataclasses.dataclass(frozen=True)
class Init:
    checkpoint: str | None = option(
        None, "a run's workdir whose variables this one starts from; a resumed run does not"
    )
    which: str = option("best", "its checkpoint: best, last or a step")
    into: str = option("", "path of the submodule that takes them, such as `unary`; default: the whole network")
    skip: tuple[str, ...] = option((), "regexes of paths in this network that stay fresh, such as a head's")
    classes_differ: bool = option(False, "take the head of a checkpoint whose classes have other names")


@dataclasses.dataclass(frozen=True)
class Data:
    name: str = option("scenes", "data set: scenes, camvid, coco, isbi2012, drive, crackforest, folder")
    root: str | None = option(None, "the set's own folder; a set that needs one says so")
    cache: str | None = option(None, "where prepared sets are kept; default $SEGJAX_CACHE or ~/.cache/segjax")
    train_split: str = option("train", "split to train on; `train+val` joins two, `train[:80%]` is a share")
    crop_size: tuple[int, int] = option((128, 128), "(height, width) of a training sample", minimum=1)
    threads: int = option(4, "host threads that decode and crop", minimum=1)
    workers: int = option(0, "host processes; part of a checkpoint's identity; 0 = threads only", minimum=0)
    prefetch: int = option(16, "samples kept ready", minimum=1)
    cache_decoded: bool = option(False, "keep decoded images in memory (small sets)")
    options: dict = option({}, "options of the data set, such as scenes' count, height, width, style, seed")


@dataclasses.dataclass(frozen=True)
class Augment:
    flip: bool = option(True, "mirror left to right with probability 1/2")
    scale: tuple[float, float] = option((1.0, 1.0), "range of the random zoom, log-uniform; 0.5 shows twice the view")
    fit: bool = option(False, "scale 1 fits the image into the crop (large-scale jitter), and shrinking is smooth")
    brightness: float = option(0.0, "largest relative change of brightness", minimum=0)
    contrast: float = option(0.0, "largest relative change of contrast", minimum=0)
    saturation: float = option(0.0, "largest relative change of saturation (three channels)", minimum=0)
    hue: float = option(0.0, "largest rotation of the hue, in turns (three channels)", minimum=0)
    copy_paste: float = option(0.0, "share of images into which objects of another are pasted (instances)", minimum=0)


@dataclasses.dataclass(frozen=True)
class Loss:
    name: str = option("cross_entropy", "loss of segjax.losses", choices=LOSSES)
    options: dict = option({}, "constants of the loss that differ from its defaults, such as ohem's threshold")
    label_smoothing: float = option(0.0, "share of the target spread over all classes", minimum=0)
    class_weights: str | tuple[float, ...] = option(
        "none", "none, auto (= median_frequency), median_frequency, enet_log, or one number a class"
    )
    aux_weight: float = option(0.4, "weight of each auxiliary head", minimum=0)
    border_weight: float = option(0.0, "weight of the border loss, where the network has one: 0.1 for dfn", minimum=0)


@dataclasses.dataclass(frozen=True)
class Optim:
    name: str = option("adamw", "optimiser", choices=("sgd", "adamw", "lamb", "muon"))
    learning_rate: float = option(1e-3, "peak learning rate", minimum=0)
    weight_decay: float = option(1e-4, "decoupled for adamw, lamb and muon, L2 for sgd", minimum=0)
    decay_exclude: tuple[str, ...] = option((), "regexes of parameter paths spared from decay, besides vectors")
    momentum: float = option(0.9, "sgd, muon", minimum=0)
    nesterov: bool = option(False, "sgd, muon")
    b1: float = option(0.9, "adamw, lamb; muon for its vectors", minimum=0)
    b2: float = option(0.999, "adamw, lamb; muon for its vectors", minimum=0)
    eps: float = option(1e-8, "adamw, lamb; muon for its vectors", minimum=0)
    clip_norm: float | None = option(None, "largest global gradient norm", minimum=0)
    multipliers: dict = option({}, "learning-rate factor by regex of the parameter path, first match wins; 0 freezes")


@dataclasses.dataclass(frozen=True)
class Schedule:
    name: str = option("poly", "learning-rate schedule", choices=("poly", "cosine", "step", "constant"))
    warmup_steps: int = option(0, "linear rise from 0", minimum=0)
    power: float = option(0.9, "poly: (1 - step / steps) ** power", minimum=0)
    end: float = option(0.0, "poly, cosine: last value, as a share of the peak", minimum=0)
    boundaries: tuple[float, ...] = option((), "step: shares of the run after which the rate drops")
    factor: float = option(0.1, "step: multiplied at each boundary", minimum=0)


@dataclasses.dataclass(frozen=True)
class Train:
    steps: int | None = option(None, "optimiser steps; this or epochs", minimum=1)
    epochs: float | None = option(None, "passes over the training split; this or steps", minimum=0)
    batch_size: int = option(8, "samples a step, over all devices and hosts", minimum=1)
    accumulate: int = option(1, "micro-batches a step is split into", minimum=1)
    ema: float | None = option(None, "decay of the averaged parameters, which evaluation then uses", minimum=0)
    dtype: str = option("float32", "compute type", choices=("float32", "bfloat16"))
    remat: str = option(
        "none",
        "what the backward pass recomputes: all activations, or those between products (elementwise)",
        choices=("none", "elementwise", "all"),
    )
    cache_features: bool = option(False, "run a frozen encoder once an image, as in evaluation; needs augmentation off")
    log_every: int = option(20, "steps between log lines", minimum=1)
    eval_every: int | None = option(None, "steps between evaluations; default: a tenth of the run", minimum=1)
    stop_on_nan: bool = option(True, "end the run at a non-finite loss instead of going on")


@dataclasses.dataclass(frozen=True)
class CRF:
    """The defaults are those of Krähenbühl and Koltun's example program, which pydensecrf's repeats."""

    enabled: bool = option(False, "refine the network's probabilities over the image before the labels are taken")
    theta_alpha: float = option(80.0, "appearance kernel: standard deviation in pixels")
    theta_beta: float | tuple[float, ...] = option(13.0, "and in units of the stored image; or one number a channel")
    theta_gamma: float = option(3.0, "smoothness kernel: standard deviation in pixels")
    w_bilateral: float = option(10.0, "weight of the appearance kernel", minimum=0)
    w_spatial: float = option(3.0, "weight of the smoothness kernel", minimum=0)
    iterations: int = option(5, "mean-field updates", minimum=0)
    method: str = option("lattice", "of the appearance kernel", choices=("lattice", "exact", "grid", "local"))
    capacity: int | None = option(None, "lattice vertices an image; default: enough for natural images", minimum=1)


@dataclasses.dataclass(frozen=True)
class Eval:
    split: str = option("val", "split scored during training; its best checkpoint is kept")
    final_split: str | None = option(None, "split the best checkpoint is scored on at the end; default: eval.split")
    batch_size: int = option(8, "images a forward pass", minimum=1)
    size: tuple[int, int] | None = option(None, "(height, width) images are padded to; default: the largest", minimum=1)
    scales: tuple[float, ...] = option((1.0,), "the network sees the image at these scales; probabilities averaged")
    flip: bool = option(False, "average with the mirrored image")
    window: tuple[int, int] | None = option(None, "(height, width) of a sliding window", minimum=1)
    overlap: float = option(0.5, "share of a window that the next one covers again", minimum=0)
    blend: str = option(
        "gaussian",
        "weights of overlapping windows; centre cuts each in the middle of its overlap instead",
        choices=("gaussian", "uniform", "centre"),
    )
    void: str = option("ignore", "how void pixels count", choices=("ignore", "union", "drop"))
    boundary: bool = option(True, "boundary F1 too")
    samples: int = option(4, "best and worst samples shown in the report", minimum=0)
    crf: CRF = dataclasses.field(default_factory=CRF)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every: int | None = option(None, "steps between checkpoints; default: at every evaluation", minimum=1)
    best: str = option("miou", "metric whose best checkpoint is kept beside the last")


@dataclasses.dataclass(frozen=True)
class Parallel:
    backend: str = option(
        "jit", "how the step is spread over devices; pmap splits the batch only", choices=("jit", "pmap")
    )
    gradients: str = option(
        "auto",
        "type in which gradients are added over devices; auto: under jit the compiler's choice, else float32",
        choices=("auto", "float32", "bfloat16"),
    )
    data: int = option(-1, "devices along the batch; -1 = the rest")
    spatial: int = option(1, "devices along the image height", minimum=1)
    fsdp: int = option(1, "devices the parameters are split over", minimum=1)
    rules: dict = option({}, "axis split over fsdp, None for none, by regex of the state's path; others by size")
    join_timeout: float = option(300.0, "seconds within which all processes of the run must have joined", minimum=1)
    heartbeat: float = option(30.0, "seconds without a sign of life after which a process is lost", minimum=1)
    hang: float = option(600.0, "seconds in which no process gets further after which the run is ended", minimum=1)


@dataclasses.dataclass(frozen=True)
class Log:
    tensorboard: bool = option(True, "event files in WORKDIR/tensorboard")
    wandb: str | None = option(None, "Weights & Biases project; needs the extra `wandb`")


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = option("run", "the default workdir is runs/NAME")
    seed: int = option(0, "of parameters, sampling and augmentation", minimum=0)
    task: str = option("semantic", "kind of segmentation", choices=("semantic", "instance", "panoptic", "points"))
    model: Model = dataclasses.field(default_factory=Model)
    init: Init = dataclasses.field(default_factory=Init)
    data: Data = dataclasses.field(default_factory=Data)
    augment: Augment = dataclasses.field(default_factory=Augment)
    loss: Loss = dataclasses.field(default_factory=Loss)
    optim: Optim = dataclasses.field(default_factory=Optim)
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    train: Train = dataclasses.field(default_factory=Train)
    eval: Eval = dataclasses.field(default_factory=Eval)
    checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)
    parallel: Parallel = dataclasses.field(default_factory=Parallel)
    log: Log = dataclasses.field(default_factory=Log)

    def __post_init__(self) -> None:
        _check_combinations(self)


def refuse_cached_features(config: Config, who: str) -> None:
    """Raises ConfigError where the config keeps an encoder's features, and `who` only knows batches of images."""
    if config.train.cache_features:
        raise ConfigError(f"config.train.cache_features: {who} takes whole steps only; set it to False.")


def load_config(spec: str, overrides: Mapping[str, str] | None = None, *, adapting: bool = False) -> Config:
    """Reads `FILE.py[:arg]`, applies `key=value` texts of the command line, and checks the result.

    Args:
      adapting: whether the caller goes on with the file's `adapt`, which fits the config to the data. Without it such a
        file is half a config, and refused.

    Raises:
      ConfigError: for a file that is missing or breaks, a misspelt key, a wrong type or an impossible combination.
    """
    record = read_config_file(spec)
    if not adapting and config_function(spec.partition(":")[0], "adapt") is not None:
        raise ConfigError(
            f"--config: {spec} chooses its values from the data when `segjax train` runs; give the file that it then "
            "writes, WORKDIR/config.py."
        )
    data = _group(record, "data")
    options, before = _group(data, "options"), data.get("name", Data.name)
    for key, text in (overrides or {}).items():
        set_text(record, key, text)
    after = _group(record, "data").get("name", before)
    if options and after != before == "scenes" and not any(key.startswith("data.options") for key in overrides or {}):
        raise ConfigError(
            f"config.data.name: {spec} is made for scenes, and {after!r} does not take its options "
            f"({', '.join(options)}); for images of your own take --config=configs/folder.py."
        )
    return from_dict(record)


def read_config_file(spec: str) -> dict[str, Any]:
    """The nested dict that `get_config(arg)` of `FILE.py[:arg]` returns."""
    path, _, arg = spec.partition(":")
    if not Path(path).is_file():
        raise ConfigError(f"--config: no file {path!r}; give the path of a Python file that defines get_config().")
    record = call_config_file(path, "get_config", *([arg] if arg else []))
    if not isinstance(record, dict):
        raise ConfigError(f"--config: get_config() of {path} returned {record!r}; return an ml_collections.ConfigDict.")
    return record


def _group(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A copy of the group `key`; what is no group is for the checks that follow, and an empty one here."""
    found = record.get(key)
    return dict(found) if isinstance(found, Mapping) else {}


def call_config_file(path: str, function: str, *args: Any) -> Any:
    """What `function(*args)` of a config file returns, its ConfigDicts and tuples as dicts and lists.

    Raises:
      ConfigError: for a file that is no Python, has no such function, or raises.
    """
    with told_as_theirs(path):
        result = getattr(run_config_file(path), function)(*args)
        return _plain(list(result) if isinstance(result, Iterator) else result)  # a generator raises only now


def from_dict(record: Mapping[str, Any]) -> Config:
    """A checked Config from a nested dict; keys left out take their defaults."""
    return _build(Config, record, "")


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested dicts of JSON values; `from_dict` reads it back."""
    return _plain(dataclasses.asdict(config))


def set_text(record: dict[str, Any], key: str, text: str) -> None:
    """Sets dotted `key` of a nested dict to the command line's `text`, read by the schema's type."""
    set_value(record, key, _parse(text, _type_of(key), key))


def set_value(record: dict[str, Any], key: str, value: Any) -> None:
    """Sets dotted `key` of a nested dict; ConfigError for a key that the schema does not have."""
    _type_of(key)
    *parents, last = key.split(".")
    for part in parents:
        record = record.setdefault(part, {})
        if not isinstance(record, dict):
            raise ConfigError(
                f"config.{key}: the config file has {record!r} at {part!r}; a group of keys belongs there."
            )
    record[last] = value


def as_text(key: str, value: Any) -> str:
    """What `--config.key=` must say for `value`; ConfigError for a value that no text gives."""
    kind = _type_of(key)
    for text in (value, repr(value)):
        if isinstance(text, str) and _plain(_parse(text, kind, key)) == _plain(value):
            return text
    raise ConfigError(f"config.{key}: {value!r} cannot be given on a command line; take numbers, texts, tuples, dicts.")


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):  # ConfigDict, without importing ml_collections here
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}  # as JSON will have them
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _type_of(key: str) -> Any:
    """The schema's type at a dotted key; below a free-form dict, any literal."""
    kind: Any = Config
    seen: list[str] = []
    for part in key.split("."):
        if kind is dict:
            return Any
        if not dataclasses.is_dataclass(kind):
            raise ConfigError(f"config.{key}: {'.'.join(seen)} is a value, it has no keys below it.")
        hints = _hints(kind)
        seen.append(part)
        if part not in hints:
            raise ConfigError(f"config.{'.'.join(seen)}: no such key.{suggest(part, hints)}")
        kind = hints[part]
    if dataclasses.is_dataclass(kind):
        raise ConfigError(f"config.{key} is a group; set one of its keys: {', '.join(_hints(kind))}.")
    return kind


def _parse(text: str, kind: Any, key: str) -> Any:
    if kind is str or (_is_union(kind) and str in typing.get_args(kind) and not text.startswith(("(", "["))):
        return None if text == "None" and type(None) in typing.get_args(kind) else text
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # a list as a key; too deep for a parser
        return text


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _build(cls: type, record: Any, prefix: str) -> Any:
    if not isinstance(record, Mapping):
        raise ConfigError(f"config.{prefix[:-1]}: {record!r} is not a group of keys.")
    hints = _hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in record:
        if key not in fields:
            raise ConfigError(f"config.{prefix}{key}: no such key.{suggest(str(key), fields)}")
    values = {}
    for key, value in record.items():
        path, kind = f"{prefix}{key}", hints[key]
        if dataclasses.is_dataclass(kind):
            values[key] = _build(kind, value, path + ".")
        else:
            values[key] = _coerce(value, kind, path)
            _check_range(values[key], fields[key].metadata, path)
    return cls(**values)


def _coerce(value: Any, kind: Any, key: str) -> Any:
    """`value` as `kind`, where no information is lost by it."""
    if kind is Any:
        return value
    if _is_union(kind):
        arms = typing.get_args(kind)
        if value is None and type(None) in arms:
            return None
        for arm in arms:
            if arm is not type(None) and _fits(value, arm):
                return _coerce(value, arm, key)
    elif _fits(value, kind):
        if typing.get_origin(kind) is tuple:
            arms = typing.get_args(kind)
            item = [arms[0]] * len(value) if arms[-1] is Ellipsis else arms
            return tuple(_coerce(v, t, key) for v, t in zip(value, item))
        return dict(value) if kind is dict else kind(value)
    raise ConfigError(f"config.{key}: {value!r} is not {_name(kind)}.")


def _fits(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        arms = typing.get_args(kind)
        if not isinstance(value, list | tuple) or (arms[-1] is not Ellipsis and len(value) != len(arms)):
            return False
        return all(_fits(v, arms[0]) for v in value)
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float)
    if kind is int:
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, Mapping if kind is dict else kind)


def _name(kind: Any) -> str:
    if _is_union(kind):
        return " or ".join(_name(arm) for arm in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        arms = typing.get_args(kind)
        if arms[-1] is Ellipsis:
            return f"a tuple of {arms[0].__name__}s"
        return f"a tuple of {len(arms)} {arms[0].__name__}s, such as ({', '.join(['128'] * len(arms))})"
    plain = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", dict: "a dict"}
    return "None" if kind is type(None) else plain.get(kind, str(kind))


def _check_range(value: Any, metadata: Mapping[str, Any], key: str) -> None:
    if metadata["choices"] and value not in metadata["choices"]:
        near = suggest(str(value), map(str, metadata["choices"]))
        raise ConfigError(f"config.{key}: {value!r} is not one of {', '.join(map(str, metadata['choices']))}.{near}")
    if metadata["minimum"] is not None:
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not number >= metadata["minimum"]:
                raise ConfigError(f"config.{key}: {number!r} is below {metadata['minimum']}.")


def _check_combinations(config: Config) -> None:
    """Raises ConfigError for values that are right alone and impossible together."""
    train, augment = config.train, config.augment
    if train.steps is not None and train.epochs is not None:
        raise ConfigError("config.train.steps and config.train.epochs are both set: keep one, set the other to None.")
    if train.batch_size % train.accumulate:
        raise ConfigError(
            f"config.train.batch_size: {train.batch_size} does not split into config.train.accumulate="
            f"{train.accumulate} equal micro-batches."
        )
    if train.cache_features:
        for field in dataclasses.fields(augment):
            still = (1.0, 1.0) if field.name == "scale" else type(getattr(augment, field.name))()
            if getattr(augment, field.name) != still:
                raise ConfigError(
                    f"config.augment.{field.name}: {getattr(augment, field.name)} shows an image anew each time, and "
                    f"config.train.cache_features keeps what was seen first; set it to {still}, or that to False."
                )
    if not 0 < augment.scale[0] <= augment.scale[1]:
        raise ConfigError(f"config.augment.scale: {augment.scale} is not a range (low, high) above 0.")
    if not config.eval.scales or min(config.eval.scales) <= 0:
        raise ConfigError(f"config.eval.scales: {config.eval.scales} needs at least one scale, each above 0.")
    if config.eval.overlap >= 1:
        raise ConfigError(f"config.eval.overlap: {config.eval.overlap} must stay below 1, or windows never advance.")
    for name in ("theta_alpha", "theta_beta", "theta_gamma"):
        value = getattr(config.eval.crf, name)
        if not all(0 < number < math.inf for number in (value if isinstance(value, tuple) else (value,))):
            raise ConfigError(f"config.eval.crf.{name}: {value} is no standard deviation; give a number above 0.")
    if train.ema is not None and train.ema >= 1:
        raise ConfigError(f"config.train.ema: {train.ema} must stay below 1, or the average never moves.")
    if config.loss.label_smoothing >= 1:
        raise ConfigError(f"config.loss.label_smoothing: {config.loss.label_smoothing} must stay below 1.")
    weights = config.loss.class_weights
    if isinstance(weights, str) and weights not in CLASS_WEIGHTS:
        raise ConfigError(f"config.loss.class_weights: {weights!r} is unknown.{suggest(weights, CLASS_WEIGHTS)}")
    if config.schedule.name == "step" and not config.schedule.boundaries:
        raise ConfigError("config.schedule.boundaries: the step schedule needs at least one, such as (0.6, 0.9).")
    if not math.isfinite(config.optim.learning_rate):
        raise ConfigError(f"config.optim.learning_rate: {config.optim.learning_rate} is not finite.")
    if config.parallel.data == 0 or config.parallel.data < -1:
        raise ConfigError(f"config.parallel.data: {config.parallel.data} is neither -1 (the rest) nor a device count.")
