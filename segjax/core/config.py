"""The configuration schema: what a config file may say, checked before anything heavy is imported.

A config file is Python that defines `get_config(arg)` and returns an `ml_collections.ConfigDict` (or a dict) holding
only what differs from the defaults below. `load_config` completes it, applies the command line's
`--config.key=value`, and answers a misspelt key, a wrong type or an impossible combination with one line.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segjax.core.config_file import config_function, run_config_file, told_as_theirs
from segjax.core.errors import ConfigError, suggest
from segjax.core.options import build, hints, option, parse, plain
from segjax.core.registry import TASKS

SEMANTIC = "semantic"


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
    name: str = option("scenes", "scenes, camvid, coco, isbi2012, drive, crackforest, folder, clouds or shapenet_part")
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
class Eval:
    """What every task's group `eval` has."""

    split: str = option("val", "split scored during training; its best checkpoint is kept")
    final_split: str | None = option(None, "split the best checkpoint is scored on at the end; default: eval.split")
    batch_size: int = option(8, "images a forward pass", minimum=1)
    size: tuple[int, int] | None = option(None, "(height, width) images are padded to; default: the largest", minimum=1)
    samples: int = option(4, "best and worst samples shown in the report", minimum=0)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every: int | None = option(None, "steps between checkpoints; default: at every evaluation", minimum=1)
    best: str | None = option(None, "metric whose best checkpoint is kept beside the last; default: the task's own")


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


def best_metric(config: Config) -> str:
    """The metric that ranks checkpoints and variants."""
    return config.checkpoint.best or importlib.import_module(f"segjax.tasks.{config.task}.config").SCORE


def task_groups(task: str) -> dict[str, type]:
    """{name: class} of the groups that a task brings, `segjax/tasks/TASK/config.py`."""
    return importlib.import_module(f"segjax.tasks.{task}.config").GROUPS


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = option("run", "the default workdir is runs/NAME")
    seed: int = option(0, "of parameters, sampling and augmentation", minimum=0)
    task: str = option(SEMANTIC, "kind of segmentation; brings the groups loss, augment and eval", choices=TASKS)
    model: Model = dataclasses.field(default_factory=Model)
    init: Init = dataclasses.field(default_factory=Init)
    data: Data = dataclasses.field(default_factory=Data)
    augment: Any = dataclasses.field(default=None)
    loss: Any = dataclasses.field(default=None)
    optim: Optim = dataclasses.field(default_factory=Optim)
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    train: Train = dataclasses.field(default_factory=Train)
    eval: Any = dataclasses.field(default=None)
    checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)
    parallel: Parallel = dataclasses.field(default_factory=Parallel)
    log: Log = dataclasses.field(default_factory=Log)

    def __post_init__(self) -> None:
        for name, group in task_groups(self.task).items():  # the task's, by default
            if getattr(self, name) is None:
                object.__setattr__(self, name, group())
            if not isinstance(getattr(self, name), group):
                raise ConfigError(f"config.{name}: a group of another task than {self.task!r}; leave it out.")
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
    for key, text in sorted((overrides or {}).items(), key=lambda item: item[0] != "task"):  # which decides the groups
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
        return plain(list(result) if isinstance(result, Iterator) else result)  # a generator raises only now


def from_dict(record: Mapping[str, Any]) -> Config:
    """A checked Config from a nested dict; keys left out take their defaults."""
    return build(Config, record, groups=task_groups(_task_of(record)))


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested dicts of JSON values; `from_dict` reads it back."""
    return plain(dataclasses.asdict(config))


def set_text(record: dict[str, Any], key: str, text: str) -> None:
    """Sets dotted `key` of a nested dict to the command line's `text`, read by the schema's type."""
    set_value(record, key, parse(text, _type_of(key, _task_of(record))))


def set_value(record: dict[str, Any], key: str, value: Any) -> None:
    """Sets dotted `key` of a nested dict; ConfigError for a key that the schema does not have."""
    _type_of(key, _task_of(record))
    *parents, last = key.split(".")
    for part in parents:
        record = record.setdefault(part, {})
        if not isinstance(record, dict):
            raise ConfigError(
                f"config.{key}: the config file has {record!r} at {part!r}; a group of keys belongs there."
            )
    record[last] = value


def as_text(key: str, value: Any, task: str = SEMANTIC) -> str:
    """What `--config.key=` must say for `value` in a task's config; ConfigError for a value that no text gives."""
    kind = _type_of(key, task)
    for text in (value, repr(value)):
        if isinstance(text, str) and plain(parse(text, kind)) == plain(value):
            return text
    raise ConfigError(f"config.{key}: {value!r} cannot be given on a command line; take numbers, texts, tuples, dicts.")


def _task_of(record: Mapping[str, Any]) -> str:
    """The task that a nested dict names; ConfigError for one that does not exist."""
    task = record.get("task", SEMANTIC)
    if task not in TASKS:
        raise ConfigError(f"config.task: {task!r} is not one of {', '.join(TASKS)}.{suggest(str(task), TASKS)}")
    return task


def _type_of(key: str, task: str) -> Any:
    """The schema's type at a dotted key; below a free-form dict, any literal."""
    kind: Any = Config
    seen: list[str] = []
    for part in key.split("."):
        if kind is dict:
            return Any
        if not dataclasses.is_dataclass(kind):
            raise ConfigError(f"config.{key}: {'.'.join(seen)} is a value, it has no keys below it.")
        kinds = {**hints(kind), **(task_groups(task) if kind is Config else {})}
        seen.append(part)
        if part not in kinds:
            raise ConfigError(f"config.{'.'.join(seen)}: no such key.{suggest(part, kinds)}")
        kind = kinds[part]
    if dataclasses.is_dataclass(kind):
        raise ConfigError(f"config.{key} is a group; set one of its keys: {', '.join(hints(kind))}.")
    return kind


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
    if train.ema is not None and train.ema >= 1:
        raise ConfigError(f"config.train.ema: {train.ema} must stay below 1, or the average never moves.")
    if config.schedule.name == "step" and not config.schedule.boundaries:
        raise ConfigError("config.schedule.boundaries: the step schedule needs at least one, such as (0.6, 0.9).")
    if not math.isfinite(config.optim.learning_rate):
        raise ConfigError(f"config.optim.learning_rate: {config.optim.learning_rate} is not finite.")
    if config.parallel.data == 0 or config.parallel.data < -1:
        raise ConfigError(f"config.parallel.data: {config.parallel.data} is neither -1 (the rest) nor a device count.")
